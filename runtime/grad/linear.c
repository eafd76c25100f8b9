/* Linear: products with the derivatives of recorded calls. */
#include "linear.h"

#include "../base/integer.h"
#include "../base/memory.h"
#include "../base/profile.h"
#include "../ops/formula.h"
#include "tape.h"

/* J t or Jᵀ t of a call; with a second derivative of the row, t is input 0 and what J is taken at input 1. */
struct linear {
  struct node *of;         /* owned: the call */
  const struct node *node; /* this step, which owns it */
  int input;
  bool adjoint;
};

static struct tensor *on_tape(const struct tensor *tensor, struct node *node) {
  struct tensor *alias = tensor_alias(tensor);
  if (alias && node) alias->node = node_retain(node);
  return alias;
}

struct tensor *linear_input(const struct node *node, int i) {
  struct tensor *input = node->call.input[i];
  return input->requires_gradient ? tensor_retain(input) : on_tape(input, node->input_node[i]);
}

struct tensor *linear_output(struct node *node) {
  return on_tape(node->call.output, node);
}

/* The values of J t or Jᵀ t, with nothing recorded. */
static int multiply(struct node *node, int input, bool adjoint, struct tensor *t, struct tensor **result) {
  const struct op_call *call = &node->call;
  *result = NULL;
  if (node->released)
    return status_error("%s: the tape was released before its second derivative was asked for", call->op->name);
  STATUS_TRY(node_check_versions(node));
  size_t count = (size_t)call->input_count;
  struct tensor **slot = memory_new(count, sizeof *slot);
  bool *needed = memory_new(count, sizeof *needed);
  op_runner *recorder = op_recorder;
  op_recorder = NULL;
  int status = slot && needed ? STATUS_OK : STATUS_ERROR;
  profile_begin(adjoint ? "backward" : "tangents", call->op->name);
  if (status == STATUS_OK && adjoint) {
    needed[input] = true;
    status = call->op->vjp(call, t, needed, slot);
    *result = slot[input];
    for (int i = 0; i < call->input_count; i++)
      if (i != input) tensor_release(slot[i]);
  } else if (status == STATUS_OK) {
    slot[input] = t;
    status = call->op->jvp(call, slot, result);
  }
  profile_end();
  op_recorder = recorder;
  memory_delete(slot);
  memory_delete(needed);
  return status;
}

/* direction · t · f″. */
static struct tensor *bent(struct formula *f, const struct op_call *call, struct tensor *direction, struct tensor *t) {
  return term_chain(f, term_chain(f, direction, t), call->op->second(f, call));
}

enum { BLOCK = 8192 }; /* elements of which a formula's terms stay in the L2 cache */

static bool is_whole(const struct tensor *t) { return !t->storage || tensor_is_contiguous(t); }

/* The same block by block, with nothing recorded. */
static int bent_in_blocks(const struct op_call *call, struct tensor *direction, struct tensor *t,
                          struct tensor **result) {
  const int64_t count = tensor_count(t);
  const struct shape line = shape_of(1, count);
  struct tensor *whole[] = {call->input[0], call->output, direction, t, tensor_new(TYPE_REAL, &t->shape)};
  int status = whole[4] ? STATUS_OK : STATUS_ERROR;
  for (int64_t start = 0; start < count && status == STATUS_OK; start += BLOCK) {
    struct formula f = {0};
    struct tensor *part[5];
    for (int i = 0; i < 5; i++) {
      struct tensor *flat = formula_keep(&f, tensor_alias(whole[i]));
      if (flat) flat->shape = line, flat->stride[0] = 1;
      part[i] = flat ? formula_keep(&f, tensor_narrow(flat, 0, start, min(BLOCK, count - start), 1)) : NULL;
      if (!part[i]) status = STATUS_ERROR;
    }
    struct op_call block = *call;
    block.input = part;
    block.output = part[1];
    struct tensor *values = status == STATUS_OK ? bent(&f, &block, part[2], part[3]) : NULL;
    status = values ? tensor_assign(part[4], values) : STATUS_ERROR;
    formula_end(&f, NULL);
  }
  return op_give_if(status, whole[4], result);
}

