/* Losses: one number from predictions and targets. Each is one pass over its inputs, forward and backward; the mean over
   elements (cross-entropy: over rows), or the sum when asked. Sums are taken block by block, blocks of fixed size, so
   that they do not depend on the number of threads. The mean of nothing is NaN, as elsewhere. */
#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/vector_math.h"
#include "op.h"

enum { BLOCK = 2048 };

/* ---- losses that are sums over pairs of elements ---- */

/* What a row gives to the shared functions; delta is huber's. In by_prediction and by_target result is factor times
   the derivative, in curvature factor times the second derivative by the prediction, times v. */
struct loss_rule {
  real (*values)(const real *prediction, const real *target, int64_t count, real delta);
  void (*by_prediction)(real *result, const real *prediction, const real *target, int64_t count, real factor,
                        real delta);
  void (*by_target)(real *result, const real *prediction, const real *target, int64_t count, real factor, real delta);
  void (*curvature)(real *result, const real *prediction, const real *target, const real *v, int64_t count, real factor,
                    real delta);
  bool has_delta;
};

static real mse_values(const real *prediction, const real *target, int64_t count, real delta) {
  (void)delta;
  real sum = 0;
#pragma omp simd simdlen(16) reduction(+ : sum)
  for (int64_t i = 0; i < count; i++) sum += (prediction[i] - target[i]) * (prediction[i] - target[i]);
  return sum;
}

static void mse_by_prediction(real *result, const real *prediction, const real *target, int64_t count, real factor,
                              real delta) {
  (void)delta;
#pragma omp simd simdlen(16)
  for (int64_t i = 0; i < count; i++) result[i] = 2 * factor * (prediction[i] - target[i]);
}

static void mse_curvature(real *result, const real *prediction, const real *target, const real *v, int64_t count,
                          real factor, real delta) {
  (void)prediction, (void)target, (void)delta;
#pragma omp simd simdlen(16)
  for (int64_t i = 0; i < count; i++) result[i] = 2 * factor * v[i];
}

static real l1_values(const real *prediction, const real *target, int64_t count, real delta) {
  (void)delta;
  real sum = 0;
#pragma omp simd simdlen(16) reduction(+ : sum)
  for (int64_t i = 0; i < count; i++) sum += fabs(prediction[i] - target[i]);
  return sum;
}

static void l1_by_prediction(real *result, const real *prediction, const real *target, int64_t count, real factor,
                             real delta) {
  (void)delta;
#pragma omp simd simdlen(16)
  for (int64_t i = 0; i < count; i++) {
    real difference = prediction[i] - target[i];
    result[i] = difference > 0 ? factor : difference < 0 ? -factor : factor * difference;
  }
}

static void l1_curvature(real *result, const real *prediction, const real *target, const real *v, int64_t count,
                         real factor, real delta) {
  (void)prediction, (void)target, (void)v, (void)factor, (void)delta;
  for (int64_t i = 0; i < count; i++) result[i] = 0;
}

/* d²/2 within delta, delta (|d| - delta/2) beyond: d c - c²/2, c the difference d clamped to ±delta. */
static real huber_values(const real *prediction, const real *target, int64_t count, real delta) {
  real sum = 0;
#pragma omp simd simdlen(16) reduction(+ : sum)
  for (int64_t i = 0; i < count; i++) {
    real difference = prediction[i] - target[i];
    real clamped = difference > delta ? delta : difference < -delta ? -delta : difference;
    sum += clamped * (difference - clamped / 2);
  }
  return sum;
}

static void huber_by_prediction(real *result, const real *prediction, const real *target, int64_t count, real factor,
                                real delta) {
#pragma omp simd simdlen(16)
  for (int64_t i = 0; i < count; i++) {
    real difference = prediction[i] - target[i];
    result[i] = factor * (difference > delta ? delta : difference < -delta ? -delta : difference);
  }
}

static void huber_curvature(real *result, const real *prediction, const real *target, const real *v, int64_t count,
                            real factor, real delta) {
#pragma omp simd simdlen(16)
  for (int64_t i = 0; i < count; i++) {
    real inside = fabs(prediction[i] - target[i]) <= delta ? factor : 0;
    result[i] = inside * v[i];
  }
}

