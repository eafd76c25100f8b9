/* Elementwise ops, the shared part: broadcasting, packing of strided operands, threads, and the forward, vjp and jvp
   functions that all rows of elementwise.c use. */
#include "elementwise.h"

#include <string.h>

#include "../base/parallel.h"

/* Elements of a block: a few operands of it fit the first cache. Fixed, so that the cut, and with it the vectorised
   tails, do not depend on the number of threads. */
enum { BLOCK = 2048 };
/* Rows at least this long are handed to the kernel one by one; shorter ones are packed together. */
enum { ROW_MINIMUM = 64 };

/* Operands over the output's dimensions; neighbouring dimensions that all operands walk as one are joined. */
struct plan {
  elementwise_kernel *kernel;
  const struct op_value *value;
  real *result;
  int64_t count;
  int rank;
  int64_t size[TENSOR_MAX_RANK];
  const struct tensor *operand[ELEMENTWISE_OPERANDS];
  int64_t stride[ELEMENTWISE_OPERANDS][TENSOR_MAX_RANK];
  bool whole[ELEMENTWISE_OPERANDS]; /* contiguous reals over all of the output */
  bool all_whole;
};

static int64_t operand_stride(const struct tensor *t, const struct shape *shape, int dimension) {
  int own = dimension - (shape->rank - t->shape.rank);
  return own < 0 || t->shape.size[own] == 1 ? 0 : t->stride[own];
}

static int make_plan(struct plan *plan, const struct shape *shape, struct tensor *const *operand) {
  plan->all_whole = true;
  for (int k = 0; k < ELEMENTWISE_OPERANDS; k++) {
    const struct tensor *t = plan->operand[k] = operand[k];
    if (!t) continue;
    struct shape both;
    if (!shape_broadcast(&t->shape, shape, &both) || !shape_equal(&both, shape))
      return status_error("a tensor of shape %s does not broadcast to %s", shape_text(&t->shape), shape_text(shape));
    plan->whole[k] = t->type == TYPE_REAL && tensor_count(t) == plan->count && tensor_is_contiguous(t);
    plan->all_whole = plan->all_whole && plan->whole[k];
  }
  if (plan->all_whole) return STATUS_OK;
  for (int d = 0; d < shape->rank; d++) {
    if (shape->size[d] == 1) continue;
    bool joins = plan->rank > 0;
    int last = plan->rank - 1;
    for (int k = 0; k < ELEMENTWISE_OPERANDS && joins; k++)
      if (operand[k]) joins = plan->stride[k][last] == operand_stride(operand[k], shape, d) * shape->size[d];
    if (!joins) last = plan->rank++;
    plan->size[last] = joins ? plan->size[last] * shape->size[d] : shape->size[d];
    for (int k = 0; k < ELEMENTWISE_OPERANDS; k++)
      if (operand[k]) plan->stride[k][last] = operand_stride(operand[k], shape, d);
  }
  if (plan->rank == 0) plan->size[plan->rank++] = 1;
  return STATUS_OK;
}

/* out = count elements of t from offset on, as reals. */
static void pack(real *out, const struct tensor *t, int64_t offset, int64_t stride, int64_t count) {
  if (t->type == TYPE_REAL) {
    const real *in = tensor_real(t) + offset;
    if (stride == 0) {
      real value = *in;
      for (int64_t i = 0; i < count; i++) out[i] = value;
    } else if (stride == 1) {
      for (int64_t i = 0; i < count; i++) out[i] = in[i];
    } else {
      for (int64_t i = 0; i < count; i++) out[i] = in[i * stride];
    }
  } else if (t->type == TYPE_INT32) {
    const int32_t *in = tensor_int32(t) + offset;
    for (int64_t i = 0; i < count; i++) out[i] = (real)in[i * stride];
  } else {
    const uint8_t *in = tensor_uint8(t) + offset;
    for (int64_t i = 0; i < count; i++) out[i] = in[i * stride];
  }
}

static void run_kernel(const struct plan *plan, const real *const *from, int64_t start, int64_t count) {
  plan->kernel(&(struct elements){.result = plan->result + start,
                                  .x = from[ELEMENTWISE_X],
                                  .y = from[ELEMENTWISE_Y],
                                  .z = from[ELEMENTWISE_Z],
                                  .gradient = from[ELEMENTWISE_GRADIENT],
                                  .output = from[ELEMENTWISE_OUTPUT],
                                  .count = count,
                                  .value = plan->value});
}

