/* Scan: running sums along a dimension. */
#include "../base/parallel.h"
#include "elementwise.h"
#include "fold.h"

static int cumsum_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  int dimension;
  if (*type == TYPE_UINT8) *type = TYPE_INT32;
  *shape = call->input[0]->shape;
  return op_resolve_dimension(call->value[0].list[0], shape->rank, &dimension);
}

/* to = running sums of n elements, step apart. */
static void running_sum_row(real *to, const real *from, int64_t n, int64_t step) {
  double total = 0;
  for (int64_t i = 0; i < n; i++) to[i * step] = (real)(total += from[i * step]);
}

/* The same for width neighbours at once. */
static void running_sum_columns(real *to, const real *from, int64_t n, int64_t step, int64_t width) {
  double total[FOLD_CHUNK] = {0};
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < width; j++) to[i * step + j] = (real)(total[j] += from[i * step + j]);
}

/* New tensor of running sums, from the end when backward. Kept in double: a sum of many has few errors. */
static struct tensor *running_sum(const struct op_call *call, struct tensor *given, bool backward) {
  int dimension;
  if (op_resolve_dimension(call->value[0].list[0], given->shape.rank, &dimension) != STATUS_OK) return NULL;
  struct tensor *x = tensor_contiguous(given), *out = x ? tensor_new(TYPE_REAL, &x->shape) : NULL;
  if (out && tensor_count(out) > 0) {
    int64_t n = x->shape.size[dimension], inner = 1;
    for (int i = dimension + 1; i < x->shape.rank; i++) inner *= x->shape.size[i];
    int64_t outer = tensor_count(x) / (n * inner), chunks = ceil_div(inner, FOLD_CHUNK);
    int64_t step = backward ? -inner : inner, first = backward ? (n - 1) * inner : 0;
#pragma omp parallel for collapse(2) schedule(static) if (outer * n * inner > PARALLEL_THRESHOLD)
    for (int64_t o = 0; o < outer; o++) {
      for (int64_t c = 0; c < chunks; c++) {
        int64_t start = c * FOLD_CHUNK, at = o * n * inner + first + start;
        int64_t width = min(FOLD_CHUNK, inner - start);
        if (width == 1)
          running_sum_row(tensor_real(out) + at, tensor_real(x) + at, n, step);
        else
          running_sum_columns(tensor_real(out) + at, tensor_real(x) + at, n, step, width);
      }
    }
  }
  tensor_release(x);
  return out;
}

static int cumsum_forward(struct op_call *call) {
  struct tensor *sums = running_sum(call, call->input[0], false);
  if (!sums) return STATUS_ERROR;
  tensor_release(call->output);
  call->output = sums;
  return STATUS_OK;
}

/* Of integers: in 64 bits, an error where int32 does not hold a sum. */
static int cumsum_integers(struct op_call *call) {
  int dimension;
  STATUS_TRY(op_dimension(call, &dimension));
  struct tensor *x = tensor_convert(call->input[0], TYPE_INT32);
  if (!x) return STATUS_ERROR;
  const struct shape *shape = &x->shape;
  int64_t n = shape->size[dimension], inner = 1, count = tensor_count(x);
  for (int i = dimension + 1; i < shape->rank; i++) inner *= shape->size[i];
  int status = STATUS_OK;
  for (int64_t column = 0; status == STATUS_OK && count > 0 && column < count / n; column++) {
    int64_t at = column / inner * n * inner + column % inner, total = 0;
    for (int64_t i = 0; status == STATUS_OK && i < n; i++, at += inner) {
      total += tensor_int32(x)[at];
      tensor_int32(call->output)[at] = (int32_t)total;
      if (total < INT32_MIN || total > INT32_MAX) status = integer_error(total, TYPE_INT32);
    }
  }
  tensor_release(x);
  return status;
}

static int cumsum_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  return needed[0] ? op_give(running_sum(call, gradient, true), result) : STATUS_OK;
}

static int cumsum_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return op_give(running_sum(call, tangent[0], false), result);
}

const struct op scan_ops[] = {
    OP("cumsum", "running sums along a dimension: element i is the sum of elements 1 to i; of integers int32",
       SAMPLES("5 dimension=1", "4x5 dimension=1", "4x5 dimension=2", "2x3x4 dimension=-2", "1x3 dimension=1",
               "0x3 dimension=2"),
       PARAMETERS(TENSOR("x"), GIVEN("dimension", OP_DIMENSION)), OP_LINEAR, cumsum_shape, cumsum_forward, cumsum_vjp,
       cumsum_jvp, .integers = cumsum_integers, .batch_inputs = 1, .rowwise = op_later_dimension),
    {.name = NULL}};
