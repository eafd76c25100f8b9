/* Forward mode: tangents over the recorded nodes, oldest first, for all rows of the batch or for some of them. */
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/profile.h"
#include "../base/vector.h"
#include "tape.h"

/* ---- some of the rows ---- */

static bool carries_batch(const struct tensor *t, struct row_block block) {
  return t && t->shape.rank > 0 && t->shape.size[0] == block.batch;
}

void node_narrow_release(const struct node *node, struct op_call *narrowed) {
  for (int i = 0; i < narrowed->input_count; i++)
    if (narrowed->input && narrowed->input[i] != node->call.input[i]) tensor_release(narrowed->input[i]);
  for (int i = 0; i < OP_MAX_SAVED; i++)
    if (narrowed->saved[i] != node->call.saved[i]) tensor_release(narrowed->saved[i]);
  if (narrowed->output != node->call.output) tensor_release(narrowed->output);
  memory_delete(narrowed->input);
}

/* The rows of a tensor: a view of a block, a copy of those that are listed (what keeps its shape alone has no values to
   copy). NULL when there is no memory. */
static struct tensor *rows_of(const struct tensor *whole, struct row_block block) {
  if (!block.row || !whole->storage) return tensor_narrow(whole, 0, block.row ? 0 : block.start, block.count, 1);
  struct shape shape = whole->shape;
  shape.size[0] = block.count;
  struct tensor *rows = tensor_new(whole->type, &shape);
  if (rows && tensor_is_contiguous(whole)) {
    size_t bytes = (size_t)(tensor_count(rows) / block.count) * type_size(whole->type);
    const char *from = (const char *)whole->storage->data + (size_t)whole->offset * type_size(whole->type);
#pragma omp parallel for schedule(static) if (tensor_count(rows) > PARALLEL_THRESHOLD)
    for (int64_t i = 0; i < block.count; i++)
      memcpy((char *)rows->storage->data + (size_t)i * bytes, from + (size_t)block.row[i] * bytes, bytes);
    return rows;
  }
  for (int64_t i = 0; rows && i < block.count; i++) {
    struct tensor *from = tensor_select(whole, 0, block.row[i]), *to = from ? tensor_select(rows, 0, i) : NULL;
    int status = to ? tensor_assign(to, from) : STATUS_ERROR;
    tensor_release(from);
    tensor_release(to);
    if (status == STATUS_OK) continue;
    tensor_release(rows);
    rows = NULL;
  }
  return rows;
}

/* *slot becomes the chosen rows, or, where they are listed in the call, a view of as many; false when there is no
   memory. */
static bool narrow(struct tensor **slot, struct row_block block, bool listed) {
  struct tensor *view = listed ? tensor_narrow(*slot, 0, 0, block.count, 1) : rows_of(*slot, block);
  if (!view) return false;
  *slot = view;
  return true;
}

/* Losses over classes average over all leading dimensions, the others' samples are the first dimension. */
static bool has_classes(const struct op_call *loss) {
  return loss->input_count > 1 && loss->input[1] && loss->input[1]->type == TYPE_INT32;
}

/* The samples of a loss; 0 where its prediction is a number. */
static int64_t batch_of(const struct op_call *loss) {
  const struct shape *shape = &loss->input[0]->shape;
  return shape->rank == 1 && has_classes(loss) ? 1 : shape->rank > 0 ? shape->size[0] : 0;
}

static bool is_loss_of(const struct node *node, struct row_block block) {
  return node->call.op->loss && batch_of(&node->call) == block.batch;
}

/* Rows of this node's output come from the same rows of its inputs. */
static bool narrows(const struct node *node, struct row_block block) {
  const struct op *op = node->call.op;
  bool rowwise = op->rowwise ? op->rowwise(&node->call) : op->flags & OP_ROWWISE;
  return is_loss_of(node, block) || (rowwise && carries_batch(node->call.output, block));
}

/* Whether the call can be told which rows to read: its input is not a leaf, and rows lie one after the other. */
static bool reads_listed(const struct op_call *call, struct row_block block) {
  if (!block.row || !(call->op->flags & OP_LISTED_ROWS) || call->input[0]->requires_gradient) return false;
  const struct tensor *read[] = {call->input[0], call->output, call->saved[0]};
  for (size_t i = 0; i < sizeof read / sizeof *read; i++)
    if (read[i] && read[i]->storage && !tensor_is_contiguous(read[i])) return false;
  return true;
}

