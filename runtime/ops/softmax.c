/* Softmax: softmax, log-softmax and logsumexp along one dimension.

   Every kernel sees one row of neighbours; along another dimension than the last they are brought together first.
   Rows are shifted by their largest element, so that no exponential overflows. Forward, vjp and jvp of an op stand
   together. */
#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/vector_math.h"
#include "compose.h"
#include "fold.h"

enum { BLOCK = 4096 }; /* reals added as reals; blocks are added in double */

/* ---- one row ---- */

static real row_highest(const real *x, int64_t n) { return (real)fold_span(FOLD_HIGHEST, x, n, 0); }

/* Σ exp(x − shift) */
static double row_sum_exponentials(const real *x, real shift, int64_t n) {
  double total = 0;
  for (int64_t start = 0; start < n; start += BLOCK) {
    int64_t end = min(n, start + BLOCK);
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = start; i < end; i++) sum += exp(x[i] - shift);
    total += sum;
  }
  return total;
}

/* The same, leaving the exponentials in out. */
static double row_exponentials(real *restrict out, const real *restrict x, real shift, int64_t n) {
  double total = 0;
  for (int64_t start = 0; start < n; start += BLOCK) {
    int64_t end = min(n, start + BLOCK);
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = start; i < end; i++) {
      real e = exp(x[i] - shift);
      out[i] = e;
      sum += e;
    }
    total += sum;
  }
  return total;
}

static double row_dot(const real *a, const real *b, int64_t n) {
  double total = 0;
  for (int64_t start = 0; start < n; start += BLOCK) {
    int64_t end = min(n, start + BLOCK);
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = start; i < end; i++) sum += a[i] * b[i];
    total += sum;
  }
  return total;
}

static double row_sum(const real *x, int64_t n) {
  double total = 0;
  for (int64_t start = 0; start < n; start += BLOCK) total += fold_span(FOLD_SUM, x + start, min(BLOCK, n - start), 0);
  return total;
}

/* A kernel: out and three operands at the same row, each n wide or 1. */
typedef void row_kernel(real *restrict out, const real *restrict a, const real *restrict b, const real *restrict c,
                        int64_t n);

/* y = exp(x) / Σ exp(x) */
static void softmax_row(real *restrict y, const real *restrict x, const real *restrict b, const real *restrict c,
                        int64_t n) {
  (void)b, (void)c;
  double total = row_exponentials(y, x, row_highest(x, n), n);
  real scale = (real)(1 / total);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] *= scale;
}

/* The Jacobian diag(y) − y yᵀ is symmetric: vjp and jvp are out = y (d − Σ d y). */
static void softmax_slope_row(real *restrict out, const real *restrict y, const real *restrict d,
                              const real *restrict c, int64_t n) {
  (void)c;
  real mean = (real)row_dot(d, y, n);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) out[i] = y[i] * (d[i] - mean);
}

/* y = x − log Σ exp(x) */
static void log_softmax_row(real *restrict y, const real *restrict x, const real *restrict b, const real *restrict c,
                            int64_t n) {
  (void)b, (void)c;
  real highest = row_highest(x, n);
  real logarithm = (real)log(row_sum_exponentials(x, highest, n));
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = (x[i] - highest) - logarithm;
}

/* vjp: out = g − exp(y) Σ g */
static void log_softmax_vjp_row(real *restrict out, const real *restrict y, const real *restrict g,
                                const real *restrict c, int64_t n) {
  (void)c;
  real sum = (real)row_sum(g, n);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) out[i] = g[i] - exp(y[i]) * sum;
}

/* jvp: out = t − Σ exp(y) t */
static void log_softmax_jvp_row(real *restrict out, const real *restrict y, const real *restrict t,
                                const real *restrict c, int64_t n) {
  (void)c;
  row_exponentials(out, y, 0, n);
  real mean = (real)row_dot(out, t, n);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) out[i] = t[i] - mean;
}