/* Elements start..end-1 of the output. The walk goes run by run along the last dimension; long runs go to the kernel
   as they are (operands with stride 1 without a copy), short ones are gathered until the block is full. */
static void run_strided_block(const struct plan *plan, int64_t start, int64_t end) {
  _Alignas(64) real packed[ELEMENTWISE_OPERANDS][BLOCK];
  const real *from[ELEMENTWISE_OPERANDS] = {0};
  int64_t offset[ELEMENTWISE_OPERANDS] = {0}, index[TENSOR_MAX_RANK];
  int64_t filled_from[ELEMENTWISE_OPERANDS] = {0}, filled[ELEMENTWISE_OPERANDS] = {0}; /* repeats in packed */
  int last = plan->rank - 1;
  int64_t inner = plan->size[last], rest = start;
  bool by_row = inner >= ROW_MINIMUM;
  for (int d = last; d >= 0; d--) {
    index[d] = rest % plan->size[d];
    rest /= plan->size[d];
    for (int k = 0; k < ELEMENTWISE_OPERANDS; k++)
      if (plan->operand[k]) offset[k] += index[d] * plan->stride[k][d];
  }
  for (int64_t at = start; at < end;) {
    int64_t run = parallel_minimum(inner - index[last], end - at);
    for (int k = 0; k < ELEMENTWISE_OPERANDS; k++) {
      const struct tensor *t = plan->operand[k];
      if (!t) continue;
      int64_t stride = plan->stride[k][last];
      if (!by_row) {
        if (!plan->whole[k]) pack(packed[k] + (at - start), t, offset[k], stride, run);
      } else if (t->type == TYPE_REAL && stride == 1) {
        from[k] = tensor_real(t) + offset[k];
      } else if (stride != 0 || filled[k] < run || filled_from[k] != offset[k]) {
        pack(packed[k], t, offset[k], stride, run);
        from[k] = packed[k];
        filled_from[k] = offset[k];
        filled[k] = run;
      }
    }
    if (by_row) run_kernel(plan, from, at, run);
    at += run;
    index[last] += run;
    for (int k = 0; k < ELEMENTWISE_OPERANDS; k++) offset[k] += run * plan->stride[k][last];
    for (int d = last; d > 0 && index[d] == plan->size[d]; d--) {
      index[d] = 0;
      index[d - 1]++;
      for (int k = 0; k < ELEMENTWISE_OPERANDS; k++)
        offset[k] += plan->stride[k][d - 1] - plan->size[d] * plan->stride[k][d];
    }
  }
  if (by_row) return;
  for (int k = 0; k < ELEMENTWISE_OPERANDS; k++)
    if (plan->operand[k]) from[k] = plan->whole[k] ? tensor_real(plan->operand[k]) + start : packed[k];
  run_kernel(plan, from, start, end - start);
}

static void run_block(const struct plan *plan, int64_t start) {
  int64_t end = parallel_minimum(plan->count, start + BLOCK);
  if (!plan->all_whole) {
    run_strided_block(plan, start, end);
    return;
  }
  const real *from[ELEMENTWISE_OPERANDS] = {0};
  for (int k = 0; k < ELEMENTWISE_OPERANDS; k++)
    if (plan->operand[k]) from[k] = tensor_real(plan->operand[k]) + start;
  run_kernel(plan, from, start, end - start);
}

int elementwise_run(elementwise_kernel *kernel, const struct op_value *value, struct tensor *const *operand,
                    struct tensor *result) {
  struct plan plan = {.kernel = kernel, .value = value, .result = tensor_real(result), .count = tensor_count(result)};
  STATUS_TRY(make_plan(&plan, &result->shape, operand));
  if (plan.count > PARALLEL_THRESHOLD) {
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < plan.count; start += BLOCK) run_block(&plan, start);
  } else {
    for (int64_t start = 0; start < plan.count; start += BLOCK) run_block(&plan, start);
  }
  return STATUS_OK;
}

/* ---- what rows point to ---- */

void elementwise_same(const struct elements *e) { memcpy(e->result, e->gradient, (size_t)e->count * sizeof(real)); }

int elementwise_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  *shape = call->input[0]->shape;
  for (int i = 1; i < call->input_count; i++)
    if (!shape_broadcast(shape, &call->input[i]->shape, shape))
      return status_error("shapes do not broadcast: %s and %s", shape_text(shape), shape_text(&call->input[i]->shape));
  return STATUS_OK;
}

