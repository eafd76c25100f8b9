/* Rows: recorded calls narrowed to some of the batch's rows. */
#include "rows.h"

#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"

bool loss_has_classes(const struct op_call *loss) {
  return loss->input_count > 1 && loss->input[1] && loss->input[1]->type == TYPE_INT32;
}

int64_t loss_batch(const struct op_call *loss) {
  const struct shape *shape = &loss->input[0]->shape;
  return shape->rank == 1 && loss_has_classes(loss) ? 1 : shape->rank > 0 ? shape->size[0] : 0;
}

static bool carries_batch(const struct tensor *t, struct row_block block) {
  return t && t->shape.rank > 0 && t->shape.size[0] == block.batch;
}

void rows_narrow_release(const struct node *node, struct op_call *narrowed) {
  for (int i = 0; i < narrowed->input_count; i++)
    if (narrowed->input && narrowed->input[i] != node->call.input[i]) tensor_release(narrowed->input[i]);
  for (int i = 0; i < OP_MAX_SAVED; i++)
    if (narrowed->saved[i] != node->call.saved[i]) tensor_release(narrowed->saved[i]);
  if (narrowed->output != node->call.output) tensor_release(narrowed->output);
  memory_delete(narrowed->input);
}

struct tensor *rows_of(const struct tensor *whole, struct row_block block) {
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

bool rows_of_loss(const struct node *node, struct row_block block) {
  return node->call.op->loss && loss_batch(&node->call) == block.batch;
}

/* Rows of this node's output come from the same rows of its inputs. */
bool rows_follow(const struct node *node, struct row_block block) {
  const struct op *op = node->call.op;
  bool rowwise = op->rowwise ? op->rowwise(&node->call) : op->flags & OP_ROWWISE;
  return rows_of_loss(node, block) || (rowwise && carries_batch(node->call.output, block));
}

/* Whether the call can be told which rows to read: its input is not a leaf, and rows lie one after the other. */
static bool reads_listed(const struct op_call *call, struct row_block block) {
  if (!block.row || !(call->op->flags & OP_LISTED_ROWS) || call->input[0]->requires_gradient) return false;
  const struct tensor *read[] = {call->input[0], call->output, call->saved[0]};
  for (size_t i = 0; i < sizeof read / sizeof *read; i++)
    if (read[i] && read[i]->storage && !tensor_is_contiguous(read[i])) return false;
  return true;
}

bool rows_narrow(const struct node *node, struct row_block block, struct op_call *narrowed) {
  const struct op *op = node->call.op;
  *narrowed = node->call;
  narrowed->input = NULL;
  bool loss = rows_of_loss(node, block), listed = reads_listed(&node->call, block);
  if (!rows_follow(node, block)) return false;
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
  rows_narrow_release(node, narrowed);
  return false;
}
