/* Curvature: the Hessians of the losses that backward reached, and the batch that they are taken over. */
#include "curvature.h"

#include <stdio.h>
#include <string.h>

#include "../base/vector.h"
#include "rows.h"

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
      if (!rows_narrow(node, block, &narrowed)) return STATUS_ERROR;
      call = &narrowed;
    }
    struct tensor *product = NULL;
    double value = 0;
    int status = call->op->loss->hessian_product(call, b[i].tangent, &product);
    if (status == STATUS_OK) status = dot(a[i].tangent, product, block, &value);
    tensor_release(product);
    if (block.count) {
      if (call->value[call->op->loss->sum].list[0]) value *= (double)block.batch / (double)block.count;
      rows_narrow_release(node, &narrowed);
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
  for (struct node *node = node_first(); node && *fits; node = node->next) {
    if (!node->call.op->loss || node->loss_weight == 0) continue;
    *fits = loss_batch(&node->call) == batch;
    if (*fits) STATUS_TRY(add_shares(&node->call, (double)node->loss_weight, batch, share));
  }
  return STATUS_OK;
}

/* ---- how many samples ---- */

/* Which nodes share samples: link leads to a representative of those joined by what they were computed from. */
static struct node *representative(struct node *node) {
  while (node->link != node) node = node->link = node->link->link;
  return node;
}

/* Joins a node below the losses with its inputs' nodes. What was computed from a loss, or from something above one,
   stays apart (link NULL): a sum of losses joins nothing. */
static void join(struct node *node) {
  node->link = node;
  for (int i = 0; i < node->call.input_count; i++) {
    struct node *input = node->input_node[i];
    if (!input || input->released || !input->reached) continue;
    if (input->call.op->loss || !input->link) {
      node->link = NULL;
      return;
    }
  }
  for (int i = 0; i < node->call.input_count; i++) {
    struct node *input = node->input_node[i];
    if (input && !input->released && input->reached) representative(input)->link = representative(node);
  }
}

static int64_t terms_of(const struct op_call *loss) {
  const struct shape *shape = &loss->input[0]->shape;
  if (shape->rank == 0) return 0;
  int64_t last = shape->size[shape->rank - 1];
  return loss_has_classes(loss) && last > 0 ? shape_count(shape) / last : shape->size[0];
}

void tape_loss_rows(int64_t *batch, int64_t *terms) {
  *batch = *terms = 0;
  for (struct node *node = node_first(); node; node = node->next)
    if (node->reached) join(node);
  for (struct node *node = node_first(); node; node = node->next) {
    if (!node->link || !node->call.op->loss || node->loss_weight == 0) continue;
    struct node *samples = representative(node);
    if (samples->counted) continue; /* another loss over the same samples */
    samples->counted = true;
    if (*batch == 0) *batch = loss_batch(&node->call);
    *terms += terms_of(&node->call);
  }
  for (struct node *node = node_first(); node; node = node->next) node->link = NULL, node->counted = false;
}

/* ---- whether the curvature is known ---- */

/* Appends a name to a list; what does not fit is cut off. */
static void append(char *text, size_t size, const char *name) {
  size_t length = strlen(text);
  snprintf(text + length, size - length, "%s%s", length ? ", " : "", name);
}

static int unknown(const struct node *node, const struct tensor *leaf) {
  char path[128] = "", known[128] = "";
  for (const struct node *at = node; at; at = at->link == at ? NULL : at->link)
    append(path, sizeof path, at->call.op->name);
  for (int i = 0; i < op_count(); i++)
    if (op_at(i)->loss) append(known, sizeof known, op_at(i)->name);
  return status_error(
      "gls: learning_rate = \"auto\" needs a loss whose curvature is known in every part (%s, by the first argument), "
      "but the parameter of shape %s is reached by way of %s; give learning_rate a number, or say a penalty on weights "
      "by weight_decay",
      known, shape_text(&leaf->shape), path);
}

int tape_curvature_known(bool (*moves)(void *context, const struct tensor *leaf), void *context) {
  int status = STATUS_OK;
  for (struct node *node = node_last(); node && status == STATUS_OK; node = node->previous) {
    if (node->root) node->link = node;
    if (!node->link) continue;
    bool loss = node->call.op->loss && node->loss_weight != 0;
    for (int i = loss ? 1 : 0; i < node->call.input_count && status == STATUS_OK; i++) {
      const struct tensor *input = node->call.input[i];
      struct node *below = node->input_node[i];
      if (input && input->requires_gradient && moves(context, input))
        status = unknown(node, input);
      else if (below && !below->released && !below->link)
        below->link = node;
    }
  }
  for (struct node *node = node_first(); node; node = node->next) node->link = NULL;
  return status;
}