/* -t log σ(x) - (1-t) log(1-σ(x)) = max(x, 0) - t x + log(1 + e^-|x|), which does not overflow. */
static real binary_values(const real *prediction, const real *target, int64_t count, real delta) {
  (void)delta;
  real sum = 0;
#pragma omp simd simdlen(16) reduction(+ : sum)
  for (int64_t i = 0; i < count; i++) {
    real x = prediction[i], positive = x < 0 ? 0 : x;
    sum += positive - target[i] * x + log1p(vector_exp(-fabs(x)));
  }
  return sum;
}

static void binary_by_prediction(real *result, const real *prediction, const real *target, int64_t count, real factor,
                                 real delta) {
  (void)delta;
#pragma omp simd simdlen(16)
  for (int64_t i = 0; i < count; i++) result[i] = factor * (1 / (1 + vector_exp(-prediction[i])) - target[i]);
}

static void binary_by_target(real *result, const real *prediction, const real *target, int64_t count, real factor,
                             real delta) {
  (void)target, (void)delta;
#pragma omp simd simdlen(16)
  for (int64_t i = 0; i < count; i++) result[i] = -factor * prediction[i];
}

/* σ'(x) by e^-|x|, which does not overflow. */
static void binary_curvature(real *result, const real *prediction, const real *target, const real *v, int64_t count,
                             real factor, real delta) {
  (void)target, (void)delta;
#pragma omp simd simdlen(16)
  for (int64_t i = 0; i < count; i++) {
    real small = vector_exp(-fabs(prediction[i]));
    result[i] = factor * small / ((1 + small) * (1 + small)) * v[i];
  }
}

static int pair_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  const struct loss_rule *rule = call->op->family;
  const struct shape *prediction = &call->input[0]->shape, *target = &call->input[1]->shape;
  if (!shape_equal(prediction, target))
    return status_error("prediction %s and target %s must have the same shape", shape_text(prediction),
                        shape_text(target));
  if (rule->has_delta && !(call->value[0].number > 0))
    return status_error("delta is %g and must be positive", call->value[0].number);
  shape->rank = 0;
  return STATUS_OK;
}

static real pair_delta(const struct op_call *call) {
  const struct loss_rule *rule = call->op->family;
  return rule->has_delta ? (real)call->value[0].number : 0;
}

/* 1, or 1 over the number of elements. */
static double pair_weight(const struct op_call *call) {
  const struct loss_rule *rule = call->op->family;
  bool sum = call->value[rule->has_delta ? 1 : 0].list[0];
  return sum ? 1 : 1 / (double)tensor_count(call->input[0]);
}

/* Contiguous forms of the inputs, released by release_pair. */
static int contiguous_pair(const struct op_call *call, struct tensor *pair[2]) {
  pair[0] = tensor_contiguous(call->input[0]);
  pair[1] = pair[0] ? tensor_contiguous(call->input[1]) : NULL;
  if (pair[1]) return STATUS_OK;
  tensor_release(pair[0]);
  return STATUS_ERROR;
}

static void release_pair(struct tensor *pair[2]) {
  tensor_release(pair[0]);
  tensor_release(pair[1]);
}

/* Sum of the blocks' sums, in their order. */
static double take_total(double *partial, int64_t blocks) {
  double total = 0;
  for (int64_t i = 0; i < blocks; i++) total += partial[i];
  memory_release(partial);
  return total;
}

static int pair_forward(struct op_call *call) {
  const struct loss_rule *rule = call->op->family;
  struct tensor *pair[2];
  STATUS_TRY(contiguous_pair(call, pair));
  const real *prediction = tensor_real(pair[0]), *target = tensor_real(pair[1]), delta = pair_delta(call);
  int64_t count = tensor_count(pair[0]), blocks = (count + BLOCK - 1) / BLOCK;
  double *partial = memory_acquire((size_t)blocks * sizeof *partial);
  if (partial) {
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
    for (int64_t i = 0; i < blocks; i++) {
      int64_t at = i * BLOCK;
      partial[i] = (double)rule->values(prediction + at, target + at, parallel_minimum(BLOCK, count - at), delta);
    }
    *tensor_real(call->output) = (real)(take_total(partial, blocks) * pair_weight(call));
  }
  release_pair(pair);
  return partial ? STATUS_OK : STATUS_ERROR;
}

