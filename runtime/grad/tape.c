/* Tape: recording calls as nodes, and letting go of them. */
#include "tape.h"

#include <string.h>

#include "../base/memory.h"
#include "../base/profile.h"

static bool enabled = true;
static uint64_t sequence;
static struct node *first, *last;
static int live_count;

bool tape_enabled(void) { return enabled; }

bool tape_set_enabled(bool value) {
  bool old = enabled;
  enabled = value;
  return old;
}

bool tape_tracks(const struct tensor *tensor) {
  return tensor && (tensor->requires_gradient || (tensor->node && !tensor->node->released));
}

struct node *tape_first(void) {
  return first;
}
int tape_node_count(void) { return live_count; }

/* ---- nodes ---- */

static void link_node(struct node *node) {
  node->previous = last;
  if (last) last->next = node;
  if (!first) first = node;
  last = node;
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

/* ---- walks ---- */

static int walks;           /* that are under way */
static bool release_wanted; /* by a function of a script's that a walk has called */

void tape_walk_begin(void) { walks++; }

void tape_walk_end(void) {
  if (--walks > 0 || !release_wanted) return;
  release_wanted = false;
  tape_release();
}

/* Gradients that are products still to be formed of what the nodes hold. */
static void form_products(void) {
  for (struct node *node = last ? node_retain(last) : NULL, *before; node; node = before) {
    for (int i = 1; i < node->call.input_count && node->call.op->affine; i++)
      if (node->call.input[i] && node->call.input[i]->gradient) gradient_settle(node->call.input[i]);
    before = node->previous ? node_retain(node->previous) : NULL;
    node_release(node); /* which the factors may have been the last to hold */
  }
}

void tape_release(void) {
  if (walks > 0) {
    release_wanted = true;
    return;
  }
  profile_begin("memory", "tape release");
  form_products();
  while (last) {
    struct node *node = last;
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
  profile_end();
}

void gradient_release(struct gradient *gradient) {
  if (!gradient) return;
  tensor_release(gradient->dense);
  tensor_release(gradient->total);
  for (int i = 0; i < gradient->factor_count; i++) {
    node_release(gradient->factor[i].node);
    node_release(gradient->factor[i].root);
    tensor_release(gradient->factor[i].gradient);
  }
  memory_delete(gradient->factor);
  memory_delete(gradient);
}

static void release_history(struct tensor *tensor) {
  node_release(tensor->node);
  gradient_release(tensor->gradient);
  tensor->node = NULL;
  tensor->gradient = NULL;
}

/* Before main, so that there is no tensor whose history nobody would release. */
__attribute__((constructor)) static void install(void) { tensor_release_history = release_history; }

/* ---- recording ---- */

/* A tensor that keeps shape and type, and storage when the values are wanted later. */
static struct tensor *kept(const struct tensor *tensor, bool values) {
  struct tensor *copy = tensor_alias(tensor);
  if (copy && !values) {
    storage_release(copy->storage);
    copy->storage = NULL;
  }
  return copy;
}

/* A node with room for its inputs, unlinked, which keeps the inputs. */
static struct node *new_node(int input_count, struct tensor *const *input, bool values) {
  size_t row = sizeof(struct tensor *) + sizeof(struct node *) + sizeof(uint32_t);
  struct node *node = memory_new(1, sizeof *node + (size_t)input_count * row);
  if (!node) return NULL;
  node->references = 1;
  node->released = true; /* not on the list of live ones */
  node->call.input_count = input_count;
  node->call.input = (struct tensor **)(node + 1);
  node->input_node = (struct node **)(node->call.input + input_count);
  node->input_version = (uint32_t *)(node->input_node + input_count);
  for (int i = 0; i < input_count; i++) {
    if (!input[i]) continue;
    node->call.input[i] = input[i]->requires_gradient ? tensor_retain(input[i]) : kept(input[i], values);
    if (!node->call.input[i]) {
      drop_saved(node);
      node_release(node);
      return NULL;
    }
    node->input_version[i] = input[i]->storage->version;
    if (!input[i]->requires_gradient && tape_tracks(input[i])) node->input_node[i] = node_retain(input[i]->node);
  }
  return node;
}

static void hang(struct node *node, struct tensor *output) {
  node_release(output->node);
  output->node = node; /* the tensor owns the first reference */
  output->requires_gradient = false;
  node->output_version = output->storage->version;
  node->sequence = ++sequence;
  node->released = false;
  link_node(node);
}

static struct tensor *run_recorded(const struct op *op, int input_count, struct tensor *const *input,
                                   const struct op_value *values) {
  bool record = false;
  if (enabled && !(op->flags & (OP_NO_GRADIENT | OP_CONSTANT)))
    for (int i = 0; i < input_count && !record; i++) record = tape_tracks(input[i]);
  if (!record) return op_run(op, input_count, input, values);

  struct node *node = new_node(input_count, input, op->flags & OP_SAVES_INPUTS);
  if (!node) return NULL;
  struct tensor **kept_input = node->call.input;
  node->call.op = op;
  if (op->use) op->use(op, 1);
  node->call.differentiable = true;
  if (values) memcpy(node->call.value, values, sizeof node->call.value);
  node->call.input = (struct tensor **)input; /* forward sees the values */
  int status = op_call_forward(&node->call);
  node->call.input = kept_input;
  struct tensor *output = node->call.output;
  if (status == STATUS_OK) {
    node->call.output = kept(output, op->flags & OP_SAVES_OUTPUT);
    if (!node->call.output) status = STATUS_ERROR;
  }
  if (status != STATUS_OK) {
    if (output != node->call.output) tensor_release(output);
    drop_saved(node);
    node_release(node);
    return NULL;
  }
  hang(node, output);
  return output;
}

struct tensor *tape_run(const struct op *op, int input_count, struct tensor *const *input,
                        const struct op_value *values) {
  profile_begin("forward", op->name);
  struct tensor *output = run_recorded(op, input_count, input, values);
  profile_end();
  return output;
}

int tape_record_function(const struct tape_function *function, void *context, int input_count,
                         struct tensor *const *input, struct tensor *output) {
  static const struct op script_function = {.name = "fn"};
  bool record = false;
  for (int i = 0; i < input_count && enabled && !record; i++) record = tape_tracks(input[i]);
  struct node *node = record ? new_node(input_count, input, false) : NULL;
  if (node) node->call.output = kept(output, false);
  if (!node || !node->call.output) {
    function->release(context);
    if (node) {
      drop_saved(node);
      node_release(node);
    }
    return record ? STATUS_ERROR : STATUS_OK;
  }
  node->call.op = &script_function;
  node->function = function;
  node->context = context;
  hang(node, output);
  return STATUS_OK;
}
