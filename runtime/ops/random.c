/* Random ops: the rows that draw random numbers. A call's stream decides them all. */
#include <math.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "op.h"

enum { BLOCK = 4096 };

/* result = x where kept, scaled by scale, else 0. */
static int keep(struct tensor *result, struct tensor *x, const uint8_t *kept, real scale) {
  struct tensor *flat = tensor_contiguous(x);
  if (!flat) return STATUS_ERROR;
  const real *from = tensor_real(flat);
  real *out = tensor_real(result);
  int64_t count = tensor_count(result);
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
  for (int64_t at = 0; at < count; at += BLOCK) {
    int64_t end = min(count, at + BLOCK);
#pragma omp simd
    for (int64_t i = at; i < end; i++) out[i] = kept[i] ? scale * from[i] : 0;
  }
  tensor_release(flat);
  return STATUS_OK;
}

static real dropout_scale(const struct op_call *call) { return (real)(1 / (1 - call->value[0].number)); }

static int dropout_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  double probability = call->value[0].number;
  if (!(probability >= 0 && probability < 1))
    return status_error("probability is %g: it goes from 0 to below 1", probability);
  *shape = call->input[0]->shape;
  return STATUS_OK;
}

/* The output's own memory first holds the uniform numbers, from which the mask is made: saved[0], uint8. */
static int dropout_forward(struct op_call *call) {
  struct tensor *mask = tensor_new(TYPE_UINT8, &call->output->shape);
  if (!mask) return STATUS_ERROR;
  const real probability = (real)call->value[0].number;
  const real *uniform = tensor_real(call->output);
  uint8_t *kept = tensor_uint8(mask);
  int64_t count = tensor_count(mask);
  random_fill_uniform(call->value[1].stream, tensor_real(call->output), count);
#pragma omp parallel for simd schedule(static) if (count > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < count; i++) kept[i] = uniform[i] >= probability;
  int status = keep(call->output, call->input[0], kept, dropout_scale(call));
  if (status == STATUS_OK && call->differentiable)
    call->saved[0] = mask;
  else
    tensor_release(mask);
  return status;
}

/* A new tensor: x with the mask of the forward pass. The mask may be a block of rows of the whole. */
static struct tensor *dropout_masked(const struct op_call *call, struct tensor *x) {
  struct tensor *mask = tensor_contiguous(call->saved[0]);
  struct tensor *result = mask ? tensor_new(TYPE_REAL, &mask->shape) : NULL;
  if (result && keep(result, x, tensor_uint8(mask), dropout_scale(call)) != STATUS_OK) {
    tensor_release(result);
    result = NULL;
  }
  tensor_release(mask);
  return result;
}

static int dropout_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                       struct tensor **result) {
  return needed[0] ? op_give(dropout_masked(call, gradient), result) : STATUS_OK;
}

static int dropout_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return op_give(dropout_masked(call, tangent[0]), result);
}

/* ---- multinomial ---- */

static int multinomial_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  int64_t count = call->value[0].list[0];
  *type = TYPE_INT32;
  *shape = call->input[0]->shape;
  if (shape->rank == 0) return status_error("weights are (…, classes), not a single value");
  if (count < 0) return status_error("count is %lld: it is 0 or more", (long long)count);
  if (shape->size[shape->rank - 1] > INT32_MAX) return status_error("too many classes to number them with int32");
  shape->size[shape->rank - 1] = count;
  return STATUS_OK;
}

/* Running sums of n weights; the number that are not 0, or an error. */
static int add_up(const real *weights, int64_t n, int64_t row, double *sums, int64_t *possible) {
  double total = 0;
  *possible = 0;
  for (int64_t i = 0; i < n; i++) {
    if (!(weights[i] >= 0 && weights[i] < INFINITY))
      return status_error("weight %lld of row %lld is %g: weights are finite and not below 0", (long long)i + 1,
                          (long long)row + 1, (double)weights[i]);
    *possible += weights[i] > 0;
    sums[i] = total += (double)weights[i];
  }
  return STATUS_OK;
}

/* The first of n ascending sums that is above the value; the last that is above its neighbour where none is. */
static int64_t first_above(const double *sums, int64_t n, double value) {
  int64_t low = 0, high = n - 1;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (sums[middle] > value)
      high = middle;
    else
      low = middle + 1;
  }
  while (low > 0 && sums[low] == sums[low - 1]) low--;
  return low;
}

/* Each number is drawn by the running sums' inverse; one that may not come again loses its weight. */
static int multinomial_forward(struct op_call *call) {
  struct tensor *left = tensor_copy(call->input[0]), *uniform = NULL;
  const int64_t n = left ? left->shape.size[left->shape.rank - 1] : 0, count = call->value[0].list[0];
  const bool replacement = call->value[1].list[0];
  const int64_t rows = count > 0 ? tensor_count(call->output) / count : 0, least = replacement ? 1 : count;
  struct shape pairs = shape_of(1, 2 * rows * count); /* of uniform numbers, which make a fine one */
  if (left) uniform = tensor_new(TYPE_REAL, &pairs);
  double *sums = uniform ? memory_new((size_t)n, sizeof *sums) : NULL;
  int status = sums ? STATUS_OK : STATUS_ERROR;
  if (sums) random_fill_uniform(call->value[2].stream, tensor_real(uniform), pairs.size[0]);
  for (int64_t at = 0; status == STATUS_OK && at < rows * count; at++) {
    real *weights = tensor_real(left) + at / count * n;
    int64_t possible = 0;
    if (at % count == 0 || !replacement) status = add_up(weights, n, at / count, sums, &possible);
    if (status == STATUS_OK && at % count == 0 && possible < least)
      status = status_error("row %lld has %lld weights above 0: too few for %lld different numbers",
                            (long long)(at / count + 1), (long long)possible, (long long)least);
    if (status != STATUS_OK) break;
    const real *draw = tensor_real(uniform) + 2 * at;
    int64_t class = first_above(sums, n, ((double)draw[0] + (double)draw[1] / (1 << 24)) * sums[n - 1]);
    tensor_int32(call->output)[at] = (int32_t)(class + 1);
    if (!replacement) weights[class] = 0;
  }
  memory_delete(sums);
  tensor_release(left);
  tensor_release(uniform);
  return status;
}

/* ---- rows ---- */

static const char *const dropout_samples[] = {
    "4x5", "131x140 probability=0.1", "4x5 probability=0", "1", "3x0", "scalar", NULL};

const struct op random_ops[] = {
    OP("dropout",
       "x with elements set to 0 at random, the rest scaled by 1 / (1 - probability) (Srivastava et al., 2014)",
       dropout_samples, PARAMETERS(TENSOR("x"), DEFAULT("probability", OP_NUMBER, 0.5), GIVEN("stream", OP_RANDOM)),
       OP_ROWWISE | OP_LINEAR, dropout_shape, dropout_forward, dropout_vjp, dropout_jvp, .batch_inputs = 1),
    OP("multinomial",
       "int32 classes (…, count), from 1, drawn by the weights (…, classes), which need not add up to 1; without "
       "replacement no class comes twice in a row",
       SAMPLES("positive:4x5", "positive:5 count=3", "positive:2x3x4 count=2 replacement=1", "positive:1", "0x3"),
       PARAMETERS(TENSOR("weights"), DEFAULT("count", OP_INTEGER, 1), DEFAULT("replacement", OP_FLAG, 0),
                  GIVEN("stream", OP_RANDOM)),
       OP_NO_GRADIENT, multinomial_shape, multinomial_forward, NULL, NULL),
    {.name = NULL}};
