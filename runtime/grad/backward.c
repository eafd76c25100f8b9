/* Backward: reverse mode. One walk from the loss to the oldest node; the list of live nodes is in time's order, so
   every node's gradient is whole when its turn comes. */
#include "../base/memory.h"
#include "../base/place.h"
#include "../base/profile.h"
#include "anomaly.h"
#include "tape.h"

/* The storage of the gradient that backward started from, the caller's to change once backward has returned. */
static const struct storage *lent;

/* g itself, or a copy of what is lent, taking over g: what stays after backward. */
static struct tensor *to_keep(struct tensor *g) {
  if (g->storage != lent) return g;
  struct tensor *copy = tensor_copy(g);
  tensor_release(g);
  return copy;
}

/* Adds to a leaf's gradient; takes over g. */
static int leave(struct tensor *leaf, struct tensor *g) {
  g = to_keep(g);
  return g ? gradient_add(leaf, g) : STATUS_ERROR;
}

/* gradient: what the op's factors are made of. */
static int leave_factor(struct tensor *leaf, struct node *node, struct node *root, int input, struct tensor *gradient) {
  struct tensor *g = to_keep(tensor_retain(gradient));
  return g ? gradient_add_factor(leaf, node, root, g, input) : STATUS_ERROR;
}

/* Weight and bias of an affine op. */
static bool is_factor(const struct op_call *call, int input) { return call->op->affine && (input == 1 || input == 2); }

/* What a vjp does whose kernels have not counted it: an operation for every element that it gives. */
static void count_elements(const struct node *node, struct tensor *const *result) {
  if (node->call.op->flags & OP_VIEW || profile_counted()) return;
  double elements = 0, bytes = (double)tensor_bytes(node->gradient);
  for (int i = 0; i < node->call.input_count; i++) {
    if (!result[i]) continue;
    elements += (double)tensor_count(result[i]);
    bytes += 2 * (double)tensor_bytes(result[i]); /* with what it was computed from */
  }
  profile_count(elements, bytes);
}

/* Marks the inputs whose gradients the node's derivative is asked for. Factors are left at once, but for those of ops
   that are made of products: theirs are made of ∂L/∂input 0 (*inner). */
static int mark_needed(struct node *node, struct node *root, bool *needed, bool *any, bool *inner) {
  const struct op_call *call = &node->call;
  for (int i = 0; i < call->input_count; i++) {
    struct tensor *input = call->input[i];
    if (!input) continue;
    if (!input->requires_gradient || !is_factor(call, i)) {
      if (input->requires_gradient || node->input_node[i]) needed[i] = *any = true;
    } else if (call->op->affine->products) {
      needed[0] = *any = *inner = true;
    } else {
      STATUS_TRY(leave_factor(input, node, root, i, node->gradient));
    }
  }
  return STATUS_OK;
}

/* gradient: ∂L/∂input 0 of an affine op that is made of products. */
static int leave_inner_factors(struct node *node, struct node *root, struct tensor *gradient) {
  for (int i = 1; i <= 2; i++) {
    struct tensor *leaf = node->call.input[i];
    if (leaf && leaf->requires_gradient) STATUS_TRY(leave_factor(leaf, node, root, i, gradient));
  }
  return STATUS_OK;
}

static int make_gradients(struct node *node, struct node *root, bool inner, const bool *needed,
                          struct tensor **result) {
  STATUS_TRY(node_vjp(node, node->gradient, needed, result));
  if (inner) STATUS_TRY(leave_inner_factors(node, root, result[0]));
  for (int i = 0; i < node->call.input_count && anomaly_on; i++)
    if (result[i]) STATUS_TRY(anomaly_check_backward(node, i, node->gradient, result[i]));
  if (profile_on) count_elements(node, result);
  return STATUS_OK;
}

/* The gradient of input i, taken over, to where it belongs: nowhere when only factors were made of it. */
static int hand_on(struct node *node, int i, struct tensor *g) {
  struct tensor *input = node->call.input[i];
  struct node *from = node->input_node[i];
  bool is_leaf = input->requires_gradient, fits = shape_equal(&g->shape, &input->shape);
  if (fits && is_leaf) return leave(input, g);
  if (fits && from) return gradient_sum(&from->gradient, g);
  int status = is_leaf || from ? node_shape_error(node, i, g) : STATUS_OK;
  tensor_release(g);
  return status;
}

