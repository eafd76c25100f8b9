/* Fuse: programs, and the functions of their rows. */
#include "fuse.h"

#include <string.h>

#include "../base/memory.h"

/* ---- building ---- */

static void use_row(const struct op *op, int change) { fuse_use((struct fuse *)op->family, change); }

struct fuse *fuse_new(int input_count, const enum element_type *type) {
  if (input_count < 1 || input_count > FUSE_INPUTS) {
    status_error("%d arguments given: 1 to %d are possible", input_count, FUSE_INPUTS);
    return NULL;
  }
  struct fuse *fuse = memory_new(1, sizeof *fuse);
  if (!fuse) return NULL;
  fuse->references = 1;
  fuse->input_count = fuse->value_count = input_count;
  for (int i = 0; i < input_count; i++) fuse->value[i].type = type[i];
  return fuse;
}

void fuse_use(struct fuse *fuse, int change) {
  fuse->references += change;
  if (fuse->references == 0) memory_delete(fuse);
}

static int add_value(struct fuse *fuse, const struct fuse_value *given, int *value) {
  if (fuse->value_count == FUSE_VALUES)
    return status_error("more than %d arguments, numbers and steps: cut the function in two", FUSE_VALUES);
  *value = fuse->value_count++;
  fuse->value[*value] = *given;
  return STATUS_OK;
}

int fuse_number(struct fuse *fuse, double number, int *value) {
  return add_value(fuse, &(struct fuse_value){.type = TYPE_REAL, .number = number}, value);
}

/* The op's checks (of numbers, mostly), over arguments of one element. */
static int check_call(const struct op *op, int argument_count, const struct op_value *values) {
  struct tensor one = {.type = TYPE_REAL}, *input[3] = {&one, &one, &one};
  struct op_call call = {.op = op, .input_count = argument_count, .input = input};
  if (values) memcpy(call.value, values, sizeof call.value);
  struct shape shape;
  enum element_type type = TYPE_REAL;
  return op->shape(&call, &shape, &type) == STATUS_OK ? STATUS_OK : status_prefix("%s", op->name);
}

int fuse_step(struct fuse *fuse, const struct op *op, int argument_count, const int *argument,
              const struct op_value *values, int *value) {
  if (!elementwise_is(op)) return status_error("%s is not elementwise: " FUSE_ADVICE, op->name);
  struct fuse_value step = {.type = TYPE_REAL, .op = op, .argument_count = argument_count};
  bool integers = false, reals = false;
  for (int i = 0; i < argument_count; i++) {
    step.argument[i] = argument[i];
    const struct fuse_value *given = &fuse->value[argument[i]];
    const enum element_type type = given->type;
    if (op->parameter[i].kind == OP_ANY_TENSOR) continue;
    integers = integers || type != TYPE_REAL;
    reals = reals || (type == TYPE_REAL && (given->op || argument[i] < fuse->input_count));
    if (type != TYPE_REAL && !op->integers)
      return status_error("%s: argument %d has type %s and must be %s", op->name, i + 1, type_name(type),
                          type_name(TYPE_REAL));
  }
  if (integers && !reals) return status_error("%s of integers alone is not fused", op->name);
  STATUS_TRY(check_call(op, argument_count, values));
  if (values) memcpy(step.value, values, sizeof step.value);
  return add_value(fuse, &step, value);
}

/* ---- the row ---- */

static const struct fuse *program(const struct op_call *call) { return call->op->family; }

/* Of the inputs that are used. */
static int fused_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct fuse *fuse = program(call);
  struct tensor *used[FUSE_INPUTS];
  struct op_call others = {.op = call->op, .input = used};
  for (int i = 0; i < call->input_count; i++)
    if (fuse->used[i]) used[others.input_count++] = call->input[i];
  return elementwise_shape(&others, shape, type);
}

static int fused_forward(struct op_call *call) {
  const struct fuse *fuse = program(call);
  struct tensor *operand[FUSE_INPUTS];
  for (int i = 0; i < call->input_count; i++) operand[i] = fuse->used[i] ? call->input[i] : NULL;
  return fuse_run(&fuse->forward, &call->output->shape, operand, (real *[]){tensor_real(call->output)});
}

