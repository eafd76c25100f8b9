/* Factors: from what backward left at a leaf to its dense gradient. */
#include "../base/memory.h"
#include "../base/profile.h"
#include "../base/vector.h"
#include "tape.h"

int factor_check(const struct factor *factor) {
  const struct op_call *call = &factor->node->call;
  if (factor->node->released || factor->input != 1) return STATUS_OK;
  if (call->input[0]->storage->version == factor->node->input_version[0]) return STATUS_OK;
  return status_error(
      "%s: its input, shape %s, was modified in place before the gradient of its weight was formed; "
      "clone it before modifying it",
      call->op->name, shape_text(&call->input[0]->shape));
}

/* Aᵀ G (or the sum of G's rows for a bias) of one use of the leaf. */
static struct tensor *product(const struct factor *factor) {
  const struct op_call *call = &factor->node->call;
  if (factor->node->released) {
    status_error("%s: the tape was released before this gradient was asked for; read it before optimizer:step()",
                 call->op->name);
    return NULL;
  }
  if (factor_check(factor) != STATUS_OK) return NULL;
  bool needed[3] = {0};
  struct tensor *result[3] = {0};
  needed[factor->input] = true;
  profile_begin("backward", call->op->name);
  if (profile_ended(call->op->vjp(call, factor->gradient, needed, result)) == STATUS_OK) return result[factor->input];
  for (int i = 0; i < 3; i++) tensor_release(result[i]);
  return NULL;
}

int gradient_dense(struct tensor *leaf, struct tensor **result) {
  struct gradient *gradient = leaf->gradient;
  *result = NULL;
  if (!gradient || (!gradient->dense && gradient->factor_count == 0)) return STATUS_OK;
  if (!gradient->total) {
    struct tensor *sum = NULL;
    if (gradient->dense) {
      sum = gradient->factor_count ? tensor_copy(gradient->dense) : tensor_retain(gradient->dense);
      if (!sum) return STATUS_ERROR;
    }
    for (int i = 0; i < gradient->factor_count; i++) {
      struct tensor *term = product(&gradient->factor[i]);
      int status = term ? STATUS_OK : STATUS_ERROR;
      if (term && sum) {
        status = op_accumulate(sum, term);
        tensor_release(term);
      } else {
        sum = term ? term : sum;
      }
      if (status != STATUS_OK) {
        tensor_release(sum);
        return STATUS_ERROR;
      }
    }
    gradient->total = tensor_contiguous(sum);
    tensor_release(sum);
    if (!gradient->total) return STATUS_ERROR;
    gradient->total_version = gradient->total->storage->version;
  }
  *result = gradient->total;
  return STATUS_OK;
}

int gradient_settle(struct tensor *leaf) {
  struct gradient *gradient = leaf->gradient;
  struct tensor *total;
  if (!gradient || gradient->factor_count == 0) return STATUS_OK;
  STATUS_TRY(gradient_dense(leaf, &total));
  tensor_release(gradient->dense);
  gradient->dense = tensor_retain(total);
  for (int i = 0; i < gradient->factor_count; i++) {
    node_release(gradient->factor[i].node);
    node_release(gradient->factor[i].root);
    tensor_release(gradient->factor[i].gradient);
  }
  gradient->factor_count = 0;
  return STATUS_OK;
}

int gradient_before_write(const struct tensor *x) {
  /* What is x's own no node has saved; leaves are kept as they are. */
  if (x->storage->references == 1 && !x->requires_gradient) return STATUS_OK;
  for (struct node *node = tape_first(), *next; node; node = next) {
    const struct op_call *call = &node->call;
    next = node->next;
    if (!call->op->affine || !call->input[0] || call->input[0]->storage != x->storage) continue;
    node_retain(node);
    for (int i = 1; i < call->input_count; i++)
      if (call->input[i] && call->input[i]->gradient && call->input[i]->gradient->factor_count > 0) {
        STATUS_TRY(gradient_settle(call->input[i]));
        call->input[i]->gradient->written = true;
      }
    next = node->next;
    node_release(node);
  }
  return STATUS_OK;
}

static int scale_tensor(struct tensor **slot, real scale) {
  if (!*slot) return STATUS_OK;
  struct tensor *scaled = tensor_copy(*slot); /* others may share the buffer */
  if (!scaled) return STATUS_ERROR;
  vector_combine(tensor_real(scaled), 0, tensor_real(scaled), scale, tensor_count(scaled));
  tensor_release(*slot);
  *slot = scaled;
  return STATUS_OK;
}

int gradient_scale(struct tensor *leaf, real scale) {
  struct gradient *gradient = leaf->gradient;
  if (!gradient || scale == 1) return STATUS_OK;
  STATUS_TRY(scale_tensor(&gradient->dense, scale));
  STATUS_TRY(scale_tensor(&gradient->total, scale));
  for (int i = 0; i < gradient->factor_count; i++) STATUS_TRY(scale_tensor(&gradient->factor[i].gradient, scale));
  return STATUS_OK;
}

void gradient_clear(struct tensor *leaf) {
  gradient_release(leaf->gradient);
  leaf->gradient = NULL;
}