bool node_narrow(const struct node *node, struct row_block block, struct op_call *narrowed) {
  const struct op *op = node->call.op;
  *narrowed = node->call;
  narrowed->input = NULL;
  bool loss = is_loss_of(node, block), listed = reads_listed(&node->call, block);
  if (!narrows(node, block)) return false;
  if (listed) narrowed->row = block.row;
  narrowed->input = memory_new((size_t)node->call.input_count, sizeof *narrowed->input);
  if (!narrowed->input) return false;
  memcpy(narrowed->input, node->call.input, (size_t)node->call.input_count * sizeof *narrowed->input);
  bool fits = true;
  for (int i = 0; i < narrowed->input_count && fits; i++) {
    const struct tensor *input = narrowed->input[i];
    bool batch_input = loss ? carries_batch(input, block)
                            : (op->batch_inputs >> (i < 31 ? i : 31) & 1) && carries_batch(input, block) &&
                                  (i == 0 || op->rowwise || input->shape.rank == node->call.output->shape.rank);
    if (batch_input) fits = !input->requires_gradient && narrow(&narrowed->input[i], block, listed);
  }
  for (int i = 0; i < OP_MAX_SAVED && fits; i++)
    if (carries_batch(narrowed->saved[i], block)) fits = narrow(&narrowed->saved[i], block, listed);
  if (fits && carries_batch(narrowed->output, block)) fits = narrow(&narrowed->output, block, listed);
  if (fits) return true;
  node_narrow_release(node, narrowed);
  return false;
}

/* ---- the pass ---- */

static void clear_tangents(void) {
  for (struct node *node = tape_first(); node; node = node->next) {
    tensor_release(node->tangent);
    node->tangent = NULL;
  }
}

/* tangent[i] of every input: borrowed. True when any is there. */
static bool gather(const struct node *node, const struct tangent_source *source, bool skip_weights,
                   struct tensor **tangent) {
  bool any = false;
  for (int i = 0; i < node->call.input_count; i++) {
    const struct tensor *input = node->call.input[i];
    if (!input) continue;
    if (input->requires_gradient)
      tangent[i] = skip_weights && i > 0 ? NULL : source->leaf(source->context, input);
    else if (node->input_node[i] && !node->input_node[i]->released)
      tangent[i] = node->input_node[i]->tangent;
    any = any || tangent[i];
  }
  return any;
}

static int advance(struct node *node, const struct op_call *call, struct tensor *known, struct tensor *const *tangent,
                   bool any, struct row_block block) {
  if (any) {
    if (node->function && !node->function->jvp)
      return status_error("fn: forward mode needs the function's jvp (gls.fn{ forward =, backward =, jvp = })");
    profile_begin("tangents", node->call.op->name);
    int status = node->function ? node->function->jvp(node->context, tangent, &node->tangent)
                                : call->op->jvp(call, tangent, &node->tangent);
    profile_end();
    STATUS_TRY(status);
  }
  if (!known) return STATUS_OK;
  struct tensor *rows = block.count ? rows_of(known, block) : tensor_retain(known);
  if (!rows) return STATUS_ERROR;
  if (!node->tangent) {
    node->tangent = rows;
    return STATUS_OK;
  }
  struct tensor *sum = node->tangent;
  int status = STATUS_OK;
  if (sum->references > 1 || sum->storage->references > 1 || !tensor_is_contiguous(sum)) {
    sum = tensor_copy(node->tangent);
    if (sum) {
      tensor_release(node->tangent);
      node->tangent = sum;
    } else {
      status = STATUS_ERROR;
    }
  }
  if (status == STATUS_OK) status = op_accumulate(sum, rows);
  tensor_release(rows);
  return status;
}

/* tangent: scratch, as many as the node's inputs, NULL each. *loss: how many losses came before. */
static int pass_node(struct node *node, const struct tangent_source *source, struct row_block block, bool *fits,
                     struct loss_tangent *losses, int *loss, struct tensor **tangent) {
  struct tensor *known = source->affine && node->call.op->affine ? source->affine(source->context, node) : NULL;
  bool any = gather(node, source, known != NULL, tangent);
  bool is_loss = losses && node->call.op->loss;
  int status = any && source->checks ? node_check_versions(node) : STATUS_OK;
  if (status == STATUS_OK && (any || known)) {
    struct op_call narrowed;
    const struct op_call *call = &node->call;
    if (is_loss) {
      if (node->loss_weight != 0 && tangent[0]) losses[*loss].tangent = tensor_retain(tangent[0]);
    } else {
      bool narrow_call = block.count && any; /* what is known already needs no call */
      if (block.count) *fits = !node->function && (any ? node_narrow(node, block, &narrowed) : narrows(node, block));
      if (narrow_call) call = &narrowed;
      if (*fits) status = advance(node, call, known, tangent, any, block);
      if (*fits && narrow_call) node_narrow_release(node, &narrowed);
    }
  }
  if (is_loss && node->loss_weight != 0) losses[(*loss)++].node = node;
  return status;
}