static int fused_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  const struct fuse *fuse = program(call);
  struct fuse_plan plan;
  bool reached[FUSE_INPUTS];
  fuse_plan_backward(fuse, needed, reached, &plan);
  struct tensor *operand[FUSE_INPUTS + 1], *full[FUSE_INPUTS] = {0};
  real *values[FUSE_INPUTS];
  int results = 0, status = STATUS_OK;
  for (int i = 0; i < call->input_count; i++) {
    operand[i] = fuse->used[i] ? call->input[i] : NULL;
    if (!reached[i]) continue;
    full[i] = tensor_new(TYPE_REAL, &gradient->shape);
    if (full[i])
      values[results++] = tensor_real(full[i]);
    else
      status = STATUS_ERROR;
  }
  operand[call->input_count] = gradient;
  if (status == STATUS_OK && results > 0) status = fuse_run(&plan, &gradient->shape, operand, values);
  for (int i = 0; i < call->input_count; i++) {
    if (status == STATUS_OK && needed[i]) {
      const struct shape *shape = &call->input[i]->shape;
      result[i] = full[i] ? op_sum_to_shape(full[i], shape) : tensor_zeros(TYPE_REAL, shape);
      if (!result[i]) status = STATUS_ERROR;
    }
    tensor_release(full[i]);
  }
  return status;
}

static int fused_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  const struct fuse *fuse = program(call);
  struct shape shape;
  enum element_type type = TYPE_REAL;
  STATUS_TRY(fused_shape(call, &shape, &type));
  struct tensor *operand[2 * FUSE_INPUTS];
  bool given[FUSE_INPUTS];
  for (int i = 0; i < call->input_count; i++) {
    given[i] = fuse->used[i] && tangent[i];
    operand[i] = fuse->used[i] ? call->input[i] : NULL;
    operand[call->input_count + i] = given[i] ? tangent[i] : NULL;
  }
  struct fuse_plan plan;
  if (!fuse_plan_tangent(fuse, given, &plan)) return op_give(tensor_zeros(TYPE_REAL, &shape), result);
  struct tensor *change = tensor_new(TYPE_REAL, &shape);
  if (!change) return STATUS_ERROR;
  return op_give_if(fuse_run(&plan, &shape, operand, (real *[]){tensor_real(change)}), change, result);
}

/* Step by step, with their rows. */
static struct tensor *fused_composed(struct formula *f, const struct op_call *call) {
  const struct fuse *fuse = program(call);
  struct tensor *made[FUSE_VALUES];
  for (int v = 0; v < fuse->value_count; v++) {
    const struct fuse_value *step = &fuse->value[v];
    struct tensor *given[3] = {NULL};
    struct op_value values[OP_MAX_PARAMETERS] = {0};
    memcpy(values, step->value, sizeof step->value);
    for (int i = 0; i < step->argument_count; i++) given[i] = made[step->argument[i]];
    made[v] = v < fuse->input_count ? call->input[v]
              : step->op            ? term_run(f, step->op->name, step->argument_count, given, values)
                                    : term_number(f, step->number);
  }
  return made[fuse->result];
}

const struct op *fuse_finish(struct fuse *fuse, int result) {
  fuse->result = result;
  fuse_plan_forward(fuse, &fuse->forward);
  bool any = false;
  for (int i = 0; i < fuse->input_count; i++) any = any || fuse->used[i];
  if (!any) {
    status_error("the result does not depend on any argument");
    return NULL;
  }
  fuse->row = (struct op){.name = "fuse",
                          .parameter = {{.name = "arguments", .kind = OP_TENSORS}},
                          .flags = OP_ROWWISE | OP_SAVES_INPUTS,
                          .batch_inputs = ~0U,
                          .rowwise = elementwise_rowwise,
                          .shape = fused_shape,
                          .forward = fused_forward,
                          .vjp = fused_vjp,
                          .jvp = fused_jvp,
                          .composed = fused_composed,
                          .use = use_row,
                          .doc = "elementwise ops in one pass",
                          .family = fuse};
  return &fuse->row;
}
