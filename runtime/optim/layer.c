/* Layer: the dual and the primal system of one affine layer, and three ways from it to the direction. With n rows in
   the batch, r in A (those of the batch or of a window), d inputs and m outputs; flops beyond the weights' gradient's
   own 2ndm, which the last product of each stands for, or costs:

   dual      K = AAᵀ/n, α = (K + λI)⁻¹ G, U = Aᵀα:            r²d for K, r³/3, 2r²m,              2rdm
     U = Yᵀ G,  Y = (K + λI)⁻¹ A, where A U is of no use:     r²d for K, r³/3, 2r²d,              2rdm
   primal    S = AᵀA/n, U = (S + λI)⁻¹ (AᵀG):                 rd² for S, d³/3, 2d²m,              2ndm
   by rows   Y = A (S + λI)⁻¹ of the batch's rows, U = Yᵀ G:  rd² for S, d³/3, 2d²n, 2n²(d + m),  2ndm
     from K of a window (window.c):                           2nrd for K, r³/3, r²n, 2nrd, 2n²m,  2ndm

   Dual and by rows U stays a product of factors, which is formed in the weights. A batch may be solved in parts: U is
   then the mean of what its parts, each a batch of its own, would give; r is the rows of one, α and Y go part by part. */
#include "layer.h"

#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/vector.h"

enum { CHOLESKY_TRIES = 12 };
/* Patches that stand for all, where the caller leaves it to us. */
enum { PATCHES_AN_IMAGE = 5, PATCHES_LEAST = 128, PATCHES_MOST = 512 };
/* Woodbury's identity takes the difference of two numbers of which the smaller is about ρ/d of the larger: with less
   damping than this it is left, where there is a choice. */
static const double WOODBURY_DAMPING = sizeof(real) == 8 ? 0 : 1e-3;

void layer_close(struct gls_system *system) {
  struct tensor **owned[] = {&system->a, &system->g,      &system->alpha,  &system->product, &system->gradient,
                             &system->u, &system->matrix, &system->factor, &system->y};
  for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
    tensor_release(*owned[i]);
    *owned[i] = NULL;
  }
}

static const struct factor *next_use(const struct gls_system *system, int *i) {
  const struct gradient *gradient = system->weight->gradient;
  while (*i < gradient->factor_count) {
    const struct factor *factor = &gradient->factor[(*i)++];
    if (factor->input == 1 && !factor->node->released) return factor;
  }
  return NULL;
}

static struct tensor *bias_of_call(const struct op_call *call) { return call->input_count > 2 ? call->input[2] : NULL; }

int layer_open(struct gls_system *system, struct tensor *weight, struct tensor *const *parameter, int count,
               bool *is_layer) {
  *is_layer = false;
  system->weight = weight;
  if (!weight->gradient) return STATUS_OK;
  int i = 0, uses = 0, bias_uses = 0;
  const struct factor *use;
  struct tensor *bias = NULL;
  bool one_bias = true;
  while ((use = next_use(system, &i))) {
    const struct op_call *call = &use->node->call;
    if (call->op->has_factors && !call->op->has_factors(call)) return STATUS_OK;
    struct tensor *here = bias_of_call(call);
    if (uses > 0 && here != bias) one_bias = false;
    bias = here;
    uses++;
  }
  if (uses == 0) return STATUS_OK;
  bool listed = false;
  for (int k = 0; k < count && bias; k++) listed = listed || parameter[k] == bias;
  if (bias && bias->gradient)
    for (int k = 0; k < bias->gradient->factor_count; k++) bias_uses += bias->gradient->factor[k].input == 2;
  /* A bias is stepped with its weight when it serves the same uses and nothing else. */
  if (one_bias && listed && bias->gradient && bias_uses == uses && !bias->gradient->dense) system->bias = bias;
  *is_layer = true;
  return STATUS_OK;
}

/* ---- gathering A and G ---- */

static bool all_direct(const struct gls_system *system) {
  int i = 0;
  const struct factor *use;
  while ((use = next_use(system, &i)))
    if (!(use->node->call.op->flags & OP_DIRECT_FACTORS)) return false;
  return true;
}