/* Where an input's first size is the batch's but its first dimension is another of the output's, or where a leaf has
   the batch, blocks of rows cannot be told from the whole. */
bool elementwise_rowwise(const struct op_call *call) {
  const struct shape *output = &call->output->shape;
  if (output->rank == 0) return false;
  for (int i = 0; i < call->input_count; i++) {
    const struct tensor *input = call->input[i];
    if (input->shape.rank == 0 || input->shape.size[0] != output->size[0]) continue;
    if (input->shape.rank != output->rank || input->requires_gradient) return false;
  }
  return true;
}

int elementwise_forward(struct op_call *call) {
  const struct elementwise_rule *rule = call->op->family;
  struct tensor *operand[ELEMENTWISE_OPERANDS] = {0};
  for (int i = 0; i < call->input_count; i++) operand[ELEMENTWISE_X + i] = call->input[i];
  return elementwise_run(rule->values, call->value, operand, call->output);
}

/* New tensor of the shape: direction · ∂output/∂input i. */
static struct tensor *along(const struct op_call *call, int i, struct tensor *direction, const struct shape *shape) {
  const struct elementwise_rule *rule = call->op->family;
  struct tensor *operand[ELEMENTWISE_OPERANDS] = {[ELEMENTWISE_GRADIENT] = direction};
  if (call->op->flags & OP_SAVES_INPUTS)
    for (int k = 0; k < call->input_count; k++) operand[ELEMENTWISE_X + k] = call->input[k];
  if (call->op->flags & OP_SAVES_OUTPUT) operand[ELEMENTWISE_OUTPUT] = call->output;
  struct tensor *product = tensor_new(TYPE_REAL, shape);
  if (!product || elementwise_run(rule->derivative[i], call->value, operand, product) == STATUS_OK) return product;
  tensor_release(product);
  return NULL;
}

int elementwise_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  const struct elementwise_rule *rule = call->op->family;
  for (int i = 0; i < call->input_count; i++) {
    if (!needed[i]) continue;
    struct tensor *full =
        rule->derivative[i] == elementwise_same ? tensor_retain(gradient) : along(call, i, gradient, &gradient->shape);
    if (!full) return STATUS_ERROR;
    result[i] = op_sum_to_shape(full, &call->input[i]->shape);
    tensor_release(full);
    if (!result[i]) return STATUS_ERROR;
  }
  return STATUS_OK;
}

/* The sum of the tangents' parts; a part is a fresh tensor, so the next can be added in place. */
static int add_part(struct tensor **sum, struct tensor *part) {
  if (!part) return STATUS_ERROR;
  if (!*sum) {
    *sum = part;
    return STATUS_OK;
  }
  int status = op_accumulate(*sum, part);
  tensor_release(part);
  return status;
}

int elementwise_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  const struct elementwise_rule *rule = call->op->family;
  struct shape shape;
  enum element_type type;
  STATUS_TRY(elementwise_shape(call, &shape, &type));
  struct tensor *sum = NULL;
  int status = STATUS_OK;
  if (rule->linear && call->input_count == 2 && tangent[0] && tangent[1]) {
    struct tensor *operand[ELEMENTWISE_OPERANDS] = {[ELEMENTWISE_X] = tangent[0], [ELEMENTWISE_Y] = tangent[1]};
    sum = tensor_new(TYPE_REAL, &shape);
    status = sum ? elementwise_run(rule->values, call->value, operand, sum) : STATUS_ERROR;
  } else {
    for (int i = 0; i < call->input_count && status == STATUS_OK; i++)
      if (tangent[i]) status = add_part(&sum, along(call, i, tangent[i], &shape));
  }
  if (status == STATUS_OK) {
    *result = sum;
    return STATUS_OK;
  }
  tensor_release(sum);
  return STATUS_ERROR;
}

/* ---- comparisons ---- */

/* Integers are compared as integers: the sign of their difference takes the place of x, and zero that of y. */
static struct tensor *sign_of_difference(const struct tensor *x, const struct tensor *y, const struct shape *shape) {
  struct tensor *wide_x = tensor_expand(x, shape), *wide_y = tensor_expand(y, shape);
  struct tensor *a = wide_x ? tensor_convert(wide_x, TYPE_INT32) : NULL;
  struct tensor *b = wide_y ? tensor_convert(wide_y, TYPE_INT32) : NULL;
  struct tensor *sign = a && b ? tensor_new(TYPE_REAL, shape) : NULL;
  if (sign) {
    const int32_t *p = tensor_int32(a), *q = tensor_int32(b);
    real *out = tensor_real(sign);
    int64_t count = tensor_count(sign);
#pragma omp simd
    for (int64_t i = 0; i < count; i++) out[i] = (real)((p[i] > q[i]) - (p[i] < q[i]));
  }
  tensor_release(wide_x);
  tensor_release(wide_y);
  tensor_release(a);
  tensor_release(b);
  return sign;
}

