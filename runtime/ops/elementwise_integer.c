/* Elementwise ops where no operand is of reals: computed in 64 bits and exact, as NumPy has them, except that a result
   which the output's type does not hold, and a division by 0, are errors. Operands are made int32 and contiguous first:
   work on labels and indices is small beside a training step. */
#include "../base/parallel.h"
#include "elementwise.h"

/* An input as int32 of the shape; a condition of reals as 0 and 1. */
static struct tensor *integers_of(struct tensor *input, const struct shape *shape) {
  struct tensor *zero = input->type == TYPE_REAL ? tensor_scalar(0) : NULL;
  struct tensor *from = input->type != TYPE_REAL ? tensor_retain(input) : zero ? op_run2("ne", input, zero) : NULL;
  struct tensor *wide = from ? tensor_expand(from, shape) : NULL;
  struct tensor *result = wide ? tensor_convert(wide, TYPE_INT32) : NULL;
  tensor_release(zero);
  tensor_release(from);
  tensor_release(wide);
  return result;
}

int integer_error(int64_t value, enum element_type type) {
  if (value == INTEGER_NONE) return status_error("an integer is divided by 0, or raised to a power below 0");
  return status_error("a result is %lld, which %s does not hold: convert to a wider type first (x:to(\"float32\"))",
                      (long long)value, type_name(type));
}

int elementwise_integers(struct op_call *call) {
  const struct elementwise_rule *rule = call->op->family;
  struct tensor *output = call->output, *input[3] = {NULL};
  for (int i = 0; i < 3; i++) {
    struct tensor *given = call->input[i < call->input_count ? i : 0];
    input[i] = i > 0 && !input[i - 1] ? NULL : integers_of(given, &output->shape);
  }
  if (!input[2]) {
    for (int i = 0; i < 3; i++) tensor_release(input[i]);
    return STATUS_ERROR;
  }
  const int32_t *x = tensor_int32(input[0]), *y = tensor_int32(input[1]), *z = tensor_int32(input[2]);
  const int64_t count = tensor_count(output), lowest = output->type == TYPE_INT32 ? INT32_MIN : 0;
  const int64_t highest = output->type == TYPE_INT32 ? INT32_MAX : UINT8_MAX;
  int64_t outside = count; /* the first whose result the type does not hold */
#pragma omp parallel for schedule(static) reduction(min : outside) if (count > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < count; i++) {
    int64_t value = rule->integers((struct integers){x[i], y[i], z[i], call->value});
    if (output->type == TYPE_REAL)
      tensor_real(output)[i] = (real)value;
    else if (value < lowest || value > highest)
      outside = min(outside, i);
    else if (output->type == TYPE_INT32)
      tensor_int32(output)[i] = (int32_t)value;
    else
      tensor_uint8(output)[i] = (uint8_t)value;
  }
  int status = STATUS_OK;
  if (outside < count)
    status =
        integer_error(rule->integers((struct integers){x[outside], y[outside], z[outside], call->value}), output->type);
  for (int i = 0; i < 3; i++) tensor_release(input[i]);
  return status;
}