/* count rows of 0 … rows − 1, one from each of count strips of equal length, at a random place in it. */
static int64_t *draw_rows(int64_t rows, int64_t count) {
  int64_t *row = memory_new((size_t)count, sizeof *row);
  struct random_stream stream = random_next_stream();
  for (int64_t i = 0; row && i < count; i++) {
    uint32_t word[4];
    random_block(stream, (uint64_t)i, word);
    int64_t start = i * rows / count, end = (i + 1) * rows / count;
    row[i] = start + (int64_t)(word[0] % (uint64_t)(end - start));
  }
  return row;
}

/* Factors of one use; where A is made at a cost and has more than limit rows, limit of them and no G. */
static int factors_of_use(const struct factor *use, int64_t limit, struct factors *f, double *scale) {
  const struct op_call *call = &use->node->call;
  *scale = 1;
  if (limit < 0) {
    limit = parallel_minimum(PATCHES_AN_IMAGE * call->output->shape.size[0], PATCHES_MOST);
    if (limit < PATCHES_LEAST) limit = PATCHES_LEAST;
  }
  const struct tensor *weight = call->input[1];
  int64_t outputs = weight->shape.size[0], rows = outputs > 0 ? tensor_count(call->output) / outputs : 0;
  if (!call->op->factor_rows || limit <= 0 || rows <= limit) return call->op->factors(call, use->gradient, f);
  int64_t *row = draw_rows(rows, limit);
  if (!row) return STATUS_ERROR;
  *f = (struct factors){.rows = limit, .inputs = tensor_count(weight) / outputs, .outputs = outputs};
  int status = call->op->factor_rows(call, row, limit, &f->a);
  memory_delete(row);
  *scale = (double)rows / (double)limit;
  return status;
}

static struct tensor *stack(struct tensor *top, struct tensor *below) {
  struct shape shape = shape_of(2, top->shape.size[0] + below->shape.size[0], top->shape.size[1]);
  struct tensor *both = tensor_new(TYPE_REAL, &shape);
  if (!both) return NULL;
  int64_t first = tensor_count(top);
  memcpy(tensor_real(both), tensor_real(top), (size_t)first * sizeof(real));
  memcpy(tensor_real(both) + first, tensor_real(below), (size_t)tensor_count(below) * sizeof(real));
  return both;
}

/* *slot := *slot over more, which may be NULL; takes over more. */
static int append(struct tensor **slot, struct tensor *more) {
  if (!more) return STATUS_OK;
  struct tensor *both = *slot ? stack(*slot, more) : tensor_retain(more);
  tensor_release(*slot);
  tensor_release(more);
  *slot = both;
  return both ? STATUS_OK : STATUS_ERROR;
}

/* All uses stacked: A and G, and by how much AᵀA has to be multiplied to stand for all rows. */
static int gather(struct gls_system *system, const struct gls_options *options, double *scale) {
  int i = 0;
  const struct factor *use;
  double used = 0, total = 0;
  while ((use = next_use(system, &i))) {
    struct factors f = {0};
    double this_scale;
    STATUS_TRY(factors_of_use(use, options->statistics_rows, &f, &this_scale));
    int64_t rows = f.rows;
    system->inputs = f.inputs;
    system->outputs = f.outputs;
    int status = append(&system->a, f.a);
    if (status == STATUS_OK)
      status = append(&system->g, f.g);
    else
      tensor_release(f.g);
    STATUS_TRY(status);
    used += (double)rows;
    total += (double)rows * this_scale;
  }
  system->rows = system->batch_rows = (int64_t)(total + 0.5);
  system->extended = system->inputs + (system->bias ? 1 : 0);
  *scale = used > 0 ? total / used : 1;
  return STATUS_OK;
}

/* ---- solving ---- */

static struct tensor *matrix(int64_t rows, int64_t columns) {
  struct shape shape = shape_of(2, rows, columns);
  return tensor_new(TYPE_REAL, &shape);
}

static double trace_of(const real *a, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (double)a[i * n + i];
  return sum;
}

/* Lower triangle of to = scale · (from + more), n × n. */
static void copy_lower(real *to, const real *from, int64_t n, real scale, real more) {
#pragma omp parallel for schedule(dynamic, 32) if (!omp_in_parallel() && n * n > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j <= i; j++) to[i * n + j] = scale * (from[i * n + j] + more);
}