/* The gradient of each input of one node, handed on. */
static int step_back(struct node *node, struct node *root) {
  enum { FEW = 8 };
  bool few_needed[FEW] = {0}, any = false, inner = false;
  struct tensor *few_result[FEW] = {0};
  bool *needed = few_needed;
  struct tensor **result = few_result;
  int count = node->call.input_count;
  STATUS_TRY(node_check_versions(node)); /* a script's backward may have written */
  if (count > FEW) {
    needed = memory_new((size_t)count, sizeof *needed);
    result = memory_new((size_t)count, sizeof *result);
  }
  int status = needed && result ? mark_needed(node, root, needed, &any, &inner) : STATUS_ERROR;
  if (status == STATUS_OK && any) status = make_gradients(node, root, inner, needed, result);
  for (int i = 0; i < count && any; i++) {
    if (!result[i]) continue;
    if (status == STATUS_OK)
      status = hand_on(node, i, result[i]);
    else
      tensor_release(result[i]);
  }
  if (count > FEW) {
    memory_delete(needed);
    memory_delete(result);
  }
  return status;
}

/* The value of a gradient of rank 0. */
static real only_value(const struct tensor *t) { return tensor_count(t) == 1 ? *tensor_real(t) : 0; }

/* Marks what leads to root, and refuses what would end in a wrong gradient before any has been added: values that were
   written on, and tensors of a step that has ended. */
static int check_graph(struct node *root) {
  int status = STATUS_OK;
  root->link = root;
  for (struct node *node = root; node; node = node->previous) {
    if (!node->link) continue;
    node->link = NULL;
    if (status == STATUS_OK) status = node_check_versions(node);
    for (int i = 0; i < node->call.input_count && status == STATUS_OK; i++) {
      const struct tensor *leaf = node->call.input[i];
      if (leaf && leaf->watch) leaf->watch->last = node; /* the oldest use stays */
      struct node *input = node->input_node[i];
      if (input && input->released)
        status = status_error(
            "backward: argument %d of %s, shape %s, was computed in a training step that has ended, and its gradient "
            "would be lost; detach() what one step hands to the next, or call backward before optimizer:step()",
            i + 1, node->call.op->name, shape_text(&node->call.input[i]->shape));
      else if (input)
        input->link = root;
    }
  }
  return status;
}

/* Tells of the leaves whose last use this was. */
static int tell_watches(const struct node *node) {
  for (int i = 0; i < node->call.input_count; i++) {
    const struct tensor *leaf = node->call.input[i];
    if (!leaf || !leaf->watch || leaf->watch->last != node) continue;
    leaf->watch->last = NULL;
    STATUS_TRY(leaf->watch->ready(leaf->watch));
  }
  return STATUS_OK;
}

/* From the node root, whose output has this gradient (taken over), to the oldest. */
static int walk_back(struct node *root, struct tensor *gradient) {
  int status = check_graph(root);
  if (status != STATUS_OK) {
    tensor_release(gradient);
    return status;
  }
  root->gradient = gradient;
  root->root = true;
  tape_walk_begin();
  const char *outside = place;
  /* A function of a script's may let go of tensors, and so of nodes: this one stays, and knows its neighbours. */
  for (struct node *node = node_retain(root), *before; node; node = before) {
    bool scripts = node->gradient && node->function; /* then it is the script's to write on */
    if (scripts && !(node->gradient = to_keep(node->gradient))) status = STATUS_ERROR;
    if (node->gradient && status == STATUS_OK) {
      place = node->place;
      profile_begin("backward", node->call.op->name);
      status = step_back(node, root);
      profile_end();
      if (node->call.op->loss) node->loss_weight += only_value(node->gradient);
      node->reached = true;
    }
    if (status == STATUS_OK) status = tell_watches(node);
    tensor_release(node->gradient);
    node->gradient = NULL;
    before = node->previous ? node_retain(node->previous) : NULL;
    node_release(node);
  }
  place = outside;
  tape_walk_end();
  return status;
}

int tape_backward(struct tensor *loss, struct tensor *seed) {
  if (!tape_tracks(loss)) {
    if (loss->node)
      return status_error(
          "backward: this tensor's tape was released at the end of its training step; call backward "
          "before optimizer:step()");
    return status_error("backward: no parameter that requires a gradient leads to this tensor");
  }
  if (!seed && tensor_count(loss) != 1)
    return status_error(
        "backward: a loss has one element, this tensor has shape %s; reduce it, or give backward the "
        "gradient to start from",
        shape_text(&loss->shape));
  if (seed && !shape_equal(&seed->shape, &loss->shape))
    return status_error("backward: the gradient to start from has shape %s, the tensor %s", shape_text(&seed->shape),
                        shape_text(&loss->shape));
  struct tensor *start = seed ? tensor_retain(seed) : tensor_new(TYPE_REAL, &loss->shape);
  if (!start) return STATUS_ERROR;
  if (!seed && tensor_fill(start, 1) != STATUS_OK) {
    tensor_release(start);
    return STATUS_ERROR;
  }
  const struct storage *before = lent; /* a script's backward may call backward */
  op_runner *recorder = op_recorder;
  lent = seed ? seed->storage : NULL;
  op_recorder = NULL;
  int status = loss->requires_gradient ? leave(loss, start) : walk_back(loss->node, start);
  lent = before;
  op_recorder = recorder;
  return status;
}