/* result = factor · derivative by the input. */
static void pair_derivative(const struct loss_rule *rule, int input, real *result, const real *prediction,
                            const real *target, int64_t count, real factor, real delta) {
  if (input == 0)
    rule->by_prediction(result, prediction, target, count, factor, delta);
  else if (rule->by_target)
    rule->by_target(result, prediction, target, count, factor, delta);
  else
    rule->by_prediction(result, prediction, target, count, -factor, delta);
}

static int pair_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  const struct loss_rule *rule = call->op->family;
  struct tensor *pair[2];
  STATUS_TRY(contiguous_pair(call, pair));
  const real *prediction = tensor_real(pair[0]), *target = tensor_real(pair[1]), delta = pair_delta(call);
  const real factor = (real)((double)*tensor_real(gradient) * pair_weight(call));
  int64_t count = tensor_count(pair[0]);
  int status = STATUS_OK;
  for (int k = 0; k < 2 && status == STATUS_OK; k++) {
    if (!needed[k]) continue;
    result[k] = tensor_new(TYPE_REAL, &pair[0]->shape);
    status = result[k] ? STATUS_OK : STATUS_ERROR;
    if (status != STATUS_OK) break;
    real *out = tensor_real(result[k]);
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
    for (int64_t at = 0; at < count; at += BLOCK)
      pair_derivative(rule, k, out + at, prediction + at, target + at, parallel_minimum(BLOCK, count - at), factor,
                      delta);
  }
  release_pair(pair);
  return status;
}

static real dot(const real *a, const real *b, int64_t count) {
  real sum = 0;
#pragma omp simd simdlen(16) reduction(+ : sum)
  for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
  return sum;
}

/* Adds Σ derivative by the input · tangent to total. */
static int pair_change(const struct op_call *call, struct tensor *const pair[2], int input, struct tensor *tangent,
                       double *total) {
  const struct loss_rule *rule = call->op->family;
  const real *prediction = tensor_real(pair[0]), *target = tensor_real(pair[1]), delta = pair_delta(call);
  int64_t count = tensor_count(pair[0]), blocks = (count + BLOCK - 1) / BLOCK;
  struct tensor *flat = tensor_contiguous(tangent);
  double *partial = flat ? memory_acquire((size_t)blocks * sizeof *partial) : NULL;
  if (partial) {
    const real *change = tensor_real(flat);
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
    for (int64_t i = 0; i < blocks; i++) {
      real derivative[BLOCK];
      int64_t at = i * BLOCK, length = parallel_minimum(BLOCK, count - at);
      pair_derivative(rule, input, derivative, prediction + at, target + at, length, 1, delta);
      partial[i] = (double)dot(derivative, change + at, length);
    }
    *total += take_total(partial, blocks);
  }
  tensor_release(flat);
  return partial ? STATUS_OK : STATUS_ERROR;
}

static int pair_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct tensor *pair[2];
  double total = 0;
  STATUS_TRY(contiguous_pair(call, pair));
  int status = STATUS_OK;
  for (int k = 0; k < 2 && status == STATUS_OK; k++)
    if (tangent[k]) status = pair_change(call, pair, k, tangent[k], &total);
  release_pair(pair);
  STATUS_TRY(status);
  *result = tensor_scalar((real)(total * pair_weight(call)));
  return *result ? STATUS_OK : STATUS_ERROR;
}

static int pair_hessian_product(const struct op_call *call, struct tensor *v, struct tensor **result) {
  const struct loss_rule *rule = call->op->family;
  struct tensor *pair[2];
  STATUS_TRY(contiguous_pair(call, pair));
  struct tensor *direction = tensor_contiguous(v);
  struct tensor *product = direction ? tensor_new(TYPE_REAL, &pair[0]->shape) : NULL;
  if (product) {
    const real *prediction = tensor_real(pair[0]), *target = tensor_real(pair[1]), *along = tensor_real(direction);
    const real delta = pair_delta(call), factor = (real)pair_weight(call);
    real *out = tensor_real(product);
    int64_t count = tensor_count(product);
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
    for (int64_t at = 0; at < count; at += BLOCK)
      rule->curvature(out + at, prediction + at, target + at, along + at, parallel_minimum(BLOCK, count - at), factor,
                      delta);
  }
  tensor_release(direction);
  release_pair(pair);
  *result = product;
  return product ? STATUS_OK : STATUS_ERROR;
}