/* Rows of the batch that are solved together; their matrix and factor begin at `at` of the layer's. */
struct part {
  int64_t start, count, at;
};

static struct part part_of(const struct gls_system *system, int64_t p) {
  int64_t size = system->matrix->shape.size[1];
  if (system->parts == 1) return (struct part){0, size, 0};
  int64_t start = system->rows * p / system->parts, end = system->rows * (p + 1) / system->parts;
  return (struct part){start, end - start, p * size * size};
}

/* factor := Cholesky of (matrix + λ I); λ is raised tenfold while that fails. */
void layer_factorise(struct gls_system *system) {
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
      struct part part = part_of(system, p);
      int64_t n = part.count;
      real *out = tensor_real(system->factor) + part.at;
      copy_lower(out, tensor_real(system->matrix) + part.at, n, 1, 0);
      for (int64_t i = 0; i < n; i++) out[i * n + i] += (real)system->lambda;
      system->failed = !matmul_cholesky(out, n);
    }
  }
}

/* b (rows × columns) := (K + λI)⁻¹ b, part by part. */
static int solve_parts(const struct gls_system *system, real *b, int64_t columns) {
  for (int64_t p = 0; p < system->parts; p++) {
    struct part part = part_of(system, p);
    STATUS_TRY(
        matmul_cholesky_solve(tensor_real(system->factor) + part.at, part.count, b + part.start * columns, columns));
  }
  return STATUS_OK;
}

static double dot(const struct tensor *a, const struct tensor *b) {
  return vector_dot(tensor_real(a), tensor_real(b), tensor_count(a));
}

/* K = (A Aᵀ + 1 1ᵀ) / n, the ones where there is a bias; of parts one below the other. */
static struct tensor *dual_matrix(struct gls_system *system) {
  int64_t size = (system->rows + system->parts - 1) / system->parts, d = system->inputs;
  system->matrix = matrix(system->parts * size, size);
  if (!system->matrix) return NULL;
  const struct gls_layer *layer = system->layer;
  if (layer->window && layer->window == system->a && layer->gram_window == system->a) {
    copy_lower(tensor_real(system->matrix), tensor_real(layer->gram), size, (real)(1 / system->samples),
               system->bias ? 1 : 0);
    return system->matrix;
  }
  for (int64_t p = 0; p < system->parts; p++) {
    struct part part = part_of(system, p);
    int64_t rows = part.count;
    real *value = tensor_real(system->matrix) + part.at;
    real scale = (real)((double)system->rows / (double)rows / system->samples);
    matmul_gram(false, rows, d, scale, tensor_real(system->a) + part.start * d, d, 0, value, rows);
    if (system->bias)
      for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j <= i; j++) value[i * rows + j] += scale;
  }
  return system->matrix;
}

/* ⟨G, K G⟩ for K (n × n) of which the lower triangle is there; the upper one is filled in. */
static int quadratic_form(struct tensor *k, const struct tensor *g, double *form) {
  int64_t rows = g->shape.size[0], columns = g->shape.size[1];
  struct tensor *product = matrix(rows, columns);
  if (!product) return STATUS_ERROR;
  real *value = tensor_real(k);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = i + 1; j < rows; j++) value[i * rows + j] = value[j * rows + i];
  matmul_gemm(false, false, rows, columns, rows, 1, value, rows, tensor_real(g), columns, 0, tensor_real(product),
              columns);
  *form = dot(g, product);
  tensor_release(product);
  return STATUS_OK;
}

/* A U = n (G − λ α), ⟨g, U⟩ = ⟨G, A U⟩ and ‖U‖² = ⟨α, A U⟩ in one pass; cut into pieces that the length alone decides. */
static void dual_products(struct gls_system *system) {
  enum { PIECES = 64 };
  double gradient_dot_u[PIECES] = {0}, u_square[PIECES] = {0};
  int64_t count = tensor_count(system->alpha), length = (count + PIECES - 1) / PIECES;
  const real *g = tensor_real(system->g), *alpha = tensor_real(system->alpha);
  real *product = tensor_real(system->product), n = (real)system->samples, lambda = (real)system->lambda;
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
  for (int piece = 0; piece < PIECES; piece++) {
    int64_t end = parallel_minimum(count, (piece + 1) * length);
    double gu = 0, uu = 0;
#pragma omp simd reduction(+ : gu, uu)
    for (int64_t i = piece * length; i < end; i++) {
      real value = n * (g[i] - lambda * alpha[i]);
      product[i] = value;
      gu += (double)g[i] * (double)value;
      uu += (double)alpha[i] * (double)value;
    }
    gradient_dot_u[piece] = gu, u_square[piece] = uu;
  }
  system->gradient_dot_u = system->u_square = 0;
  for (int piece = 0; piece < PIECES; piece++) {
    system->gradient_dot_u += gradient_dot_u[piece];
    system->u_square += u_square[piece];
  }
}

