/* Random ops: the rows that draw random numbers. A call's stream decides them all. */
#include <math.h>

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

static const char *const dropout_samples[] = {
    "4x5", "131x140 probability=0.1", "4x5 probability=0", "1", "3x0", "scalar", NULL};

const struct op random_ops[] = {
    OP("dropout",
       "x with elements set to 0 at random, the rest scaled by 1 / (1 - probability) (Srivastava et al., 2014)",
       dropout_samples, PARAMETERS(TENSOR("x"), DEFAULT("probability", OP_NUMBER, 0.5), GIVEN("stream", OP_RANDOM)),
       OP_ROWWISE, dropout_shape, dropout_forward, dropout_vjp, dropout_jvp, .batch_inputs = 1),
    {.name = NULL}};
