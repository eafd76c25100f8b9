/* Factors: from what backward left at a leaf to its dense gradient. */
#include "../base/memory.h"
#include "../base/profile.h"
#include "../base/vector.h"
#include "tape.h"

/* Aᵀ G (or the sum of G's rows for a bias) of one use of the leaf. */
static struct tensor *product(const struct factor *factor) {
  const struct op_call *call = &factor->node->call;
  if (factor->node->released) {
    status_error("%s: the tape was released before this gradient was asked for; read it before optimizer:step()",
                 call->op->name);
    return NULL;
  }
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
  }
  *result = gradient->total;
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