/* Whether A U and the lengths of U are of use: with momentum its own count. */
static bool products_are_used(const struct gls_options *options) {
  return options->automatic || options->momentum == 0 || options->trust > 0 || options->graft == GRAFT_SGD;
}

/* α, A U and their products. */
static int solve_dual(struct gls_system *system, const struct gls_options *options) {
  bool used = products_are_used(options);
  system->alpha = tensor_copy(system->g);
  if (system->alpha && used) system->product = matrix(system->rows, system->outputs);
  if (!system->alpha || (used && !system->product)) return STATUS_ERROR;
  STATUS_TRY(solve_parts(system, tensor_real(system->alpha), system->outputs));
  if (used)
    dual_products(system);
  else
    system->u_square = dot(system->alpha, system->alpha); /* finite, and that is all */
  system->failed = !isfinite(system->gradient_dot_u) || !isfinite(system->u_square);
  if (options->graft == GRAFT_SGD) { /* ‖AᵀG‖² = n ⟨G, K G⟩ */
    STATUS_TRY(quadratic_form(system->matrix, system->g, &system->gradient_square));
    system->gradient_square *= system->samples;
  }
  return STATUS_OK;
}

/* to (m) += scale · Σ of x's rows (rows × m), with weights stride apart, or 1. */
static void add_rows(real *to, double scale, const struct tensor *x, const real *weight, int64_t stride) {
  enum { PIECE = 256 };
  int64_t rows = x->shape.size[0], m = x->shape.size[1];
  const real *value = tensor_real(x);
#pragma omp parallel for schedule(static) if (rows * m > PARALLEL_THRESHOLD)
  for (int64_t start = 0; start < m; start += PIECE) {
    int64_t count = parallel_minimum(PIECE, m - start);
    for (int64_t i = 0; i < rows; i++) {
      real times = (real)scale * (weight ? weight[i * stride] : 1);
      for (int64_t j = 0; j < count; j++) to[start + j] += times * value[i * m + start + j];
    }
  }
}

/* s := keep · s + take · scale · [A 1]ᵀ[A 1] / n, lower triangle. */
static void add_statistics(struct tensor *s, double keep, double take, const struct gls_system *system, double scale) {
  int64_t rows = system->a->shape.size[0], d = system->inputs, size = system->extended;
  real *value = tensor_real(s), factor = (real)(take * scale / system->samples);
  matmul_gram(true, d, rows, factor, tensor_real(system->a), d, (real)keep, value, size);
  if (!system->bias) return;
  real *last = value + d * size;
  for (int64_t j = 0; j < size; j++) last[j] *= (real)keep;
  add_rows(last, (double)factor, system->a, NULL, 0);
  last[d] += (real)rows * factor;
}

int layer_form_gradient(struct gls_system *system) {
  if (system->gradient) return STATUS_OK;
  struct tensor *weight, *bias = NULL;
  STATUS_TRY(gradient_dense(system->weight, &weight));
  if (system->bias) STATUS_TRY(gradient_dense(system->bias, &bias));
  int64_t d = system->inputs, m = system->outputs;
  system->gradient = matrix(system->extended, m);
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
  return STATUS_OK;
}

/* S, averaged over steps where the statistics move: a plain mean at first, so that it needs no correction. A batch whose
   inputs are not finite leaves the average as it is. */
