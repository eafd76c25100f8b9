/* Tape: recording calls as nodes. */
#include "tape.h"

#include <math.h>
#include <string.h>

#include "../base/profile.h"
#include "anomaly.h"

static bool enabled = true;

bool tape_enabled(void) { return enabled; }

bool tape_set_enabled(bool value) {
  bool old = enabled;
  enabled = value;
  return old;
}

bool tape_tracks(const struct tensor *tensor) {
  return tensor && (tensor->requires_gradient || (tensor->node && !tensor->node->released));
}

static bool computes = true; /* values */

bool tape_set_values(bool computed) {
  bool old = computes;
  computes = computed;
  return old;
}

/* The output of a call, all of it NaN. */
static int no_values(struct op_call *call) {
  struct shape shape = {0};
  enum element_type type = op_common_type(call);
  STATUS_TRY(call->op->shape(call, &shape, &type));
  STATUS_TRY(op_give(tensor_new(type, &shape), &call->output));
  return tensor_fill(call->output, (double)NAN);
}

static struct tensor *run_recorded(const struct op *op, int input_count, struct tensor *const *input,
                                   const struct op_value *values) {
  bool record = false;
  if (enabled && !(op->flags & (OP_NO_GRADIENT | OP_CONSTANT)))
    for (int i = 0; i < input_count && !record; i++) record = tape_tracks(input[i]);
  if (!record) return op_run(op, input_count, input, values);

  struct node *node = node_new(input_count, input, op->flags & OP_SAVES_INPUTS);
  if (!node) return NULL;
  struct tensor **kept_input = node->call.input;
  node->call.op = op;
  if (op->use) op->use(op, 1);
  node->call.differentiable = true;
  if (values) memcpy(node->call.value, values, sizeof node->call.value);
  node->call.input = (struct tensor **)input; /* forward sees the values */
  int status = computes || op->flags & OP_VIEW ? op_call_forward(&node->call) : no_values(&node->call);
  node->call.input = kept_input;
  struct tensor *output = node->call.output;
  node->call.output = NULL;
  if (status == STATUS_OK) status = node_keep_output(node, output, op->flags & OP_SAVES_OUTPUT);
  if (status != STATUS_OK) {
    tensor_release(output);
    node_discard(node);
    return NULL;
  }
  node_attach(node, output);
  return output;
}

/* What an op does whose kernel has not counted it: an operation for every element of the result. */
static void count_elements(const struct op *op, int input_count, struct tensor *const *input,
                           const struct tensor *output) {
  if (!output || op->flags & OP_VIEW || profile_counted()) return;
  double bytes = (double)tensor_bytes(output);
  for (int i = 0; i < input_count; i++)
    if (input[i]) bytes += (double)tensor_bytes(input[i]);
  profile_count((double)tensor_count(output), bytes);
}

struct tensor *tape_run(const struct op *op, int input_count, struct tensor *const *input,
                        const struct op_value *values) {
  profile_begin("forward", op->name);
  struct tensor *output = run_recorded(op, input_count, input, values);
  if (profile_on) count_elements(op, input_count, input, output);
  profile_end();
  if (!anomaly_on || !output || anomaly_check_forward(op, input_count, input, values, output) == STATUS_OK)
    return output;
  tensor_release(output);
  return NULL;
}

int tape_record_function(const struct tape_function *function, void *context, int input_count,
                         struct tensor *const *input, struct tensor *output) {
  static const struct op script_function = {.name = "fn"};
  bool record = false;
  for (int i = 0; i < input_count && enabled && !record; i++) record = tape_tracks(input[i]);
  struct node *node = record ? node_new(input_count, input, false) : NULL;
  if (!node || node_keep_output(node, output, false) != STATUS_OK) {
    function->release(context);
    if (node) node_discard(node);
    return record ? STATUS_ERROR : STATUS_OK;
  }
  node->call.op = &script_function;
  node->function = function;
  node->context = context;
  node_attach(node, output);
  return STATUS_OK;
}