/* ---- cross-entropy ----
   Row with logits x, label y, smoothing s, of C classes: logsumexp(x) - (1-s) x[y] - s mean(x).
   saved: 0 a struct softmax_row for each row, from which the softmax p is made anew where it is needed (to read the
   logits again is cheaper than to keep p), 1 the labels. Values: 0 label_smoothing, 1 sum. */

static int cross_entropy_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  const struct tensor *logits = call->input[0], *labels = call->input[1];
  double smoothing = call->value[0].number;
  if (logits->shape.rank == 0) return status_error("logits are a scalar and need a dimension of classes, the last");
  struct shape rows = logits->shape;
  rows.rank--;
  if (!shape_equal(&rows, &labels->shape))
    return status_error("labels have shape %s, logits %s: one label a row is needed, shape %s",
                        shape_text(&labels->shape), shape_text(&logits->shape), shape_text(&rows));
  if (labels->type != TYPE_INT32)
    return status_error("labels are %s and must be int32, from 1 to the number of classes", type_name(labels->type));
  if (!(smoothing >= 0 && smoothing <= 1)) return status_error("label_smoothing is %g: it goes from 0 to 1", smoothing);
  shape->rank = 0;
  return STATUS_OK;
}

/* Rows and classes of the softmax's matrix; blocks of rows of about BLOCK elements. */
struct table {
  int64_t rows, classes, block, blocks;
  double weight; /* of a row in the loss */
  real label;    /* target probability of the label beyond base */
  real base;     /* target probability of every class */
};

static struct table table_of(const struct op_call *call) {
  const struct shape *labels = &call->input[1]->shape, *logits = &call->input[0]->shape;
  struct table t = {.rows = shape_count(labels), .classes = logits->size[logits->rank - 1]};
  t.block = t.classes < BLOCK && t.classes > 0 ? BLOCK / t.classes : 1;
  t.blocks = (t.rows + t.block - 1) / t.block;
  t.weight = call->value[1].list[0] ? 1 : 1 / (double)t.rows;
  t.label = (real)(1 - call->value[0].number);
  t.base = (real)(call->value[0].number / (double)t.classes);
  return t;
}

static int check_labels(const int32_t *label, const struct table *t) {
  for (int64_t i = 0; i < t->rows; i++)
    if (label[i] < 1 || label[i] > t->classes)
      return status_error("label %d in row %lld is out of range: there are %lld classes (labels 1 to %lld)", label[i],
                          (long long)(i + 1), (long long)t->classes, (long long)t->classes);
  return STATUS_OK;
}

/* What forward leaves of a row: its softmax is scale · exp(x − highest). */
struct softmax_row {
  real highest, scale;
};

/* to (rows first..last-1 × count) = exp(x − highest of the row), for count classes from x on. The exponentials are taken
   in one loop, so that few classes vectorise too. */
static void exponentials(real *to, const real *x, const struct softmax_row *row, int64_t first, int64_t last,
                         int64_t count, int64_t classes) {
  for (int64_t r = first; r < last; r++) {
    const real *from = x + r * classes, highest = row[r].highest;
    real *out = to + (r - first) * count;
#pragma omp simd simdlen(16)
    for (int64_t j = 0; j < count; j++) out[j] = from[j] - highest;
  }
#pragma omp simd simdlen(16)
  for (int64_t i = 0; i < (last - first) * count; i++) to[i] = vector_exp(to[i]);
}