static int primal_statistics(struct gls_system *system, const struct gls_options *options, double scale) {
  struct gls_layer *layer = system->layer;
  bool averaged = options->statistics == STATISTICS_MOVING || options->adaptive;
  if (averaged && !isfinite(dot(system->a, system->a))) {
    if (layer->covariance) system->matrix = tensor_retain(layer->covariance);
    averaged = false;
  }
  if (system->matrix) return STATUS_OK;
  bool first = !averaged || !layer->covariance;
  system->matrix = first ? tensor_zeros(TYPE_REAL, &(struct shape){2, {system->extended, system->extended}})
                         : tensor_retain(layer->covariance);
  if (!system->matrix) return STATUS_ERROR;
  double t = (double)layer->updates, keep = first ? 0 : fmin(t / (t + 1), options->decay);
  add_statistics(system->matrix, keep, 1 - keep, system, scale);
  if (averaged && first) layer->covariance = tensor_retain(system->matrix);
  return STATUS_OK;
}

/* Where statistics move the factor serves the steps to come. */
static void keep_factor(struct gls_system *system, const struct gls_options *options) {
  struct gls_layer *layer = system->layer;
  if (options->statistics != STATISTICS_MOVING || !system->stale) return;
  tensor_release(layer->cholesky);
  layer->cholesky = tensor_retain(system->factor);
}

/* U and its products. */
static int solve_primal(struct gls_system *system, const struct gls_options *options) {
  struct gls_layer *layer = system->layer;
  bool moving = options->statistics == STATISTICS_MOVING;
  keep_factor(system, options);
  STATUS_TRY(layer_form_gradient(system));
  const struct tensor *from = system->gradient;
  system->gradient_square = dot(system->gradient, system->gradient);
  if (moving && options->momentum > 0 && isfinite(system->gradient_square)) { /* momentum is on the gradient */
    if (!layer->velocity) layer->velocity = tensor_zeros(TYPE_REAL, &system->gradient->shape);
    if (!layer->velocity) return STATUS_ERROR;
    vector_combine(tensor_real(layer->velocity), (real)options->momentum, tensor_real(system->gradient),
                   (real)(1 - options->momentum), tensor_count(system->gradient));
    from = layer->velocity;
  }
  system->u = tensor_copy(from);
  if (!system->u) return STATUS_ERROR;
  STATUS_TRY(system->woodbury ? window_solve(system)
                              : matmul_cholesky_solve(tensor_real(system->factor), system->extended,
                                                      tensor_real(system->u), system->outputs));
  system->gradient_dot_u = dot(system->gradient, system->u);
  system->u_square = dot(system->u, system->u);
  system->failed = !isfinite(system->gradient_dot_u) || !isfinite(system->u_square);
  return STATUS_OK;
}

/* Y begins as [A 1]. */
static int copy_rows(struct gls_system *system) {
  int64_t n = system->batch_rows, d = system->inputs, e = system->extended;
  const real *a = tensor_real(system->a) + (system->a->shape.size[0] - n) * d;
  system->y = matrix(n, e);
  if (!system->y) return STATUS_ERROR;
  real *y = tensor_real(system->y);
#pragma omp parallel for schedule(static) if (n * d > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < n; i++) {
    memcpy(y + i * e, a + i * d, (size_t)d * sizeof(real));
    if (e > d) y[i * e + d] = 1;
  }
  return STATUS_OK;
}

/* Y from the batch's own K, where nobody asks for A U. */
static int solve_own_rows(struct gls_system *system) {
  STATUS_TRY(copy_rows(system));
  STATUS_TRY(solve_parts(system, tensor_real(system->y), system->extended));
  system->u_square = dot(system->y, system->y) + dot(system->g, system->g); /* finite, and that is all */
  system->failed = !isfinite(system->u_square);
  return STATUS_OK;
}

/* Y, and effect (n × n) = [A 1] Yᵀ, which G is multiplied with to give A U. */
static int rows_from_primal(struct gls_system *system, real *effect) {
  int64_t n = system->batch_rows, d = system->inputs, e = system->extended;
  STATUS_TRY(copy_rows(system));
  const real *a = tensor_real(system->a) + (system->a->shape.size[0] - n) * d;
  real *y = tensor_real(system->y);
  matmul_cholesky_solve_rows(tensor_real(system->factor), e, y, e, n, 0);
  matmul_gemm(false, true, n, n, d, 1, a, d, y, e, 0, effect, n);
  for (int64_t i = 0; i < n && e > d; i++)
    for (int64_t j = 0; j < n; j++) effect[i * n + j] += y[j * e + d];
  return STATUS_OK;
}