static int pass(const struct tangent_source *source, struct row_block block, bool *fits, struct loss_tangent *losses) {
  int loss = 0, status = STATUS_OK;
  struct node *first = tape_first();
  tape_walk_begin();
  /* As in backward: a node stays while a function of a script's may let go of it. */
  for (struct node *node = first ? node_retain(first) : NULL, *after; node; node = after) {
    struct tensor *few[8] = {0}, **tangent = few;
    if (node->call.input_count > 8 && status == STATUS_OK) {
      tangent = memory_new((size_t)node->call.input_count, sizeof *tangent);
      if (!tangent) status = STATUS_ERROR;
    }
    if (status == STATUS_OK && *fits) status = pass_node(node, source, block, fits, losses, &loss, tangent);
    if (tangent != few) memory_delete(tangent);
    after = node->next && status == STATUS_OK && *fits ? node_retain(node->next) : NULL;
    node_release(node);
  }
  tape_walk_end();
  return status;
}
int tape_tangents(const struct tangent_source *source, struct row_block block, bool *fits, struct loss_tangent **losses,
                  int *count) {
  *fits = true;
  *losses = NULL;
  *count = 0;
  for (struct node *node = tape_first(); node; node = node->next)
    if (node->call.op->loss && node->loss_weight != 0) {
      (*count)++;
      if (block.count && !is_loss_of(node, block)) *fits = false;
    }
  if (!*fits) return STATUS_OK;
  *losses = memory_new((size_t)*count, sizeof **losses);
  if (!*losses) return STATUS_ERROR;
  int status = pass(source, block, fits, *losses);
  clear_tangents();
  if (status != STATUS_OK || !*fits) {
    loss_tangents_release(*losses, *count);
    *losses = NULL;
    *count = 0;
  }
  return status;
}

void loss_tangents_release(struct loss_tangent *losses, int count) {
  for (int i = 0; i < count && losses; i++) tensor_release(losses[i].tangent);
  memory_delete(losses);
}

/* Σ a b, each row as often as the block says. */
static int dot(struct tensor *a, struct tensor *b, struct row_block block, double *result) {
  struct tensor *x = tensor_contiguous(a), *y = tensor_contiguous(b);
  int status = x && y ? STATUS_OK : STATUS_ERROR;
  if (status == STATUS_OK && block.row) {
    int64_t width = tensor_count(x) / block.count;
    *result = 0;
    for (int64_t i = 0; i < block.count; i++)
      *result += block.weight[i] * vector_dot(tensor_real(x) + i * width, tensor_real(y) + i * width, width);
  } else if (status == STATUS_OK) {
    *result = vector_dot(tensor_real(x), tensor_real(y), tensor_count(x));
  }
  tensor_release(x);
  tensor_release(y);
  return status;
}

int tape_curvature(const struct loss_tangent *a, const struct loss_tangent *b, int count, struct row_block block,
                   double *result) {
  *result = 0;
  for (int i = 0; i < count; i++) {
    struct node *node = a[i].node;
    if (!a[i].tangent || !b[i].tangent) continue;
    struct op_call narrowed;
    const struct op_call *call = &node->call;
    if (block.count) {
      if (!node_narrow(node, block, &narrowed)) return STATUS_ERROR;
      call = &narrowed;
    }
    struct tensor *product = NULL;
    double value = 0;
    int status = call->op->loss->hessian_product(call, b[i].tangent, &product);
    if (status == STATUS_OK) status = dot(a[i].tangent, product, block, &value);
    tensor_release(product);
    if (block.count) {
      if (call->value[call->op->loss->sum].list[0]) value *= (double)block.batch / (double)block.count;
      node_narrow_release(node, &narrowed);
    }
    STATUS_TRY(status);
    *result += (double)node->loss_weight * value;
  }
  return STATUS_OK;
}