/* row of first..last-1 (at most BLOCK elements, or one row) from x; the sum of their losses. */
static double cross_entropy_block(struct softmax_row *row, const real *x, const int32_t *label, int64_t first,
                                  int64_t last, const struct table *t) {
  double loss = 0;
  int64_t classes = t->classes;
  for (int64_t r = first; r < last; r++) {
    const real *from = x + r * classes;
    real highest = from[0];
#pragma omp simd simdlen(16) reduction(max : highest)
    for (int64_t j = 0; j < classes; j++) highest = from[j] > highest ? from[j] : highest;
    row[r] = (struct softmax_row){highest, 0};
    loss -= (double)(t->label * (from[label[r] - 1] - highest));
    if (t->base > 0) {
      real sum = 0;
#pragma omp simd simdlen(16) reduction(+ : sum)
      for (int64_t j = 0; j < classes; j++) sum += from[j] - highest;
      loss -= (double)(t->base * sum);
    }
  }
  real values[BLOCK];
  for (int64_t start = 0; start < classes; start += BLOCK) {
    int64_t count = parallel_minimum(BLOCK, classes - start);
    exponentials(values, x + start, row, first, last, count, classes);
    for (int64_t r = first; r < last; r++) {
      const real *value = values + (r - first) * count;
      real sum = 0;
#pragma omp simd simdlen(16) reduction(+ : sum)
      for (int64_t j = 0; j < count; j++) sum += value[j];
      row[r].scale += sum;
    }
  }
  for (int64_t r = first; r < last; r++) {
    loss += log((double)row[r].scale);
    row[r].scale = 1 / row[r].scale;
  }
  return loss;
}

/* result (rows × classes) = factor · softmax − base, and at the labels label_part less. */
static void softmax_rows(real *result, const real *x, const struct softmax_row *row, const struct table *t, real factor,
                         real base, const int32_t *label, real label_part) {
#pragma omp parallel for schedule(static) if (t->rows * t->classes > PARALLEL_THRESHOLD / 4)
  for (int64_t i = 0; i < t->blocks; i++) {
    int64_t first = i * t->block, last = parallel_minimum(t->rows, first + t->block);
    exponentials(result + first * t->classes, x, row, first, last, t->classes, t->classes);
    for (int64_t r = first; r < last; r++) {
      real *out = result + r * t->classes;
      const real scale = factor * row[r].scale;
#pragma omp simd simdlen(16)
      for (int64_t j = 0; j < t->classes; j++) out[j] = scale * out[j] - base;
      if (label) out[label[r] - 1] -= label_part;
    }
  }
}

static const struct softmax_row *saved_rows(const struct op_call *call) {
  return (const struct softmax_row *)tensor_real(call->saved[0]);
}

/* The softmax of the call's logits. */
static struct tensor *softmax_of(const struct op_call *call, const struct table *t) {
  struct tensor *logits = tensor_contiguous(call->input[0]);
  struct tensor *softmax = logits ? tensor_new(TYPE_REAL, &logits->shape) : NULL;
  if (softmax) softmax_rows(tensor_real(softmax), tensor_real(logits), saved_rows(call), t, 1, 0, NULL, 0);
  tensor_release(logits);
  return softmax;
}

static int cross_entropy_forward(struct op_call *call) {
  const struct table t = table_of(call);
  struct shape shape = shape_of(2, t.rows, (int64_t)2);
  struct tensor *logits = tensor_contiguous(call->input[0]);
  struct tensor *labels = logits ? tensor_copy(call->input[1]) : NULL;
  struct tensor *saved = labels ? tensor_new(TYPE_REAL, &shape) : NULL;
  double *partial = saved ? memory_acquire((size_t)t.blocks * sizeof *partial) : NULL;
  int status = partial ? check_labels(tensor_int32(labels), &t) : STATUS_ERROR;
  if (status == STATUS_OK) {
    const real *x = tensor_real(logits);
    const int32_t *label = tensor_int32(labels);
    struct softmax_row *row = (struct softmax_row *)tensor_real(saved);
#pragma omp parallel for schedule(static) if (t.rows * t.classes > PARALLEL_THRESHOLD / 4)
    for (int64_t i = 0; i < t.blocks; i++)
      partial[i] = cross_entropy_block(row, x, label, i * t.block, parallel_minimum(t.rows, (i + 1) * t.block), &t);
    *tensor_real(call->output) = (real)(take_total(partial, t.blocks) * t.weight);
  } else if (partial) {
    memory_release(partial);
  }
  tensor_release(logits);
  if (status == STATUS_OK && call->differentiable) {
    call->saved[0] = saved;
    call->saved[1] = labels;
  } else {
    tensor_release(saved);
    tensor_release(labels);
  }
  return status;
}