/* The same from K of a window: Z, then Y = Zᵀ W; A Yᵀ = n (1 − λ Z) in the batch's rows. */
static int rows_from_window(struct gls_system *system, real *effect) {
  int64_t n = system->batch_rows, r = system->rows, d = system->inputs, e = system->extended;
  struct tensor *solved = tensor_zeros(TYPE_REAL, &(struct shape){2, {n, r}});
  system->y = solved ? matrix(n, e) : NULL;
  if (!system->y) {
    tensor_release(solved);
    return STATUS_ERROR;
  }
  real *z = tensor_real(solved), *y = tensor_real(system->y);
  for (int64_t i = 0; i < n; i++) z[i * r + r - n + i] = 1;
  matmul_cholesky_solve_rows(tensor_real(system->factor), r, z, r, n, r - n);
  matmul_gemm(false, false, n, d, r, 1, z, r, tensor_real(system->a), d, 0, y, e);
  for (int64_t i = 0; i < n && e > d; i++) {
    real sum = 0;
    for (int64_t k = 0; k < r; k++) sum += z[i * r + k];
    y[i * e + d] = sum;
  }
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      effect[i * n + j] = (real)(system->samples * ((i == j) - system->lambda * (double)z[i * r + r - n + j]));
  tensor_release(solved);
  return STATUS_OK;
}

/* ‖Xᵀ G‖² = ⟨G, X Xᵀ G⟩ for rows X (n × columns), ones beside them or not. */
static int product_square(const struct gls_system *system, const real *x, int64_t columns, bool ones, double *square) {
  int64_t n = system->batch_rows;
  struct tensor *gram = matrix(n, n);
  if (!gram) return STATUS_ERROR;
  matmul_gram(false, n, columns, 1, x, columns, 0, tensor_real(gram), n);
  if (ones) copy_lower(tensor_real(gram), tensor_real(gram), n, 1, 1);
  int status = quadratic_form(gram, system->g, square);
  tensor_release(gram);
  return status;
}

/* Y, A U and its products. */
static int solve_by_rows(struct gls_system *system, const struct gls_options *options) {
  int64_t n = system->batch_rows, m = system->outputs;
  keep_factor(system, options);
  if (system->dual && system->rows == n) return solve_own_rows(system);
  struct tensor *effect = matrix(n, n);
  system->product = matrix(n, m);
  int status = effect && system->product ? STATUS_OK : STATUS_ERROR;
  if (status == STATUS_OK) status = (system->dual ? rows_from_window : rows_from_primal)(system, tensor_real(effect));
  if (status == STATUS_OK)
    matmul_gemm(false, false, n, m, n, 1, tensor_real(effect), n, tensor_real(system->g), m, 0,
                tensor_real(system->product), m);
  tensor_release(effect);
  STATUS_TRY(status);
  system->gradient_dot_u = dot(system->g, system->product);
  if (options->graft != GRAFT_NONE) { /* the lengths are of no use else */
    const real *a = tensor_real(system->a) + (system->a->shape.size[0] - n) * system->inputs;
    STATUS_TRY(product_square(system, tensor_real(system->y), system->extended, false, &system->u_square));
    STATUS_TRY(product_square(system, a, system->inputs, system->bias, &system->gradient_square));
  }
  system->failed = !isfinite(system->gradient_dot_u) || !isfinite(system->u_square);
  return STATUS_OK;
}

/* Whether Y is less work than what else would be done with these factors. */
static bool rows_are_less(const struct gls_system *system, const struct gls_options *options) {
  if (system->dual && system->rows == system->batch_rows)
    return !products_are_used(options) && system->extended < system->outputs;
  double n = (double)system->batch_rows, r = (double)system->rows, d = (double)system->inputs;
  double m = (double)system->outputs;
  if (!system->dual) return n < m;
  return n * (r * r + 2 * r * d + 2 * n * m + 2 * d * m) < m * (2 * r * r + 2 * r * d);
}