/* An infinite extreme is no shift: exp(−inf) = 0 and exp(inf) = inf are right as they are. */
static real finite_shift(real shift) { return isinf(shift) ? 0 : shift; }

/* y[0] = log Σ exp(x) */
static void logsumexp_row(real *restrict y, const real *restrict x, const real *restrict b, const real *restrict c,
                          int64_t n) {
  (void)b, (void)c;
  real shift = finite_shift(row_highest(x, n));
  y[0] = (real)log(row_sum_exponentials(x, shift, n)) + shift;
}

/* vjp: out = g[0] exp(x − y[0]), 0 where g[0] is 0. An infinite y is of an infinite x, beside which others are
   nothing. */
static void logsumexp_vjp_row(real *restrict out, const real *restrict x, const real *restrict y,
                              const real *restrict g, int64_t n) {
  real shift = y[0] < 0 ? finite_shift(y[0]) : y[0], factor = g[0];
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    real product = factor * exp(x[i] - shift);
    out[i] = factor == 0 ? 0 : product;
  }
}

/* jvp: out[0] = Σ exp(x − y[0]) t */
static void logsumexp_jvp_row(real *restrict out, const real *restrict x, const real *restrict y,
                              const real *restrict t, int64_t n) {
  real shift = finite_shift(y[0]);
  double total = 0;
  for (int64_t start = 0; start < n; start += BLOCK) {
    int64_t end = min(n, start + BLOCK);
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = start; i < end; i++) sum += exp(x[i] - shift) * t[i];
    total += sum;
  }
  out[0] = (real)total;
}

/* ---- all rows ---- */

enum { PANEL = 16 }; /* columns brought together at once */

struct operands {
  row_kernel *kernel;
  int count;
  int64_t n, inner; /* elements in a row, and their distance */
  real *out;
  const real *in[3]; /* those that are absent repeat the first */
  int64_t out_width, width[3];
};

/* Rows first..first+columns-1 of one outer index, which lie side by side in memory: copied to scratch and back. */
static void apply_panel(const struct operands *all, real *scratch, int64_t outer, int64_t first, int64_t columns) {
  real *part[3], *result = scratch + 3 * PANEL * all->n;
  for (int i = 0; i < 3; i++) {
    part[i] = scratch + (i < all->count ? i : 0) * PANEL * all->n;
    const real *from = all->in[i] + outer * all->width[i] * all->inner + first;
    for (int64_t j = 0; i < all->count && j < all->width[i]; j++)
      for (int64_t c = 0; c < columns; c++) part[i][c * all->width[i] + j] = from[j * all->inner + c];
  }
  for (int64_t c = 0; c < columns; c++)
    all->kernel(result + c * all->out_width, part[0] + c * all->width[0], part[1] + c * all->width[1],
                part[2] + c * all->width[2], all->n);
  real *to = all->out + outer * all->out_width * all->inner + first;
  for (int64_t j = 0; j < all->out_width; j++)
    for (int64_t c = 0; c < columns; c++) to[j * all->inner + c] = result[c * all->out_width + j];
}

static int apply_operands(const struct operands *all, int64_t rows) {
  bool many = rows * all->n > PARALLEL_THRESHOLD / 4;
  if (all->inner == 1) {
#pragma omp parallel for schedule(static) if (many)
    for (int64_t r = 0; r < rows; r++)
      all->kernel(all->out + r * all->out_width, all->in[0] + r * all->width[0], all->in[1] + r * all->width[1],
                  all->in[2] + r * all->width[2], all->n);
    return STATUS_OK;
  }
  int64_t outer = rows / all->inner, panels = ceil_div(all->inner, PANEL), space = 4 * PANEL * all->n;
  real *scratch = memory_acquire((size_t)(parallel_threads() * space) * sizeof *scratch);
  if (!scratch) return STATUS_ERROR;
#pragma omp parallel for collapse(2) schedule(static) if (many)
  for (int64_t o = 0; o < outer; o++)
    for (int64_t p = 0; p < panels; p++)
      apply_panel(all, scratch + omp_get_thread_num() * space, o, p * PANEL, min(PANEL, all->inner - p * PANEL));
  memory_release(scratch);
  return STATUS_OK;
}

