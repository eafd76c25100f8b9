/* System: what all solvers of a layer share. */
#include "system.h"

#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"

enum { CHOLESKY_TRIES = 12 };

void system_close(struct gls_system *system) {
  struct tensor **owned[] = {&system->a, &system->g,      &system->alpha,  &system->product, &system->gradient,
                             &system->u, &system->matrix, &system->factor, &system->y};
  for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
    tensor_release(*owned[i]);
    *owned[i] = NULL;
  }
  memory_delete(system->share.count);
  system->share.count = NULL;
}

bool system_products_are_used(const struct gls_options *options) {
  return options->automatic || options->momentum == 0 || options->trust > 0 || options->graft == GRAFT_SGD;
}

/* ---- parts of the batch ---- */

struct part system_part(const struct gls_system *system, int64_t p) {
  int64_t size = system->matrix->shape.size[1], rows = system->share.rows, parts = system->share.parts;
  if (parts == 1) return (struct part){0, size, 0};
  int64_t first = system->share.first, start = rows * (first + p) / parts, end = rows * (first + p + 1) / parts;
  return (struct part){start - rows * first / parts, end - start, p * size * size};
}

bool system_parts_in_parallel(const struct gls_system *system) {
  return system->parts > 1 && system->parts >= parallel_threads();
}

static double trace_of(const real *a, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (double)a[i * n + i];
  return sum;
}

int system_trace(const struct gls_system *system, double *trace) {
  double sum = 0;
  for (int64_t p = 0; p < system->parts; p++) {
    struct part part = system_part(system, p);
    sum += trace_of(tensor_real(system->matrix) + part.at, part.count);
  }
  if (system->share.dealt) STATUS_TRY(shared_number(system, &sum));
  *trace = sum / (double)system->share.parts;
  return STATUS_OK;
}

/* ---- factor and right-hand sides ---- */

void system_factorise(struct gls_system *system) {
  system->failed = true;
  if (!isfinite(system->lambda)) return;
  if (!(system->lambda > 0)) system->lambda = 1e-30; /* A is zero: any damping gives U = 0 */
  for (int attempt = 0; attempt < CHOLESKY_TRIES && system->failed; attempt++) {
    if (attempt > 0) {
      system->lambda *= 10;
      system->retries++;
    }
    system->failed = false;
    for (int64_t p = 0; p < system->parts && !system->failed; p++) {
      struct part part = system_part(system, p);
      int64_t n = part.count;
      real *out = tensor_real(system->factor) + part.at;
      system_copy_lower(out, tensor_real(system->matrix) + part.at, n, 1, 0);
      for (int64_t i = 0; i < n; i++) out[i * n + i] += (real)system->lambda;
      system->failed = !cholesky(out, n);
    }
  }
}

static int solve_part(const struct gls_system *system, int64_t p, real *b, int64_t columns) {
  struct part part = system_part(system, p);
  return cholesky_solve(tensor_real(system->factor) + part.at, part.count, b + part.start * columns, columns);
}

int system_solve_parts(const struct gls_system *system, real *b, int64_t columns) {
  if (system->share.parts == 1) return deal_solve(system, system->rows, b, columns);
  if (!system_parts_in_parallel(system)) {
    for (int64_t p = 0; p < system->parts; p++) STATUS_TRY(solve_part(system, p, b, columns));
    return STATUS_OK;
  }
  int failures = 0;
#pragma omp parallel for schedule(dynamic) reduction(+ : failures)
  for (int64_t p = 0; p < system->parts; p++) failures += solve_part(system, p, b, columns) != STATUS_OK;
  return failures ? status_error("gls: out of memory for a part of the batch") : STATUS_OK;
}

int system_form_gradient(struct gls_system *system) {
  if (system->gradient) return STATUS_OK;
  struct tensor *weight, *bias = NULL;
  STATUS_TRY(gradient_dense(system->weight, &weight));
  if (system->bias) STATUS_TRY(gradient_dense(system->bias, &bias));
  int64_t d = system->inputs, m = system->outputs;
  system->gradient = system_matrix(system->extended, m);
  if (!system->gradient) return STATUS_ERROR;
  real *value = tensor_real(system->gradient);
  if (tensor_count(weight) != d * m)
    return status_error("gls: a weight of %s does not match its factors, %lld × %lld", shape_text(&weight->shape),
                        (long long)d, (long long)m);
  if (weight->shape.rank <= 2) {
    vector_combine(value, 0, tensor_real(weight), 1, d * m);
  } else { /* a convolution's weight is outputs × inputs */
    struct tensor *flat = tensor_view_shape(weight, &(struct shape){.rank = 2, .size = {m, d}});
    struct tensor *turned = flat ? tensor_transpose(flat, 0, 1) : NULL;
    struct tensor *top = turned ? tensor_narrow(system->gradient, 0, 0, d, 1) : NULL;
    int status = top ? tensor_assign(top, turned) : STATUS_ERROR;
    tensor_release(flat);
    tensor_release(turned);
    tensor_release(top);
    STATUS_TRY(status);
  }
  if (system->bias) memcpy(value + d * m, tensor_real(bias), (size_t)m * sizeof(real));
  return ranks_sum(system->share.ranks, value, system->extended * m);
}

/* ---- matrices ---- */

void system_copy_lower(real *to, const real *from, int64_t n, real scale, real more) {
#pragma omp parallel for schedule(dynamic, 32) if (!omp_in_parallel() && n * n > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j <= i; j++) to[i * n + j] = scale * (from[i * n + j] + more);
}

int system_quadratic_form(struct tensor *k, const struct tensor *g, double *form) {
  int64_t rows = g->shape.size[0], columns = g->shape.size[1];
  struct tensor *product = system_matrix(rows, columns);
  if (!product) return STATUS_ERROR;
  real *value = tensor_real(k);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = i + 1; j < rows; j++) value[i * rows + j] = value[j * rows + i];
  gemm(false, false, rows, columns, rows, 1, value, rows, tensor_real(g), columns, 0, tensor_real(product), columns);
  *form = system_dot(g, product);
  tensor_release(product);
  return STATUS_OK;
}

void system_add_rows(real *to, double scale, const struct tensor *x, const real *weight, int64_t stride) {
  enum { BLOCK = 256 };
  int64_t rows = x->shape.size[0], m = x->shape.size[1];
  const real *value = tensor_real(x);
#pragma omp parallel for schedule(static) if (rows * m > PARALLEL_THRESHOLD)
  for (int64_t start = 0; start < m; start += BLOCK) {
    int64_t count = min(BLOCK, m - start);
    for (int64_t i = 0; i < rows; i++) {
      real times = (real)scale * (weight ? weight[i * stride] : 1);
      for (int64_t j = 0; j < count; j++) to[start + j] += times * value[i * m + start + j];
    }
  }
}
