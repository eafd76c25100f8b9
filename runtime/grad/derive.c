/* Derive: gradients as tensors, which may be on the tape and be differentiated again.

   Only what lies between outputs and inputs is walked. Where the gradients are to be differentiated, a row's gradient
   is recorded as the row says (op.h): as a product with its derivative (linear.h), or as formulas of other rows; of a
   row that is composed of others, those are recorded now and differentiated instead. */
#include "../base/memory.h"
#include "../base/profile.h"
#include "../ops/formula.h"
#include "anomaly.h"
#include "linear.h"
#include "tape.h"

/* A node between outputs and inputs, and the gradient of its output so far. */
struct place {
  struct node *node;
  bool leads; /* to one of the inputs, else it is one itself */
  struct tensor *gradient;
};

struct walk {
  int inputs;
  struct tensor *const *input;
  struct tensor **result;
  bool graph, values;
  int count, capacity;
  struct place *place; /* newest first */
};

/* ---- what lies between ---- */

static int add_place(struct walk *walk, struct node *node) {
  if (walk->count == walk->capacity) {
    int capacity = walk->capacity ? 2 * walk->capacity : 32;
    struct place *grown = memory_new((size_t)capacity, sizeof *grown);
    if (!grown) return STATUS_ERROR;
    for (int i = 0; i < walk->count; i++) grown[i] = walk->place[i];
    memory_delete(walk->place);
    walk->place = grown;
    walk->capacity = capacity;
  }
  walk->place[walk->count++] = (struct place){.node = node_retain(node)};
  return STATUS_OK;
}

/* The place of a node, or NULL. */
static struct place *find_place(const struct walk *walk, const struct node *node) {
  int low = 0, high = walk->count;
  while (low < high) {
    int middle = (low + high) / 2;
    if (walk->place[middle].node->order > node->order)
      low = middle + 1;
    else
      high = middle;
  }
  return low < walk->count && walk->place[low].node == node ? &walk->place[low] : NULL;
}

/* Whether a tensor, a leaf or one that this node has made, is an input. */
static bool is_input(const struct walk *walk, const struct tensor *leaf, const struct node *node) {
  for (int i = 0; i < walk->inputs; i++)
    if (leaf->requires_gradient ? walk->input[i] == leaf : node && walk->input[i]->node == node) return true;
  return false;
}

/* Input i of a node in the walk leads to an input of the walk, or is one. */
static bool is_needed(const struct walk *walk, const struct node *node, int i) {
  const struct tensor *input = node->call.input[i];
  const struct node *from = node->input_node[i];
  if (!input) return false;
  return is_input(walk, input, from) || (!input->requires_gradient && from && find_place(walk, from));
}

static int released_error(const struct node *node, int i) {
  return status_error(
      "grad: argument %d of %s, shape %s, was computed in a training step that has ended, and its gradient would be "
      "lost; detach() what one step hands to the next",
      i + 1, node->call.op->name, shape_text(&node->call.input[i]->shape));
}

/* Every node that the outputs were made of, down to the oldest of the inputs. */
static int collect(struct walk *walk, int outputs, struct tensor *const *output) {
  uint64_t oldest = UINT64_MAX;
  struct node *newest = NULL;
  for (int i = 0; i < walk->inputs; i++) {
    uint64_t order = walk->input[i]->requires_gradient ? 0 : walk->input[i]->node->order;
    if (order < oldest) oldest = order;
  }
  for (int i = 0; i < outputs; i++) {
    struct node *node = output[i]->requires_gradient ? NULL : output[i]->node;
    if (!node || node->order < oldest) continue;
    node->link = node;
    if (!newest || node->order > newest->order) newest = node;
  }
  int status = STATUS_OK;
  for (struct node *node = newest; node && node->order >= oldest; node = node->previous) {
    if (!node->link) continue;
    node->link = NULL;
    if (status == STATUS_OK) status = add_place(walk, node);
    for (int i = 0; i < node->call.input_count; i++) {
      struct node *from = node->input_node[i];
      if (!from || status != STATUS_OK) continue;
      if (from->released)
        status = released_error(node, i);
      else if (from->order >= oldest)
        from->link = from;
    }
  }
  return status;
}

/* Leaves in the walk only what leads to inputs, and the inputs. */
static void narrow(struct walk *walk) {
  int all = walk->count, first = all;
  /* Oldest first, moved to the end of the array, in which those that are known to lead lie sorted. */
  struct place *place = walk->place;
  for (int k = all - 1; k >= 0; k--) {
    struct node *node = place[k].node;
    struct walk known = {.inputs = walk->inputs, .input = walk->input, .place = place + first, .count = all - first};
    bool leads = false, own = false;
    for (int i = 0; i < node->call.input_count && !leads; i++) leads = is_needed(&known, node, i);
    for (int i = 0; i < walk->inputs && !own; i++) own = walk->input[i]->node == node;
    if (leads || own)
      place[--first] = (struct place){.node = node, .leads = leads};
    else
      node_release(node);
  }
  walk->count = all - first;
  for (int k = 0; k < walk->count; k++) place[k] = place[first + k];
}

