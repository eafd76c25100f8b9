/* Losses that are sums over pairs of elements, of prediction and target. Each is one pass over its inputs, forward and
   backward; the mean over elements, or the sum when asked (loss.h). */
#include "loss.h"
#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/vector_math.h"
#include "compose.h"

enum { BLOCK = LOSS_BLOCK };

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
  bool sum = call->value[call->op->loss->sum].list[0];
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

static int pair_forward(struct op_call *call) {
  const struct loss_rule *rule = call->op->family;
  struct tensor *pair[2];
  STATUS_TRY(contiguous_pair(call, pair));
  const real *prediction = tensor_real(pair[0]), *target = tensor_real(pair[1]), delta = pair_delta(call);
  int64_t count = tensor_count(pair[0]), blocks = ceil_div(count, BLOCK);
  double *partial = memory_acquire((size_t)blocks * sizeof *partial);
  if (partial) {
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
    for (int64_t i = 0; i < blocks; i++) {
      int64_t at = i * BLOCK;
      partial[i] = (double)rule->values(prediction + at, target + at, min(BLOCK, count - at), delta);
    }
    *tensor_real(call->output) = (real)(loss_total(partial, blocks) * pair_weight(call));
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
      pair_derivative(rule, k, out + at, prediction + at, target + at, min(BLOCK, count - at), factor, delta);
  }
  release_pair(pair);
  return status;
}

/* Adds Σ derivative by the input · tangent to total. */
static int pair_change(const struct op_call *call, struct tensor *const pair[2], int input, struct tensor *tangent,
                       double *total) {
  const struct loss_rule *rule = call->op->family;
  const real *prediction = tensor_real(pair[0]), *target = tensor_real(pair[1]), delta = pair_delta(call);
  int64_t count = tensor_count(pair[0]), blocks = ceil_div(count, BLOCK);
  struct tensor *flat = tensor_contiguous(tangent);
  double *partial = flat ? memory_acquire((size_t)blocks * sizeof *partial) : NULL;
  if (partial) {
    const real *change = tensor_real(flat);
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
    for (int64_t i = 0; i < blocks; i++) {
      real derivative[BLOCK];
      int64_t at = i * BLOCK, length = min(BLOCK, count - at);
      pair_derivative(rule, input, derivative, prediction + at, target + at, length, 1, delta);
      partial[i] = (double)loss_dot(derivative, change + at, length);
    }
    *total += loss_total(partial, blocks);
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
  return op_give(tensor_scalar((real)(total * pair_weight(call))), result);
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
      rule->curvature(out + at, prediction + at, target + at, along + at, min(BLOCK, count - at), factor, delta);
  }
  tensor_release(direction);
  release_pair(pair);
  return op_give(product, result);
}

/* ---- rows ---- */

static const char *const pair_samples[] = {"distinct:4x5 distinct:4x5",
                                           "distinct:3x4x2 distinct:3x4x2 sum=1",
                                           "distinct:70x60 distinct:70x60",
                                           "distinct:1 distinct:1",
                                           "3x0 3x0 sum=1",
                                           "scalar scalar",
                                           NULL};
static const char *const huber_samples[] = {"distinct:4x5 distinct:4x5", "distinct:4x5 distinct:4x5 delta=0.31 sum=1",
                                            "distinct:1 distinct:1", "3x0 3x0 sum=1", NULL};
static const char *const binary_samples[] = {"4x5 unit:4x5", "3x4x2 mask:3x4x2 sum=1", "70x60 unit:70x60",
                                             "1 unit:1",     "3x0 3x0 sum=1",          NULL};
/* A form for losses over pairs: further parameters last, `facet` says the place of sum among them. */
#define SUM DEFAULT("sum", OP_FLAG, 0)
#define PAIR_LOSS(word, text, tried, first, facet, rule, saves, formula, ...)                                      \
  OP(word, text, tried, PARAMETERS(TENSOR(first), TENSOR("target"), __VA_ARGS__), saves, pair_shape, pair_forward, \
     pair_vjp, pair_jvp, .composed = formula, .loss = facet, .family = rule)

static const struct op_loss mse_loss = {.hessian_product = pair_hessian_product, .quadratic = true, .sum = 0};
static const struct op_loss pair_loss = {.hessian_product = pair_hessian_product, .sum = 0};
static const struct op_loss huber_loss = {.hessian_product = pair_hessian_product, .sum = 1};
static const struct loss_rule mse_rule = {mse_values, mse_by_prediction, NULL, mse_curvature, false};
static const struct loss_rule l1_rule = {l1_values, l1_by_prediction, NULL, l1_curvature, false};
static const struct loss_rule huber_rule = {huber_values, huber_by_prediction, NULL, huber_curvature, true};
static const struct loss_rule binary_rule = {binary_values, binary_by_prediction, binary_by_target, binary_curvature,
                                             false};

const struct op loss_ops[] = {
    PAIR_LOSS("mse", "mean (or sum) over all elements of (prediction - target)²", pair_samples, "prediction", &mse_loss,
              &mse_rule, OP_SAVES_INPUTS, mse_composed, SUM),
    PAIR_LOSS("l1", "mean (or sum) over all elements of |prediction - target|", pair_samples, "prediction", &pair_loss,
              &l1_rule, OP_SAVES_INPUTS | OP_LINEAR, NULL, SUM),
    PAIR_LOSS(
        "huber",
        "mean (or sum) of d²/2 where |d| <= delta, else delta (|d| - delta/2), d = prediction - target (Huber, 1964)",
        huber_samples, "prediction", &huber_loss, &huber_rule, OP_SAVES_INPUTS, huber_composed,
        DEFAULT("delta", OP_NUMBER, 1), SUM),
    PAIR_LOSS("binary_cross_entropy",
              "mean (or sum) over all elements of the cross-entropy of sigmoid(logits) to targets in 0 to 1",
              binary_samples, "logits", &pair_loss, &binary_rule, OP_SAVES_INPUTS, binary_cross_entropy_composed, SUM),
    {.name = NULL}};
