/* Curvature: the Hessians of the losses that backward reached, and the batch that they are taken over. */
#include "curvature.h"

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

void tape_loss_rows(int64_t *batch, int64_t *terms) {
  *batch = *terms = 0;
  for (struct node *node = node_first(); node; node = node->next) {
    if (!node->call.op->loss || node->loss_weight == 0) continue;
    const struct shape *shape = &node->call.input[0]->shape;
    if (shape->rank == 0) continue;
    *batch = loss_batch(&node->call);
    int64_t last = shape->size[shape->rank - 1];
    *terms = loss_has_classes(&node->call) && last > 0 ? shape_count(shape) / last : shape->size[0];
    return;
  }
}
