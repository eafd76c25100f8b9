/* Nodes: their life, the list of those that live, and whether what one saved is still what it was. */
#include "node.h"

#include "../base/memory.h"
#include "../base/place.h"

static struct node *first, *last;
static int live_count;
static uint64_t orders; /* that were given */

struct node *node_first(void) {
  return first;
}
struct node *node_last(void) {
  return last;
}
int node_count(void) { return live_count; }

static void link_node(struct node *node) {
  node->previous = last;
  if (last) last->next = node;
  if (!first) first = node;
  last = node;
  node->order = ++orders;
  live_count++;
}

static void unlink_node(struct node *node) {
  if (node->previous) node->previous->next = node->next;
  if (node->next) node->next->previous = node->previous;
  if (first == node) first = node->next;
  if (last == node) last = node->previous;
  node->previous = node->next = NULL;
  live_count--;
}

struct node *node_retain(struct node *node) {
  node->references++;
  return node;
}

static void take(struct tensor **slot) {
  tensor_release(*slot);
  *slot = NULL;
}

/* Releases the tensors that a node holds; its input nodes stay. */
static void drop_saved(struct node *node) {
  for (int i = 0; i < node->call.input_count; i++) take(&node->call.input[i]);
  for (int i = 0; i < OP_MAX_SAVED; i++) take(&node->call.saved[i]);
  take(&node->call.output);
  take(&node->gradient);
  take(&node->tangent);
  if (node->context) node->function->release(node->context);
  node->context = NULL;
}

/* One reference of *node fewer; when it was the last the node moves from the live list to the pile. */
static void lose(struct node *node, struct node **pile) {
  if (!node || --node->references > 0) return;
  if (!node->released) unlink_node(node);
  node->next = *pile;
  *pile = node;
}

/* Without recursion: a graph may be ten thousand nodes deep. */
void node_release(struct node *node) {
  struct node *pile = NULL;
  lose(node, &pile);
  while (pile) {
    struct node *gone = pile;
    pile = gone->next;
    for (int i = 0; i < gone->call.input_count; i++) lose(gone->input_node[i], &pile);
    if (!gone->released) drop_saved(gone);
    if (gone->call.op && gone->call.op->use) gone->call.op->use(gone->call.op, -1);
    memory_delete(gone);
  }
}

/* A tensor that keeps shape and type, and storage when the values are wanted later. */
static struct tensor *kept(const struct tensor *tensor, bool values) {
  struct tensor *copy = tensor_alias(tensor);
  if (copy && !values) {
    storage_release(copy->storage);
    copy->storage = NULL;
  }
  return copy;
}

void node_discard(struct node *node) {
  drop_saved(node);
  node_release(node);
}

struct node *node_new(int input_count, struct tensor *const *input, bool values) {
  size_t row = sizeof(struct tensor *) + sizeof(struct node *) + sizeof(uint32_t);
  struct node *node = memory_new(1, sizeof *node + (size_t)input_count * row);
  if (!node) return NULL;
  node->references = 1;
  node->place = place;
  node->released = true; /* not on the list of live ones */
  node->call.input_count = input_count;
  node->call.input = (struct tensor **)(node + 1);
  node->input_node = (struct node **)(node->call.input + input_count);
  node->input_version = (uint32_t *)(node->input_node + input_count);
  for (int i = 0; i < input_count; i++) {
    if (!input[i]) continue;
    node->call.input[i] = input[i]->requires_gradient ? tensor_retain(input[i]) : kept(input[i], values);
    if (!node->call.input[i]) {
      node_discard(node);
      return NULL;
    }
    if (input[i]->storage) node->input_version[i] = input[i]->storage->version;
    if (!input[i]->requires_gradient && input[i]->node) node->input_node[i] = node_retain(input[i]->node);
  }
  return node;
}

int node_keep_output(struct node *node, const struct tensor *output, bool values) {
  node->call.output = kept(output, values);
  return node->call.output ? STATUS_OK : STATUS_ERROR;
}

void node_attach(struct node *node, struct tensor *output) {
  node_release(output->node);
  output->node = node; /* the tensor owns the first reference */
  output->requires_gradient = false;
  node->output_version = output->storage->version;
  node->released = false;
  link_node(node);
}

void node_drop(struct node *node) {
  node_retain(node);
  unlink_node(node);
  node->released = true;
  drop_saved(node);
  for (int i = 0; i < node->call.input_count; i++) {
    node_release(node->input_node[i]);
    node->input_node[i] = NULL;
  }
  node_release(node);
}

int node_check_versions(const struct node *node) {
  const struct op_call *call = &node->call;
  if (call->op->flags & OP_SAVES_INPUTS)
    for (int i = 0; i < call->input_count; i++)
      if (call->input[i] && call->input[i]->storage && call->input[i]->storage->version != node->input_version[i])
        return status_error(
            "%s: argument %d, shape %s, was modified in place after the tape saved it; clone it before "
            "modifying it",
            call->op->name, i + 1, shape_text(&call->input[i]->shape));
  if (call->op->flags & OP_SAVES_OUTPUT && call->output->storage->version != node->output_version)
    return status_error(
        "%s: its result, shape %s, was modified in place after the tape saved it; clone it before "
        "modifying it",
        call->op->name, shape_text(&call->output->shape));
  return STATUS_OK;
}

int node_vjp(const struct node *node, struct tensor *gradient, const bool *needed, struct tensor **result) {
  return node->function ? node->function->backward(node->context, gradient, needed, result)
                        : node->call.op->vjp(&node->call, gradient, needed, result);
}

int node_shape_error(const struct node *node, int input, const struct tensor *gradient) {
  return status_error("%s: the gradient of argument %d has shape %s, the argument %s", node->call.op->name, input + 1,
                      shape_text(&gradient->shape), shape_text(&node->call.input[input]->shape));
}