/* out (contiguous) = kernel over the rows along the dimension of operands, all of one rank, n or 1 wide there. */
static int apply(row_kernel *kernel, int dimension, int count, struct tensor *const *operand, struct tensor *out) {
  int64_t n = operand[0]->shape.size[dimension], elements = tensor_count(operand[0]);
  if (elements == 0) return STATUS_OK;
  struct operands all = {kernel, count, n, 1, tensor_real(out), {NULL}, out->shape.size[dimension], {0}};
  for (int i = dimension + 1; i < out->shape.rank; i++) all.inner *= out->shape.size[i];
  struct tensor *rows[3] = {NULL, NULL, NULL};
  int status = STATUS_OK;
  for (int i = 0; i < 3 && status == STATUS_OK; i++) {
    int from = i < count ? i : 0;
    if (i < count) rows[i] = tensor_contiguous(operand[i]);
    if (!rows[from]) {
      status = STATUS_ERROR;
    } else {
      all.in[i] = tensor_real(rows[from]);
      all.width[i] = operand[from]->shape.size[dimension];
    }
  }
  if (status == STATUS_OK) status = apply_operands(&all, elements / n);
  for (int i = 0; i < count; i++) tensor_release(rows[i]);
  return status;
}

/* *result = new tensor of the shape given, from the kernel. */
static int apply_new(row_kernel *kernel, int dimension, int count, struct tensor *const *operand,
                     const struct shape *shape, struct tensor **result) {
  struct tensor *out = tensor_new(TYPE_REAL, shape);
  return op_give_if(out ? apply(kernel, dimension, count, operand, out) : STATUS_ERROR, out, result);
}

/* ---- softmax, log_softmax ---- */

static int softmax_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  int dimension;
  *shape = call->input[0]->shape;
  return op_dimension(call, &dimension);
}

static int forward_rows(struct op_call *call, row_kernel *kernel) {
  int dimension;
  STATUS_TRY(op_dimension(call, &dimension));
  return apply(kernel, dimension, 1, call->input, call->output);
}

/* A derivative that reads the output and one change d. */
static int output_slope(const struct op_call *call, row_kernel *kernel, struct tensor *d, struct tensor **result) {
  int dimension;
  STATUS_TRY(op_dimension(call, &dimension));
  return apply_new(kernel, dimension, 2, (struct tensor *[]){call->output, d}, &d->shape, result);
}

static int softmax_forward(struct op_call *call) { return forward_rows(call, softmax_row); }

static int softmax_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                       struct tensor **result) {
  return needed[0] ? output_slope(call, softmax_slope_row, gradient, result) : STATUS_OK;
}

static int softmax_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return output_slope(call, softmax_slope_row, tangent[0], result);
}

static int log_softmax_forward(struct op_call *call) { return forward_rows(call, log_softmax_row); }

static int log_softmax_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                           struct tensor **result) {
  return needed[0] ? output_slope(call, log_softmax_vjp_row, gradient, result) : STATUS_OK;
}

static int log_softmax_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return output_slope(call, log_softmax_jvp_row, tangent[0], result);
}

/* ---- logsumexp ---- */

static int logsumexp_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  int dimension;
  *shape = call->input[0]->shape;
  STATUS_TRY(op_dimension(call, &dimension));
  shape->size[dimension] = 1;
  if (call->value[1].list[0]) return STATUS_OK;
  shape->rank--;
  for (int i = dimension; i < shape->rank; i++) shape->size[i] = shape->size[i + 1];
  return STATUS_OK;
}

