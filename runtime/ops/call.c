/* Call: running a row of the op table, and small helpers that vjps share. */
#include <string.h>

#include "../base/vector.h"
#include "op.h"

static void forget_results(struct op_call *call) {
  tensor_release(call->output);
  call->output = NULL;
  for (int i = 0; i < OP_MAX_SAVED; i++) {
    tensor_release(call->saved[i]);
    call->saved[i] = NULL;
  }
}

enum element_type op_common_type(const struct op_call *call) {
  if (!call->op->integers) return TYPE_REAL;
  enum element_type common = TYPE_UINT8;
  const struct op_parameter *p = call->op->parameter;
  for (int i = 0; i < call->input_count; i++) {
    while (p->kind >= OP_NUMBER) p++;
    bool counts = call->input[i] && p->kind != OP_INDICES && p->kind != OP_ANY_TENSOR;
    if (counts && call->input[i]->type == TYPE_REAL) return TYPE_REAL;
    if (counts && call->input[i]->type == TYPE_INT32) common = TYPE_INT32;
    if (p->kind != OP_TENSORS) p++;
  }
  return common;
}

int op_call_forward(struct op_call *call) {
  struct shape shape = {0};
  enum element_type common = op_common_type(call), type = common;
  int status = call->op->shape(call, &shape, &type);
  if (status == STATUS_OK && !(call->op->flags & OP_VIEW)) {
    call->output = tensor_new(type, &shape);
    if (!call->output) status = STATUS_ERROR;
  }
  if (status == STATUS_OK) status = (common == TYPE_REAL ? call->op->forward : call->op->integers)(call);
  if (status == STATUS_OK) return STATUS_OK;
  forget_results(call);
  return status_prefix("%s", call->op->name);
}

struct tensor *op_run(const struct op *op, int input_count, struct tensor *const *input,
                      const struct op_value *values) {
  struct op_call call = {.op = op, .input_count = input_count, .input = (struct tensor **)input};
  if (values) memcpy(call.value, values, sizeof call.value);
  if (op_call_forward(&call) != STATUS_OK) return NULL;
  struct tensor *output = call.output;
  call.output = NULL;
  forget_results(&call);
  return output;
}

op_runner *op_recorder;

struct tensor *op_apply(const struct op *op, int input_count, struct tensor *const *input,
                        const struct op_value *values) {
  return (op_recorder ? op_recorder : op_run)(op, input_count, input, values);
}

int op_give(struct tensor *tensor, struct tensor **result) {
  *result = tensor;
  return tensor ? STATUS_OK : STATUS_ERROR;
}

int op_give_if(int status, struct tensor *tensor, struct tensor **result) {
  if (status == STATUS_OK) return op_give(tensor, result);
  tensor_release(tensor);
  return STATUS_ERROR;
}

static struct tensor *run_by_name(const char *name, int count, struct tensor *const *input) {
  const struct op *op = op_find(name);
  if (op) return op_run(op, count, input, NULL);
  status_error("there is no op %s", name);
  return NULL;
}

struct tensor *op_run1(const char *name, struct tensor *x) {
  return run_by_name(name, 1, &x);
}

struct tensor *op_run2(const char *name, struct tensor *x, struct tensor *y) {
  return run_by_name(name, 2, (struct tensor *[]){x, y});
}

struct tensor *op_sum_to_shape(struct tensor *t, const struct shape *shape) {
  if (shape_equal(&t->shape, shape)) return tensor_retain(t);
  struct op_value values[OP_MAX_PARAMETERS] = {0};
  int extra = t->shape.rank - shape->rank;
  for (int i = 0; i < t->shape.rank; i++)
    if (i < extra || (shape->size[i - extra] == 1 && t->shape.size[i] != 1)) values[0].list[values[0].count++] = i;
  struct tensor *sum = t;
  if (values[0].count > 0) {
    sum = op_run(op_find("sum"), 1, &t, values);
    if (!sum) return NULL;
  } else {
    tensor_retain(sum);
  }
  struct tensor *view = tensor_view_shape(sum, shape);
  tensor_release(sum);
  return view;
}

int op_accumulate(struct tensor *a, struct tensor *b) {
  struct tensor *other = tensor_expand(b, &a->shape);
  struct tensor *flat = other ? tensor_contiguous(other) : NULL;
  tensor_release(other);
  if (!flat) return STATUS_ERROR;
  tensor_modified(a);
  vector_combine(tensor_real(a), 1, tensor_real(flat), 1, tensor_count(a));
  tensor_release(flat);
  return STATUS_OK;
}

int op_resolve_dimension(int64_t given, int rank, int *dimension) {
  int64_t from_start = given < 0 ? given + rank : given;
  if (from_start < 0 || from_start >= rank)
    return status_error("dimension %lld is out of range: the tensor has %d (1 to %d, or -%d to -1)",
                        (long long)(given < 0 ? given : given + 1), rank, rank, rank);
  *dimension = (int)from_start;
  return STATUS_OK;
}

int op_dimension(const struct op_call *call, int *dimension) {
  return op_resolve_dimension(call->value[0].list[0], call->input[0]->shape.rank, dimension);
}

bool op_later_dimension(const struct op_call *call) {
  int dimension = 0;
  return op_dimension(call, &dimension) == STATUS_OK && dimension != 0;
}