/* SGD's direction on this layer, on the scale of a direction damped by the mean eigenvalue. */
static int fall_back(struct gls_system *system, struct gls_report *report) {
  report->direction_fallbacks++;
  struct tensor **parts[] = {&system->alpha, &system->product, &system->u, &system->y};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    tensor_release(*parts[i]);
    *parts[i] = NULL;
  }
  STATUS_TRY(layer_form_gradient(system));
  double square = dot(system->a, system->a) / system->samples;
  double mean = square / (double)(system->extended > 0 ? system->extended : 1);
  real scale = isfinite(mean) && mean > 0 ? (real)(1 / mean) : 1;
  system->u = tensor_copy(system->gradient);
  if (!system->u) return STATUS_ERROR;
  vector_combine(tensor_real(system->u), 0, tensor_real(system->gradient), scale, tensor_count(system->u));
  system->gradient_dot_u = dot(system->gradient, system->u);
  system->u_square = dot(system->u, system->u);
  system->gradient_square = dot(system->gradient, system->gradient);
  return STATUS_OK;
}

/* The moving S and, when it is due, its eigenbasis. */
static int prepare_adaptive(struct gls_system *system, const struct gls_options *options, double scale) {
  struct gls_layer *layer = system->layer;
  if (system->extended > options->widest) return STATUS_OK;
  if (layer->covariance && layer->covariance->shape.size[0] != system->extended)
    return status_error("gls: the saved AᵀA is of %lld inputs, the layer has %lld",
                        (long long)layer->covariance->shape.size[0], (long long)system->extended);
  STATUS_TRY(primal_statistics(system, options, scale));
  bool due = !layer->basis || layer->updates % (options->refresh > 0 ? options->refresh : 1) == 0;
  return due && layer->covariance ? adaptive_refresh(system) : STATUS_OK;
}

/* The number of parts, where solving in parts is asked for, U as a product is all that is needed, and the work falls by
   half. */
static int64_t count_parts(const struct gls_system *system, const struct gls_options *options) {
  double n = (double)system->rows, d = (double)system->extended, m = (double)system->outputs;
  if (options->part <= 0 || options->statistics != STATISTICS_BATCH || products_are_used(options)) return 1;
  int64_t parts = (system->rows + options->part - 1) / options->part;
  double size = ceil(n / (double)parts), sides = 2 * fmin(m, d);
  double whole = n <= d ? n * n * (d + n / 3 + sides) : d * d * (n + d / 3 + 2 * m);
  return size <= d && n * size * (d + size / 3 + sides) <= whole / 2 ? parts : 1;
}

/* The mean of the diagonals' sums, of all parts. */
static double trace_of_parts(const struct gls_system *system) {
  double sum = 0;
  for (int64_t p = 0; p < system->parts; p++) {
    struct part part = part_of(system, p);
    sum += trace_of(tensor_real(system->matrix) + part.at, part.count);
  }
  return sum / (double)system->parts;
}

int layer_prepare(struct gls_system *system, const struct gls_options *options, double damping, double samples) {
  double scale;
  struct gls_layer *layer = system->layer;
  bool moving = options->statistics == STATISTICS_MOVING;
  STATUS_TRY(gather(system, options, &scale));
  system->samples = samples > 0 ? samples : (double)(system->rows > 0 ? system->rows : 1);
  if (system->rows == 0) return status_error("gls: a batch without rows has no direction");
  if (options->adaptive) return prepare_adaptive(system, options, scale);
  bool whole = true;
  if (options->statistics == STATISTICS_WINDOW) {
    STATUS_TRY(window_extend(system, options->window, &whole));
    scale = 1;
  }
  if (scale > 1 && !moving && system->a->shape.size[0] < system->extended && damping >= WOODBURY_DAMPING) {
    system->rows = system->a->shape.size[0]; /* few of the rows stand for all */
    system->samples /= scale;
    whole = false;
  }
  bool factors_alone = whole && !system->weight->gradient->dense && all_direct(system);
  system->parts = factors_alone ? count_parts(system, options) : 1;
  bool wide = !moving && (system->rows <= system->extended || system->parts > 1);
  system->dual = wide && factors_alone;
  system->woodbury = wide && !system->dual && (options->statistics == STATISTICS_WINDOW || !whole);
  /* the momentum of moving statistics is on the gradient */
  system->by_rows = factors_alone && !(moving && options->momentum > 0) && rows_are_less(system, options);
  if (system->dual && !system->by_rows && system->rows > system->batch_rows) STATUS_TRY(window_spread(system));
  if (system->dual || system->woodbury) {
    if (!dual_matrix(system)) return STATUS_ERROR;
  } else {
    STATUS_TRY(primal_statistics(system, options, scale));
  }
  int64_t rows = options->statistics == STATISTICS_WINDOW ? system->rows : system->batch_rows;
  if (system->parts > 1) rows = system->matrix->shape.size[1];
  int64_t least = !moving && rows < system->extended ? rows : system->extended;
  system->stale = !moving || !layer->cholesky || layer->updates % (options->refresh > 0 ? options->refresh : 1) == 0;
  system->lambda = damping * trace_of_parts(system) / (double)(least > 0 ? least : 1);
  const int64_t *size = system->matrix->shape.size;
  system->factor = system->stale ? matrix(size[0], size[1]) : tensor_retain(layer->cholesky);
  if (moving) layer->updates++;
  return system->factor ? STATUS_OK : STATUS_ERROR;
}