/* t, of the output's shape, with the dimension present in size 1. */
static struct tensor *with_dimension(struct tensor *t, const struct shape *input, int dimension) {
  struct shape shape = *input;
  shape.size[dimension] = 1;
  return tensor_view_shape(t, &shape);
}

/* The sum over no elements: log 0. */
static int logsumexp_forward(struct op_call *call) {
  int dimension;
  STATUS_TRY(op_dimension(call, &dimension));
  if (tensor_count(call->input[0]) == 0) return tensor_fill(call->output, -INFINITY);
  struct tensor *out = with_dimension(call->output, &call->input[0]->shape, dimension);
  int status = out ? apply(logsumexp_row, dimension, 1, call->input, out) : STATUS_ERROR;
  tensor_release(out);
  return status;
}

static int logsumexp_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                         struct tensor **result) {
  if (!needed[0]) return STATUS_OK;
  int dimension;
  STATUS_TRY(op_dimension(call, &dimension));
  const struct shape *shape = &call->input[0]->shape;
  struct tensor *y = with_dimension(call->output, shape, dimension), *g = with_dimension(gradient, shape, dimension);
  int status = STATUS_ERROR;
  if (y && g)
    status = apply_new(logsumexp_vjp_row, dimension, 3, (struct tensor *[]){call->input[0], y, g}, shape, result);
  tensor_release(y);
  tensor_release(g);
  return status;
}

static int logsumexp_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  int dimension;
  STATUS_TRY(op_dimension(call, &dimension));
  struct tensor *output = tensor_zeros(TYPE_REAL, &call->output->shape), *out = NULL, *y = NULL;
  int status = STATUS_ERROR;
  if (output) {
    y = with_dimension(call->output, &call->input[0]->shape, dimension);
    out = with_dimension(output, &call->input[0]->shape, dimension);
  }
  if (y && out)
    status = apply(logsumexp_jvp_row, dimension, 3, (struct tensor *[]){call->input[0], y, tangent[0]}, out);
  tensor_release(y);
  tensor_release(out);
  if (status == STATUS_OK)
    *result = output;
  else
    tensor_release(output);
  return status;
}

/* ---- rows ---- */

static const char *const softmax_samples[] = {"5",   "4x5", "4x5 dimension=1", "2x3x4 dimension=2", "4x1", "0x3",
                                              "3x0", NULL};
static const char *const logsumexp_samples[] = {"5",   "4x5", "4x5 dimension=1", "2x3x4 dimension=2 keep=1",
                                                "4x1", "0x3", "3x0 dimension=1", NULL};

const struct op softmax_ops[] = {
    OP("softmax", "exp(x) divided by its sum along the dimension", softmax_samples,
       PARAMETERS(TENSOR("x"), DEFAULT("dimension", OP_DIMENSION, -1)), OP_SAVES_OUTPUT, softmax_shape, softmax_forward,
       softmax_vjp, softmax_jvp, .graph = softmax_graph, .batch_inputs = 1, .rowwise = op_later_dimension),
    OP("log_softmax", "logarithm of softmax along the dimension", softmax_samples,
       PARAMETERS(TENSOR("x"), DEFAULT("dimension", OP_DIMENSION, -1)), OP_SAVES_OUTPUT, softmax_shape,
       log_softmax_forward, log_softmax_vjp, log_softmax_jvp, .graph = log_softmax_graph, .batch_inputs = 1,
       .rowwise = op_later_dimension),
    OP("logsumexp", "logarithm of the sum of exp(x) along the dimension; -inf over no elements", logsumexp_samples,
       PARAMETERS(TENSOR("x"), DEFAULT("dimension", OP_DIMENSION, -1), DEFAULT("keep", OP_FLAG, 0)),
       OP_SAVES_INPUTS | OP_SAVES_OUTPUT, logsumexp_shape, logsumexp_forward, logsumexp_vjp, logsumexp_jvp,
       .graph = logsumexp_graph, .batch_inputs = 1, .rowwise = op_later_dimension),
    {.name = NULL}};