/* trace of the Hessian of one loss, row by row of the batch: given by the op, or, where the Hessian is diagonal, its
   product with ones. */
static int add_shares(const struct op_call *call, double factor, int64_t batch, double *share) {
  const struct shape *shape = &call->input[0]->shape;
  int64_t width = batch ? shape_count(shape) / batch : 0;
  struct tensor *diagonal = NULL, *ones = tensor_new(TYPE_REAL, shape);
  int status = ones ? tensor_fill(ones, 1) : STATUS_ERROR;
  if (status == STATUS_OK)
    status = call->op->loss->hessian_diagonal ? call->op->loss->hessian_diagonal(call, &diagonal)
                                              : call->op->loss->hessian_product(call, ones, &diagonal);
  if (status == STATUS_OK)
    for (int64_t i = 0; i < batch; i++)
      for (int64_t j = 0; j < width; j++) share[i] += factor * (double)tensor_real(diagonal)[i * width + j];
  tensor_release(ones);
  tensor_release(diagonal);
  return status;
}

int tape_curvature_shares(int64_t batch, double *share, bool *fits) {
  memset(share, 0, (size_t)batch * sizeof *share);
  *fits = true;
  for (struct node *node = tape_first(); node && *fits; node = node->next) {
    if (!node->call.op->loss || node->loss_weight == 0) continue;
    *fits = batch_of(&node->call) == batch;
    if (*fits) STATUS_TRY(add_shares(&node->call, (double)node->loss_weight, batch, share));
  }
  return STATUS_OK;
}

void tape_loss_rows(int64_t *batch, int64_t *terms) {
  *batch = *terms = 0;
  for (struct node *node = tape_first(); node; node = node->next) {
    if (!node->call.op->loss || node->loss_weight == 0) continue;
    const struct shape *shape = &node->call.input[0]->shape;
    if (shape->rank == 0) continue;
    *batch = batch_of(&node->call);
    int64_t last = shape->size[shape->rank - 1];
    *terms = has_classes(&node->call) && last > 0 ? shape_count(shape) / last : shape->size[0];
    return;
  }
}

/* ---- jvp for scripts ---- */

struct given {
  int count;
  struct tensor *const *leaf, *const *tangent;
};

static struct tensor *given_tangent(void *context, const struct tensor *leaf) {
  const struct given *given = context;
  for (int i = 0; i < given->count; i++)
    if (given->leaf[i] == leaf) return given->tangent[i];
  return NULL;
}

int tape_jvp(struct tensor *output, int count, struct tensor *const *leaf, struct tensor *const *tangent,
             struct tensor **result) {
  for (int i = 0; i < count; i++)
    if (!shape_equal(&leaf[i]->shape, &tangent[i]->shape))
      return status_error("jvp: tangent %d has shape %s, its tensor %s", i + 1, shape_text(&tangent[i]->shape),
                          shape_text(&leaf[i]->shape));
  for (int i = 0; i < count; i++) {
    if (!leaf[i]->requires_gradient)
      return status_error("jvp: entry %d of the leaves, shape %s, is not a leaf that requires a gradient", i + 1,
                          shape_text(&leaf[i]->shape));
    for (int k = 0; k < i; k++)
      if (leaf[k] == leaf[i]) return status_error("jvp: entries %d and %d of the leaves are one tensor", k + 1, i + 1);
  }
  if (!tape_tracks(output))
    return status_error("jvp: no tensor that requires a gradient leads to this one on the present tape");
  struct given given = {count, leaf, tangent};
  if (output->requires_gradient) { /* a leaf itself */
    struct tensor *own = given_tangent(&given, output);
    return op_give(own ? tensor_copy(own) : tensor_zeros(TYPE_REAL, &output->shape), result);
  }
  struct node *last = node_retain(output->node);
  struct shape shape = output->shape;
  for (int i = 0; i < count; i++) tensor_retain(leaf[i]), tensor_retain(tangent[i]);
  struct tangent_source source = {.context = &given, .leaf = given_tangent, .checks = true};
  bool fits = true;
  int status = pass(&source, (struct row_block){0}, &fits, NULL);
  if (status == STATUS_OK) {
    *result = last->tangent ? tensor_copy(last->tangent) : tensor_zeros(TYPE_REAL, &shape);
    if (!*result) status = STATUS_ERROR;
  }
  clear_tangents();
  for (int i = 0; i < count; i++) tensor_release(leaf[i]), tensor_release(tangent[i]);
  node_release(last);
  return status;
}
