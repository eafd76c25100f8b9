/* Cross-entropy: softmax and its loss in one. One pass over the logits, forward and backward; the mean over rows, or
   the sum when asked (loss.h).
   Row with logits x, label y, smoothing s, of C classes: logsumexp(x) - (1-s) x[y] - s mean(x).
   saved: 0 a struct softmax_row for each label, from which the softmax p is made anew where it is needed (to read the
   logits again is cheaper than to keep p), 1 the labels. Values: 0 label_smoothing, 1 sum. */

#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/vector_math.h"
#include "compose.h"
#include "loss.h"

enum { BLOCK = LOSS_BLOCK };

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

enum { NARROW = 32, ABREAST = 16 }; /* classes up to which ABREAST rows go side by side */

static struct table table_of(const struct op_call *call) {
  const struct shape *labels = &call->input[1]->shape, *logits = &call->input[0]->shape;
  struct table t = {.rows = shape_count(labels), .classes = logits->size[logits->rank - 1]};
  t.block = t.classes < BLOCK && t.classes > 0 ? BLOCK / t.classes : 1;
  t.blocks = ceil_div(t.rows, t.block);
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

/* to (rows first..last-1 × count) = exp(x − highest of the row), for count classes from x on. The exponentials are
   taken in one loop, so that few classes vectorise too. */
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

/* (x − highest) / 2, which does not overflow for any two finite numbers. */
static inline real half_difference(real x, real highest) { return x / 2 - highest / 2; }

/* The label's part of the loss of a row, beyond that of every class. */
static double label_loss(real x, real highest, const struct table *t) {
  return (double)t->label * ((double)x - (double)highest);
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
    loss -= label_loss(from[label[r] - 1], highest, t);
    if (t->base > 0) {
      real sum = 0;
#pragma omp simd simdlen(16) reduction(+ : sum)
      for (int64_t j = 0; j < classes; j++) sum += t->base * half_difference(from[j], highest);
      loss -= 2 * (double)sum; /* one row's may overflow where the mean does not */
    }
  }
  real values[BLOCK];
  for (int64_t start = 0; start < classes; start += BLOCK) {
    int64_t count = min(BLOCK, classes - start);
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

/* The same for few classes: a vector holds one class of ABREAST rows. */
static double cross_entropy_abreast(struct softmax_row *row, const real *x, const int32_t *label, int64_t first,
                                    int64_t last, const struct table *t) {
  double loss = 0;
  int64_t classes = t->classes;
  for (int64_t start = first; start < last; start += ABREAST) {
    int64_t count = min(ABREAST, last - start);
    real value[NARROW][ABREAST], highest[ABREAST], level[ABREAST] = {0}, sum[ABREAST] = {0};
    for (int64_t l = 0; l < ABREAST; l++) { /* beyond the last row that row again */
      const real *from = x + (start + min(l, count - 1)) * classes;
      for (int64_t j = 0; j < classes; j++) value[j][l] = from[j];
    }
    for (int l = 0; l < ABREAST; l++) highest[l] = value[0][l];
    for (int64_t j = 1; j < classes; j++) {
#pragma omp simd simdlen(16)
      for (int l = 0; l < ABREAST; l++) highest[l] = value[j][l] > highest[l] ? value[j][l] : highest[l];
    }
    for (int64_t j = 0; j < classes; j++) {
#pragma omp simd simdlen(16)
      for (int l = 0; l < ABREAST; l++) {
        level[l] += t->base * half_difference(value[j][l], highest[l]);
        sum[l] += vector_exp(value[j][l] - highest[l]);
      }
    }
    for (int64_t l = 0; l < count; l++) {
      int64_t r = start + l;
      row[r] = (struct softmax_row){highest[l], 1 / sum[l]};
      loss -= label_loss(x[r * classes + label[r] - 1], highest[l], t);
      if (t->base > 0) loss -= 2 * (double)level[l];
      loss += log((double)sum[l]);
    }
  }
  return loss;
}

/* result (rows × classes) = factor · softmax − base, and at the labels label_part less. */
static void softmax_rows(real *result, const real *x, const struct softmax_row *row, const struct table *t, real factor,
                         real base, const int32_t *label, real label_part) {
#pragma omp parallel for schedule(static) if (t->rows * t->classes > PARALLEL_THRESHOLD / 4)
  for (int64_t i = 0; i < t->blocks; i++) {
    int64_t first = i * t->block, last = min(t->rows, first + t->block);
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
  struct shape shape = call->input[1]->shape; /* a batch's rows are its first dimension */
  shape.size[shape.rank++] = 2;
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
      partial[i] = (t.classes <= NARROW ? cross_entropy_abreast : cross_entropy_block)(
          row, x, label, i * t.block, min(t.rows, (i + 1) * t.block), &t);
    *tensor_real(call->output) = (real)(loss_total(partial, t.blocks) * t.weight);
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
  struct tensor *flat = tensor_contiguous(tangent[0]);
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
    total += (double)loss_dot(p + r * t.classes, row, t.classes) - (double)(t.label * row[label[r] - 1]) -
             (double)(t.base * sum);
  }
  tensor_release(flat);
  tensor_release(softmax);
  return op_give(tensor_scalar((real)(total * t.weight)), result);
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
      const real mean = loss_dot(out + at, along + at, t.classes);
#pragma omp simd simdlen(16)
      for (int64_t j = at; j < at + t.classes; j++) out[j] *= weight * (along[j] - mean);
    }
  }
  tensor_release(direction);
  return op_give(product, result);
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

static const char *const cross_entropy_samples[] = {"4x5 labels5:4",
                                                    "4x5 labels5:4 label_smoothing=0.1",
                                                    "2x3x7 labels7:2x3 sum=1",
                                                    "300x10 labels10:300",
                                                    "17x32 labels32:17 label_smoothing=0.2",
                                                    "17x33 labels33:17 label_smoothing=0.2",
                                                    "2x3000 labels3000:2 label_smoothing=0.3",
                                                    "1x1 labels1:1",
                                                    "5 labels5:scalar",
                                                    "0x5 labels5:0 sum=1",
                                                    NULL};

static const struct op_loss cross_entropy_loss = {
    .hessian_product = cross_entropy_hessian_product, .hessian_diagonal = cross_entropy_hessian_diagonal, .sum = 1};

const struct op cross_entropy_ops[] = {
    OP("cross_entropy", "mean (or sum) over rows of -log softmax(logits)[label]: logits (…×C), labels (…) from 1 to C",
       cross_entropy_samples,
       PARAMETERS(TENSOR("logits"), GIVEN("labels", OP_INDICES), DEFAULT("label_smoothing", OP_NUMBER, 0),
                  DEFAULT("sum", OP_FLAG, 0)),
       OP_SAVES_INPUTS, cross_entropy_shape, cross_entropy_forward, cross_entropy_vjp, cross_entropy_jvp,
       .graph = cross_entropy_graph, .loss = &cross_entropy_loss),
    {.name = NULL}};
