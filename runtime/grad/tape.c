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

static bool marks, refuses;        /* what is unrecorded */
static uint64_t marked, forgotten; /* marks so far, and how many of them before the tape was last empty */

void tape_mark_unrecorded(bool mark) { marks = mark; }

bool tape_refuse_unrecorded(bool refuse) {
  bool old = refuses;
  refuses = refuse;
  return old;
}

void tape_forget_unrecorded(void) {
  if (!marks) forgotten = marked;
}

static bool is_later(uint64_t mark, const struct tensor *tensor) { return mark > forgotten && mark > tensor->constant; }

bool tape_is_unrecorded(const struct tensor *tensor) {
  if (!tensor || tape_tracks(tensor)) return false;
  return is_later(tensor->unrecorded, tensor) || (tensor->storage && is_later(tensor->storage->unrecorded, tensor));
}

void tape_note_constant(struct tensor *tensor) { tensor->constant = marked; }

void tape_note_write(struct tensor *tensor, const struct tensor *source) {
  if (marks && (tape_tracks(source) || tape_is_unrecorded(source))) tensor->storage->unrecorded = ++marked;
}

void tape_note_overwrite(struct tensor *tensor, const struct tensor *source) {
  if (tape_tracks(source) || tape_is_unrecorded(source)) return;
  tape_note_constant(tensor);
  if (tensor_is_contiguous(tensor) && tensor_bytes(tensor) == tensor->storage->bytes) tensor->storage->unrecorded = 0;
}

void tape_note_made(struct tensor *output, int input_count, struct tensor *const *input) {
  bool mark = false;
  for (int i = 0; i < input_count && marks && !mark; i++) mark = tape_tracks(input[i]) || tape_is_unrecorded(input[i]);
  if (mark && output->type == TYPE_REAL && !tape_tracks(output)) output->unrecorded = ++marked;
}

static int check_recorded(const char *name, int input_count, struct tensor *const *input) {
  for (int i = 0; i < input_count; i++)
    if (tape_is_unrecorded(input[i]))
      return status_error(
          "%s: argument %d, shape %s, was computed in forward of a gls.fn, which is not recorded, and its part in the "
          "second derivative would be lost; compute it in backward, of the arguments that forward keeps (or keep it as "
          "gls.tensor(x), a constant)",
          name, i + 1, shape_text(&input[i]->shape));
  return STATUS_OK;
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
  bool record = false, derives = !(op->flags & (OP_NO_GRADIENT | OP_CONSTANT));
  if (enabled && derives)
    for (int i = 0; i < input_count && !record; i++) record = tape_tracks(input[i]);
  if (refuses && enabled && derives && check_recorded(op->name, input_count, input) != STATUS_OK) return NULL;
  if (!record) {
    struct tensor *output = op_run(op, input_count, input, values);
    if (derives && output) tape_note_made(output, input_count, input);
    return output;
  }

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
  bool right = !refuses || !record || check_recorded("fn", input_count, input) == STATUS_OK;
  struct node *node = record && right ? node_new(input_count, input, false) : NULL;
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