int comparison_forward(struct op_call *call) {
  struct tensor *x = call->input[0], *y = call->input[1];
  if (x->type == TYPE_REAL || y->type == TYPE_REAL) return elementwise_forward(call);
  const struct elementwise_rule *rule = call->op->family;
  struct tensor *sign = sign_of_difference(x, y, &call->output->shape);
  struct tensor *zero = tensor_scalar(0);
  struct tensor *operand[ELEMENTWISE_OPERANDS] = {[ELEMENTWISE_X] = sign, [ELEMENTWISE_Y] = zero};
  int status = sign && zero ? elementwise_run(rule->values, NULL, operand, call->output) : STATUS_ERROR;
  tensor_release(sign);
  tensor_release(zero);
  return status;
}

/* ---- where: keeps a copy of the condition alone, not the values it chose from ---- */

static void keep_true(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] != 0 ? e->gradient[i] : 0;
}

static void keep_false(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] != 0 ? 0 : e->gradient[i];
}

static struct tensor *where_part(const struct tensor *condition, bool chosen, struct tensor *direction,
                                 const struct shape *shape) {
  struct tensor *operand[ELEMENTWISE_OPERANDS] = {
      [ELEMENTWISE_X] = (struct tensor *)condition, [ELEMENTWISE_GRADIENT] = direction};
  struct tensor *part = tensor_new(TYPE_REAL, shape);
  if (!part || elementwise_run(chosen ? keep_true : keep_false, NULL, operand, part) == STATUS_OK) return part;
  tensor_release(part);
  return NULL;
}

int where_forward(struct op_call *call) {
  STATUS_TRY(elementwise_forward(call));
  if (!call->differentiable) return STATUS_OK;
  /* In the output's rank, so that its first dimension is the batch only when it has the batch's size there. */
  const struct tensor *condition = call->input[0];
  struct tensor *copy = tensor_copy(condition);
  if (!copy) return STATUS_ERROR;
  struct shape shape = {.rank = call->output->shape.rank};
  int extra = shape.rank - condition->shape.rank;
  for (int d = 0; d < shape.rank; d++) shape.size[d] = d < extra ? 1 : condition->shape.size[d - extra];
  call->saved[0] = tensor_view_shape(copy, &shape);
  tensor_release(copy);
  return call->saved[0] ? STATUS_OK : STATUS_ERROR;
}

int where_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  if (needed[0] && !(result[0] = tensor_zeros(TYPE_REAL, &call->input[0]->shape))) return STATUS_ERROR;
  for (int i = 1; i <= 2; i++) {
    if (!needed[i]) continue;
    struct tensor *full = where_part(call->saved[0], i == 1, gradient, &gradient->shape);
    if (!full) return STATUS_ERROR;
    result[i] = op_sum_to_shape(full, &call->input[i]->shape);
    tensor_release(full);
    if (!result[i]) return STATUS_ERROR;
  }
  return STATUS_OK;
}

static void choose(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] != 0 ? e->y[i] : e->z[i];
}

int where_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct shape shape;
  enum element_type type;
  STATUS_TRY(elementwise_shape(call, &shape, &type));
  if (tangent[1] && tangent[2]) {
    struct tensor *operand[ELEMENTWISE_OPERANDS] = {call->saved[0], tangent[1], tangent[2]};
    struct tensor *chosen = tensor_new(TYPE_REAL, &shape);
    if (!chosen) return STATUS_ERROR;
    if (elementwise_run(choose, NULL, operand, chosen) == STATUS_OK) {
      *result = chosen;
      return STATUS_OK;
    }
    tensor_release(chosen);
    return STATUS_ERROR;
  }
  if (tangent[1] || tangent[2])
    *result = where_part(call->saved[0], tangent[1] != NULL, tangent[1] ? tangent[1] : tangent[2], &shape);
  else
    *result = tensor_zeros(TYPE_REAL, &shape);
  return *result ? STATUS_OK : STATUS_ERROR;
}