static int cross_entropy_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                             struct tensor **result) {
  if (!needed[0]) return STATUS_OK;
  const struct table t = table_of(call);
  const real factor = (real)((double)*tensor_real(gradient) * t.weight);
  struct tensor *logits = tensor_contiguous(call->input[0]);
  result[0] = logits ? tensor_new(TYPE_REAL, &logits->shape) : NULL;
  if (result[0])
    softmax_rows(tensor_real(result[0]), tensor_real(logits), saved_rows(call), &t, factor, factor * t.base,
                 tensor_int32(call->saved[1]), factor * t.label);
  tensor_release(logits);
  return result[0] ? STATUS_OK : STATUS_ERROR;
}

static int cross_entropy_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  const struct table t = table_of(call);
  const int32_t *label = tensor_int32(call->saved[1]);
  struct tensor *softmax = softmax_of(call, &t);
  if (!softmax) return STATUS_ERROR;
  struct tensor *flat = tangent[0] ? tensor_contiguous(tangent[0]) : tensor_zeros(TYPE_REAL, &call->input[0]->shape);
  if (!flat) {
    tensor_release(softmax);
    return STATUS_ERROR;
  }
  const real *p = tensor_real(softmax);
  const real *change = tensor_real(flat);
  double total = 0;
  for (int64_t r = 0; r < t.rows; r++) {
    const real *row = change + r * t.classes;
    real sum = 0;
    for (int64_t j = 0; j < t.classes; j++) sum += row[j];
    total +=
        (double)dot(p + r * t.classes, row, t.classes) - (double)(t.label * row[label[r] - 1]) - (double)(t.base * sum);
  }
  tensor_release(flat);
  tensor_release(softmax);
  *result = tensor_scalar((real)(total * t.weight));
  return *result ? STATUS_OK : STATUS_ERROR;
}

/* Row by row (diag(p) - p pᵀ) v: the target does not enter. */
static int cross_entropy_hessian_product(const struct op_call *call, struct tensor *v, struct tensor **result) {
  const struct table t = table_of(call);
  const real weight = (real)t.weight;
  struct tensor *direction = tensor_contiguous(v);
  struct tensor *product = direction ? softmax_of(call, &t) : NULL;
  if (product) {
    const real *along = tensor_real(direction);
    real *out = tensor_real(product);
#pragma omp parallel for schedule(static) if (t.rows * t.classes > PARALLEL_THRESHOLD)
    for (int64_t r = 0; r < t.rows; r++) {
      int64_t at = r * t.classes;
      const real mean = dot(out + at, along + at, t.classes);
#pragma omp simd simdlen(16)
      for (int64_t j = at; j < at + t.classes; j++) out[j] *= weight * (along[j] - mean);
    }
  }
  tensor_release(direction);
  *result = product;
  return product ? STATUS_OK : STATUS_ERROR;
}

/* p (1 - p). */
static int cross_entropy_hessian_diagonal(const struct op_call *call, struct tensor **result) {
  const struct table t = table_of(call);
  const real weight = (real)t.weight;
  *result = softmax_of(call, &t);
  if (!*result) return STATUS_ERROR;
  real *out = tensor_real(*result);
  int64_t count = tensor_count(*result);
#pragma omp parallel for simd schedule(static) if (count > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < count; i++) out[i] = weight * out[i] * (1 - out[i]);
  return STATUS_OK;
}

/* ---- rows ---- */

// clang-format off
static const char *const pair_samples[] = {"distinct:4x5 distinct:4x5", "distinct:3x4x2 distinct:3x4x2 sum=1",
                                           "distinct:70x60 distinct:70x60", "distinct:1 distinct:1",
                                           "3x0 3x0 sum=1", "scalar scalar", NULL};
static const char *const huber_samples[] = {"distinct:4x5 distinct:4x5", "distinct:4x5 distinct:4x5 delta=0.31 sum=1",
                                            "distinct:1 distinct:1", "3x0 3x0 sum=1", NULL};