int layer_solve(struct gls_system *system, const struct gls_options *options, struct gls_report *report) {
  report->cholesky_retries += system->retries;
  if (options->adaptive)
    STATUS_TRY(adaptive_solve(system, options));
  else if (!system->failed)
    STATUS_TRY(system->by_rows ? solve_by_rows(system, options)
               : system->dual  ? solve_dual(system, options)
                               : solve_primal(system, options));
  return system->failed ? fall_back(system, report) : STATUS_OK;
}

/* ---- using the direction ---- */

void layer_add_direction(const struct gls_system *system, double scale, double keep, real *weight, real *bias) {
  int64_t d = system->inputs, m = system->outputs, step = system->y ? system->extended : d;
  const struct tensor *left = system->y ? system->y : system->a, *right = system->y ? system->g : system->alpha;
  matmul_gemm(true, false, d, m, right->shape.size[0], (real)scale, tensor_real(left), step, tensor_real(right), m,
              (real)keep, weight, m);
  if (!bias) return;
  for (int64_t j = 0; j < m; j++) bias[j] = keep == 0 ? 0 : (real)keep * bias[j];
  add_rows(bias, scale, right, system->y ? tensor_real(left) + d : NULL, step);
}

int layer_form_direction(struct gls_system *system) {
  if (system->u) return STATUS_OK;
  struct tensor *direction = matrix(system->extended, system->outputs);
  if (!direction) return STATUS_ERROR;
  real *u = tensor_real(direction);
  layer_add_direction(system, 1, 0, u, system->bias ? u + system->inputs * system->outputs : NULL);
  system->u = direction;
  return STATUS_OK;
}

/* w (m × d) −= step · uᵀ: some columns at a time, which stay in cache. */
static void subtract_turned(real *w, const real *u, int64_t d, int64_t m, real step) {
  enum { PIECE = 16 };
#pragma omp parallel for schedule(static) if (d * m > PARALLEL_THRESHOLD)
  for (int64_t start = 0; start < d; start += PIECE) {
    int64_t end = parallel_minimum(start + PIECE, d);
    for (int64_t j = 0; j < m; j++)
      for (int64_t i = start; i < end; i++) w[j * d + i] -= step * u[i * m + j];
  }
}

int layer_apply(struct gls_system *system, double step, double keep) {
  struct tensor *weight = system->weight;
  int64_t d = system->inputs, m = system->outputs;
  real *w = tensor_real(weight), *b = system->bias ? tensor_real(system->bias) : NULL;
  int status = STATUS_OK;
  if (keep != 1) vector_combine(w, (real)keep, w, 0, d * m);
  if (!system->u) {
    layer_add_direction(system, -step, 1, w, b);
  } else if (weight->shape.rank <= 2) {
    vector_combine(w, 1, tensor_real(system->u), (real)-step, d * m);
    if (b) vector_combine(b, 1, tensor_real(system->u) + d * m, (real)-step, m);
  } else { /* a convolution's weight: outputs × inputs */
    const real *u = tensor_real(system->u);
    subtract_turned(w, u, d, m, (real)step);
    if (b) vector_combine(b, 1, u + d * m, (real)-step, m);
  }
  tensor_modified(weight);
  if (b) tensor_modified(system->bias);
  return status;
}