static void end_walk(struct walk *walk) {
  for (int k = 0; k < walk->count; k++) {
    tensor_release(walk->place[k].gradient);
    node_release(walk->place[k].node);
  }
  memory_delete(walk->place);
}

/* ---- one node's gradient, recorded ---- */

/* The inputs recorded anew (so that each is known apart), the output composed of them, and the gradient of that. */
static int composed_gradient(struct node *node, struct op_call *call, struct tensor *gradient, const bool *needed,
                             struct tensor **result) {
  struct formula f = {0};
  int count = 0, status = STATUS_OK;
  size_t most = (size_t)call->input_count;
  struct tensor **from = memory_new(most, sizeof *from), **made = memory_new(most, sizeof *made);
  if (!from || !made) status = STATUS_ERROR;
  for (int i = 0; i < call->input_count && status == STATUS_OK; i++) {
    if (!needed[i]) continue;
    struct op_value sizes[OP_MAX_PARAMETERS] = {{.count = call->input[i]->shape.rank}};
    for (int d = 0; d < sizes[0].count; d++) sizes[0].list[d] = call->input[i]->shape.size[d];
    from[count] = call->input[i] = term_run(&f, "expand", 1, &call->input[i], sizes);
    status = from[count++] ? STATUS_OK : STATUS_ERROR;
  }
  struct tensor *output = status == STATUS_OK ? node->call.op->composed(&f, call) : NULL;
  if (status == STATUS_OK)
    status = output ? tape_gradients(1, &output, &gradient, count, from, true, true, made) : STATUS_ERROR;
  for (int i = 0, k = 0; i < call->input_count && status == STATUS_OK; i++)
    if (needed[i]) result[i] = made[k++];
  memory_delete(from);
  memory_delete(made);
  formula_end(&f, NULL);
  return status;
}

/* With the inputs and the output on the tape. */
static int formula_gradient(struct node *node, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct op_call call = node->call;
  struct tensor **input = memory_new((size_t)call.input_count, sizeof *input);
  struct tensor *output = linear_output(node);
  bool ready = input && output;
  for (int i = 0; i < call.input_count && ready; i++)
    if (node->call.input[i]) ready = (input[i] = linear_input(node, i)) != NULL;
  struct formula f = {0};
  for (int i = 0; i < call.input_count && input; i++) formula_keep(&f, input[i]);
  formula_keep(&f, output);
  call.input = input;
  call.output = output;
  int status = !ready           ? STATUS_ERROR
               : call.op->graph ? call.op->graph(&call, gradient, needed, result)
                                : composed_gradient(node, &call, gradient, needed, result);
  formula_end(&f, NULL);
  memory_delete(input);
  return status;
}

static int recorded_gradient(struct node *node, struct tensor *gradient, const bool *needed, struct tensor **result) {
  const struct op *op = node->call.op;
  if (node->function) {
    if (node->function->graph) return node->function->graph(node, gradient, needed, result);
  } else if (op->graph || op->composed) {
    return formula_gradient(node, gradient, needed, result);
  } else if (op->second || op->flags & OP_LINEAR) {
    for (int i = 0; i < node->call.input_count; i++)
      if (needed[i]) STATUS_TRY(linear_product(node, i, true, gradient, &result[i]));
    return STATUS_OK;
  }
  return status_error("%s has no second derivative: its gradient is not written in other ops", op->name);
}

/* ---- the walk ---- */

/* Adds g, taken over, to a gradient. */
static int add(const struct walk *walk, struct tensor **slot, struct tensor *g) {
  if (!walk->graph || !*slot) return gradient_sum(slot, g);
  struct tensor *sum = tape_run(op_find("add"), 2, (struct tensor *[]){*slot, g}, NULL);
  tensor_release(*slot);
  tensor_release(g);
  return op_give(sum, slot);
}

/* Adds g, taken over, to what is wanted of this tensor, and to what waits for its node. */
static int hand_on(const struct walk *walk, const struct tensor *tensor, struct node *node, struct tensor *g) {
  int status = STATUS_OK;
  struct place *place = tensor->requires_gradient || !node ? NULL : find_place(walk, node);
  if (place) return add(walk, &place->gradient, g);
  for (int i = 0; i < walk->inputs && status == STATUS_OK; i++)
    if (walk->input[i] == tensor) status = add(walk, &walk->result[i], tensor_retain(g));
  tensor_release(g);
  return status;
}