/* The same for a step, recorded when the recorder is set and the tensors are on the tape. */
static int bend(const struct linear *linear, struct tensor *direction, struct tensor **result) {
  const struct node *own = linear->node;
  struct formula f = {0};
  struct tensor *t = formula_keep(&f, linear_input(own, 0)), *x = formula_keep(&f, linear_input(own, 1));
  struct op_call call = linear->of->call;
  call.input = &x;
  call.output = formula_keep(&f, linear_output(linear->of));
  int status = t && x && call.output ? node_check_versions(linear->of) : STATUS_ERROR;
  if (status == STATUS_OK && t->storage->version != own->input_version[0])
    status =
        status_error("%s: the gradient that its derivative was multiplied by was modified in place", call.op->name);
  if (status == STATUS_OK) {
    bool whole = is_whole(x) && is_whole(call.output) && tensor_is_contiguous(t) && tensor_is_contiguous(direction);
    if (!op_recorder && whole && tensor_count(t) > BLOCK)
      status = bent_in_blocks(&call, direction, t, result);
    else
      status = formula_give(bent(&f, &call, direction, t), result);
  }
  formula_end(&f, NULL);
  return status;
}

static int linear_backward(void *context, struct tensor *gradient, const bool *needed, struct tensor **result) {
  const struct linear *linear = context;
  if (needed[0]) STATUS_TRY(multiply(linear->of, linear->input, !linear->adjoint, gradient, &result[0]));
  return linear->node->call.input_count > 1 && needed[1] ? bend(linear, gradient, &result[1]) : STATUS_OK;
}

static int linear_graph(struct node *node, struct tensor *gradient, const bool *needed, struct tensor **result) {
  const struct linear *linear = node->context;
  if (needed[0]) STATUS_TRY(linear_product(linear->of, linear->input, !linear->adjoint, gradient, &result[0]));
  return linear->node->call.input_count > 1 && needed[1] ? bend(linear, gradient, &result[1]) : STATUS_OK;
}

static int linear_jvp(void *context, struct tensor *const *tangent, struct tensor **result) {
  const struct linear *linear = context;
  struct tensor *by_x = NULL, *by_t = NULL;
  int status = STATUS_OK;
  if (tangent[0]) status = multiply(linear->of, linear->input, linear->adjoint, tangent[0], &by_t);
  if (status == STATUS_OK && linear->node->call.input_count > 1 && tangent[1]) status = bend(linear, tangent[1], &by_x);
  if (status == STATUS_OK && by_x && by_t) status = gradient_sum(&by_x, by_t), by_t = NULL;
  if (status == STATUS_OK) return op_give(by_x ? by_x : by_t, result);
  tensor_release(by_x);
  tensor_release(by_t);
  return STATUS_ERROR;
}

static void linear_release(void *context) {
  struct linear *linear = context;
  node_release(linear->of);
  memory_delete(linear);
}

static const struct tape_function product = {linear_backward, linear_graph, linear_jvp, linear_release};

int linear_product(struct node *node, int input, bool adjoint, struct tensor *t, struct tensor **result) {
  static const struct op derivative = {.name = "derivative"};
  const bool bends = node->call.op->second; /* then the values of t have a part in the second derivative */
  STATUS_TRY(multiply(node, input, adjoint, t, result));
  struct tensor *x = bends ? linear_input(node, input) : NULL;
  if (!*result || (bends && !x)) return *result ? STATUS_ERROR : STATUS_OK;
  int status = STATUS_OK;
  if (*result == t) { /* the identity */
  } else if (tape_enabled() && (tape_tracks(t) || tape_tracks(x))) {
    struct linear *linear = memory_new(1, sizeof *linear);
    struct node *own = linear ? node_new(bends ? 2 : 1, (struct tensor *[]){t, x}, bends) : NULL;
    if (own) own->call.op = &derivative;
    if (own && node_keep_output(own, *result, false) == STATUS_OK) {
      *linear = (struct linear){node_retain(node), own, input, adjoint};
      own->function = &product;
      own->context = linear;
      node_attach(own, *result);
    } else {
      if (own) node_discard(own);
      memory_delete(linear);
      status = STATUS_ERROR;
    }
  }
  tensor_release(x);
  return status;
}