static const char *const binary_samples[] = {"4x5 unit:4x5", "3x4x2 mask:3x4x2 sum=1", "70x60 unit:70x60", "1 unit:1",
                                             "3x0 3x0 sum=1", NULL};
static const char *const cross_entropy_samples[] = {
    "4x5 labels5:4", "4x5 labels5:4 label_smoothing=0.1", "2x3x7 labels7:2x3 sum=1", "300x10 labels10:300",
    "2x3000 labels3000:2 label_smoothing=0.3", "1x1 labels1:1", "5 labels5:scalar", "0x5 labels5:0 sum=1", NULL};

#define TENSOR_PARAMETER(word) {.name = word, .kind = OP_TENSOR}
#define SUM_PARAMETER {.name = "sum", .kind = OP_FLAG, .has_default = true, .default_value = 0}
#define PAIR_FUNCTIONS .shape = pair_shape, .forward = pair_forward, .vjp = pair_vjp, .jvp = pair_jvp, \
                       .hessian_product = pair_hessian_product

const struct op loss_ops[] = {
    {.name = "mse", .parameter = {TENSOR_PARAMETER("prediction"), TENSOR_PARAMETER("target"), SUM_PARAMETER},
     .flags = OP_SAVES_INPUTS | OP_QUADRATIC, PAIR_FUNCTIONS, .samples = pair_samples,
     .doc = "mean (or sum) over all elements of (prediction - target)²",
     .family = &(const struct loss_rule){.values = mse_values, .by_prediction = mse_by_prediction,
                                         .curvature = mse_curvature}},
    {.name = "l1", .parameter = {TENSOR_PARAMETER("prediction"), TENSOR_PARAMETER("target"), SUM_PARAMETER},
     .flags = OP_SAVES_INPUTS, PAIR_FUNCTIONS, .samples = pair_samples,
     .doc = "mean (or sum) over all elements of |prediction - target|",
     .family = &(const struct loss_rule){.values = l1_values, .by_prediction = l1_by_prediction,
                                         .curvature = l1_curvature}},
    {.name = "huber",
     .parameter = {TENSOR_PARAMETER("prediction"), TENSOR_PARAMETER("target"),
                   {.name = "delta", .kind = OP_NUMBER, .has_default = true, .default_value = 1}, SUM_PARAMETER},
     .flags = OP_SAVES_INPUTS, PAIR_FUNCTIONS, .samples = huber_samples,
     .doc = "mean (or sum) of d²/2 where |d| <= delta, else delta (|d| - delta/2), d = prediction - target (Huber, 1964)",
     .family = &(const struct loss_rule){.values = huber_values, .by_prediction = huber_by_prediction,
                                         .curvature = huber_curvature, .has_delta = true}},
    {.name = "binary_cross_entropy",
     .parameter = {TENSOR_PARAMETER("logits"), TENSOR_PARAMETER("target"), SUM_PARAMETER},
     .flags = OP_SAVES_INPUTS, PAIR_FUNCTIONS, .samples = binary_samples,
     .doc = "mean (or sum) over all elements of the cross-entropy of sigmoid(logits) to targets in 0 to 1",
     .family = &(const struct loss_rule){.values = binary_values, .by_prediction = binary_by_prediction,
                                         .by_target = binary_by_target, .curvature = binary_curvature}},
    {.name = "cross_entropy",
     .parameter = {TENSOR_PARAMETER("logits"), {.name = "labels", .kind = OP_INDICES},
                   {.name = "label_smoothing", .kind = OP_NUMBER, .has_default = true, .default_value = 0},
                   SUM_PARAMETER},
     .flags = OP_SAVES_INPUTS, .shape = cross_entropy_shape, .forward = cross_entropy_forward, .vjp = cross_entropy_vjp,
     .jvp = cross_entropy_jvp, .hessian_product = cross_entropy_hessian_product,
     .hessian_diagonal = cross_entropy_hessian_diagonal, .samples = cross_entropy_samples,
     .doc = "mean (or sum) over rows of -log softmax(logits)[label]: logits (…×C), labels (…) from 1 to C"},
    {.name = NULL}};
// clang-format on