/* recorded_gradient, of affine ops the leaves' part apart, so that it needs no values. */
static int graph_gradient(const struct walk *walk, struct node *node, struct tensor *gradient, bool *needed,
                          struct tensor **result) {
  const struct op_call *call = &node->call;
  if (walk->values || !call->op->affine || !call->op->graph) return recorded_gradient(node, gradient, needed, result);
  bool leaves[OP_MAX_PARAMETERS] = {false}, any_leaf = false, any = false;
  for (int i = 0; i < call->input_count; i++) {
    leaves[i] = i > 0 && needed[i] && call->input[i]->requires_gradient;
    needed[i] = needed[i] && !leaves[i];
    any_leaf = any_leaf || leaves[i];
    any = any || needed[i];
  }
  int status = any ? recorded_gradient(node, gradient, needed, result) : STATUS_OK;
  if (status == STATUS_OK && any_leaf) {
    struct tensor *part[OP_MAX_PARAMETERS] = {NULL};
    bool values = tape_set_values(false);
    status = recorded_gradient(node, gradient, leaves, part);
    tape_set_values(values);
    for (int i = 0; i < call->input_count; i++)
      if (leaves[i]) result[i] = part[i], needed[i] = true;
  }
  return status;
}

static int pass(const struct walk *walk, const struct place *place) {
  struct node *node = place->node;
  const struct op_call *call = &node->call;
  STATUS_TRY(node_check_versions(node));
  struct tensor **result = memory_new((size_t)call->input_count, sizeof *result);
  bool *needed = memory_new((size_t)call->input_count, sizeof *needed);
  int status = result && needed ? STATUS_OK : STATUS_ERROR;
  for (int i = 0; i < call->input_count && status == STATUS_OK; i++) needed[i] = is_needed(walk, node, i);
  profile_begin("backward", call->op->name);
  if (status == STATUS_OK)
    status = walk->graph ? graph_gradient(walk, node, place->gradient, needed, result)
                         : node_vjp(node, place->gradient, needed, result);
  profile_end();
  for (int i = 0; i < call->input_count && anomaly_on && status == STATUS_OK; i++)
    if (result[i] && needed[i]) status = anomaly_check_backward(node, i, place->gradient, result[i]);
  for (int i = 0; i < call->input_count && result; i++) {
    if (!result[i]) continue;
    if (status == STATUS_OK && needed[i] && !shape_equal(&result[i]->shape, &call->input[i]->shape))
      status = node_shape_error(node, i, result[i]);
    if (status == STATUS_OK && needed[i])
      status = hand_on(walk, call->input[i], node->input_node[i], result[i]);
    else
      tensor_release(result[i]);
  }
  memory_delete(result);
  memory_delete(needed);
  return status;
}

/* A result is the caller's own: not part of what else there is. */
static int own_result(struct tensor **result) {
  if (!*result || ((*result)->references == 1 && (*result)->storage->references == 1 && tensor_is_contiguous(*result)))
    return STATUS_OK;
  struct tensor *copy = tensor_copy(*result);
  tensor_release(*result);
  return op_give(copy, result);
}

static int walk_places(struct walk *walk, int outputs, struct tensor *const *output, struct tensor *const *seed) {
  int status = STATUS_OK;
  for (int i = 0; i < outputs && status == STATUS_OK; i++)
    status = hand_on(walk, output[i], output[i]->node, tensor_retain(seed[i]));
  for (int k = 0; k < walk->count && status == STATUS_OK; k++) {
    struct place *place = &walk->place[k];
    if (!place->gradient) continue;
    for (int i = 0; i < walk->inputs; i++)
      if (walk->input[i]->node == place->node) walk->result[i] = tensor_retain(place->gradient);
    if (place->leads) status = pass(walk, place);
    tensor_release(place->gradient);
    place->gradient = NULL;
  }
  for (int i = 0; i < walk->inputs && status == STATUS_OK; i++)
    if (!tape_tracks(walk->result[i])) status = own_result(&walk->result[i]);
  return status;
}

int tape_gradients(int outputs, struct tensor *const *output, struct tensor *const *seed, int inputs,
                   struct tensor *const *input, bool graph, bool values, struct tensor **result) {
  /* What a script's function lets go of stays until the end. */
  for (int i = 0; i < outputs; i++) tensor_retain(output[i]), tensor_retain(seed[i]);
  for (int i = 0; i < inputs; i++) tensor_retain(input[i]), result[i] = NULL;
  struct walk walk = {.inputs = inputs, .input = input, .result = result, .graph = graph};
  walk.values = values || anomaly_on; /* which looks at them */
  bool was_enabled = tape_set_enabled(graph);
  op_runner *recorder = op_recorder;
  op_recorder = graph ? tape_run : NULL;
  int status = collect(&walk, outputs, output);
  narrow(&walk);
  tape_walk_begin();
  if (status == STATUS_OK) status = walk_places(&walk, outputs, output, seed);
  tape_walk_end();
  op_recorder = recorder;
  tape_set_enabled(was_enabled);
  end_walk(&walk);
  for (int i = 0; i < outputs; i++) tensor_release(output[i]), tensor_release(seed[i]);
  for (int i = 0; i < inputs; i++) {
    tensor_release(input[i]);
    if (status == STATUS_OK) continue;
    tensor_release(result[i]);
    result[i] = NULL;
  }
  return status;
}
