/* Elementwise ops, the shared part: one kernel over operands of any strides, and the forward, vjp and jvp functions
   that all rows of elementwise.c use. */
#include "elementwise.h"

#include <string.h>

#include "../base/parallel.h"

/* Elements of a block: a few operands of it fit the L1 cache. Fixed, so that the cut, and with it the vectorised
   tails, do not depend on the number of threads. */
enum { BLOCK = 2048 };

struct run {
  elementwise_kernel *kernel;
  const struct op_value *value;
  real *result;
  const real *from[ELEMENTWISE_OPERANDS];
};

static void run_kernel(void *context, int64_t start, int64_t count) {
  const struct run *run = context;
  run->kernel(&(struct elements){.result = run->result + start,
                                 .x = run->from[ELEMENTWISE_X],
                                 .y = run->from[ELEMENTWISE_Y],
                                 .z = run->from[ELEMENTWISE_Z],
                                 .gradient = run->from[ELEMENTWISE_GRADIENT],
                                 .output = run->from[ELEMENTWISE_OUTPUT],
                                 .count = count,
                                 .value = run->value});
}

static void run_block(const struct elementwise_walk *walk, struct run run, int64_t start) {
  if (walk->all_whole) {
    elementwise_walk_block(walk, start, NULL, run.from, run_kernel, &run);
  } else {
    _Alignas(64) real packed[ELEMENTWISE_OPERANDS * BLOCK];
    elementwise_walk_block(walk, start, packed, run.from, run_kernel, &run);
  }
}

int elementwise_run(elementwise_kernel *kernel, const struct op_value *value, struct tensor *const *operand,
                    struct tensor *result) {
  struct elementwise_walk walk;
  struct run run = {.kernel = kernel, .value = value, .result = tensor_real(result)};
  struct tensor *opened[ELEMENTWISE_OPERANDS];
  STATUS_TRY(elementwise_open_operands(ELEMENTWISE_OPERANDS, operand, opened));
  int status = elementwise_walk_plan(&walk, &result->shape, ELEMENTWISE_OPERANDS, opened, BLOCK);
  if (status != STATUS_OK) {
  } else if (walk.count > PARALLEL_THRESHOLD) {
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < walk.count; start += BLOCK) run_block(&walk, run, start);
  } else {
    for (int64_t start = 0; start < walk.count; start += BLOCK) run_block(&walk, run, start);
  }
  elementwise_release_operands(ELEMENTWISE_OPERANDS, opened);
  return status;
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

bool elementwise_is(const struct op *op) { return op->forward == elementwise_forward || op->forward == where_forward; }

/* result = kernel over the operands, of which all but the tangent's are those rows that the call lists. */
static int run_listed(elementwise_kernel *kernel, const struct op_call *call, struct tensor *const *operand,
                      struct tensor *result) {
  int64_t rows = result->shape.size[0], width = rows > 0 ? tensor_count(result) / rows : 0;
  int64_t blocks = ceil_div(width, BLOCK);
  struct tensor *tangent = tensor_contiguous(operand[ELEMENTWISE_GRADIENT]);
  if (!tangent) return STATUS_ERROR;
  const struct tensor *x = operand[ELEMENTWISE_X], *output = operand[ELEMENTWISE_OUTPUT];
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_THRESHOLD)
  for (int64_t block = 0; block < rows * blocks; block++) {
    int64_t row = block / blocks, start = block % blocks * BLOCK;
    int64_t here = row * width + start, there = call->row[row] * width + start;
    kernel(&(struct elements){.result = tensor_real(result) + here,
                              .x = x ? tensor_real(x) + there : NULL,
                              .gradient = tensor_real(tangent) + here,
                              .output = output ? tensor_real(output) + there : NULL,
                              .count = min(BLOCK, width - start),
                              .value = call->value});
  }
  tensor_release(tangent);
  return STATUS_OK;
}

/* New tensor of the shape: direction · ∂output/∂input i. */
static struct tensor *along(const struct op_call *call, int i, struct tensor *direction, const struct shape *shape) {
  const struct elementwise_rule *rule = call->op->family;
  struct tensor *operand[ELEMENTWISE_OPERANDS] = {[ELEMENTWISE_GRADIENT] = direction};
  if (call->op->flags & OP_SAVES_INPUTS)
    for (int k = 0; k < call->input_count; k++) operand[ELEMENTWISE_X + k] = call->input[k];
  if (call->op->flags & OP_SAVES_OUTPUT) operand[ELEMENTWISE_OUTPUT] = call->output;
  struct tensor *product = tensor_new(TYPE_REAL, shape);
  if (!product) return NULL;
  int status = call->row ? run_listed(rule->derivative[i], call, operand, product)
                         : elementwise_run(rule->derivative[i], call->value, operand, product);
  if (status == STATUS_OK) return product;
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
  return op_give_if(status, sum, result);
}

/* ---- where: keeps a copy of the condition alone, not the values it chose from ---- */

/* direction · ∂output/∂input i */
static struct tensor *where_part(const struct op_call *call, int i, struct tensor *direction,
                                 const struct shape *shape) {
  const struct elementwise_rule *rule = call->op->family;
  struct tensor *operand[ELEMENTWISE_OPERANDS] = {[ELEMENTWISE_X] = call->saved[0], [ELEMENTWISE_GRADIENT] = direction};
  struct tensor *part = tensor_new(TYPE_REAL, shape);
  if (!part || elementwise_run(rule->derivative[i], NULL, operand, part) == STATUS_OK) return part;
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
  for (int i = 1; i <= 2; i++) { /* the condition has no gradient: zeros could become NaN on their way to its inputs */
    if (!needed[i]) continue;
    struct tensor *full = where_part(call, i, gradient, &gradient->shape);
    if (!full) return STATUS_ERROR;
    result[i] = op_sum_to_shape(full, &call->input[i]->shape);
    tensor_release(full);
    if (!result[i]) return STATUS_ERROR;
  }
  return STATUS_OK;
}

int where_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  const struct elementwise_rule *rule = call->op->family;
  struct shape shape;
  enum element_type type;
  STATUS_TRY(elementwise_shape(call, &shape, &type));
  if (tangent[1] && tangent[2]) {
    struct tensor *operand[ELEMENTWISE_OPERANDS] = {call->saved[0], tangent[1], tangent[2]};
    struct tensor *chosen = tensor_new(TYPE_REAL, &shape);
    if (!chosen) return STATUS_ERROR;
    return op_give_if(elementwise_run(rule->values, NULL, operand, chosen), chosen, result);
  }
  int i = tangent[1] ? 1 : 2;
  return op_give(tangent[i] ? where_part(call, i, tangent[i], &shape) : tensor_zeros(TYPE_REAL, &shape), result);
}
