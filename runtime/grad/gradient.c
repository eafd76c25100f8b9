/* Gradient: what backward leaves for a leaf, an array or products that are still to be formed. */
#include "gradient.h"

#include "../base/memory.h"
#include "../base/place.h"
#include "../base/profile.h"
#include "anomaly.h"
#include "../base/vector.h"

static void forget_factors(struct gradient *gradient) {
  for (int i = 0; i < gradient->factor_count; i++) {
    node_release(gradient->factor[i].node);
    node_release(gradient->factor[i].root);
    tensor_release(gradient->factor[i].gradient);
  }
  gradient->factor_count = 0;
}

static void delete_gradient(struct gradient *gradient) {
  if (!gradient) return;
  tensor_release(gradient->dense);
  tensor_release(gradient->total);
  forget_factors(gradient);
  memory_delete(gradient->factor);
  memory_delete(gradient);
}

void gradient_clear(struct tensor *leaf) {
  delete_gradient(leaf->gradient);
  leaf->gradient = NULL;
}

static void release_history(struct tensor *tensor) {
  node_release(tensor->node);
  delete_gradient(tensor->gradient);
  tensor->node = NULL;
  tensor->gradient = NULL;
}

/* Before main, so that there is no tensor whose history nobody would release. */
__attribute__((constructor)) static void install(void) { tensor_release_history = release_history; }

/* ---- adding ---- */

int gradient_sum(struct tensor **slot, struct tensor *g) {
  if (!*slot) {
    *slot = g;
    return STATUS_OK;
  }
  struct tensor *sum = *slot;
  if (sum->references > 1 || sum->storage->references > 1 || !tensor_is_contiguous(sum)) {
    sum = tensor_copy(*slot);
    tensor_release(*slot);
    *slot = sum;
  }
  int status = sum ? op_accumulate(sum, g) : STATUS_ERROR;
  tensor_release(g);
  return status;
}

static const char WRITTEN[] =
    "an input of it was modified in place between backward and step; clone it before modifying it";
static const char SUMMED[] =
    "backward was called several times before the optimizer was made; make it before the first (GLS keeps the factors "
    "of all, and it alone), or call zero_grad()";
static const char EDITED[] = "its .grad was written on; scale the loss, or give the optimizer clip";

static struct gradient *gradient_of(struct tensor *leaf) {
  if (!leaf->gradient) leaf->gradient = memory_new(1, sizeof *leaf->gradient);
  const struct tensor *total = leaf->gradient ? leaf->gradient->total : NULL;
  if (total && total->storage->version != leaf->gradient->total_version && gradient_settle(leaf, EDITED) != STATUS_OK)
    return NULL;
  if (leaf->gradient) {
    tensor_release(leaf->gradient->total);
    leaf->gradient->total = NULL;
  }
  return leaf->gradient;
}

int gradient_add(struct tensor *leaf, struct tensor *g) {
  struct gradient *gradient = gradient_of(leaf);
  if (!gradient) {
    tensor_release(g);
    return STATUS_ERROR;
  }
  return gradient_sum(&gradient->dense, g);
}

/* *joined: g was added to the factor of the same use, from an earlier backward pass. */
static int join_factor(struct gradient *gradient, const struct node *node, int input, struct tensor *g, bool *joined) {
  *joined = false;
  for (int i = gradient->factor_count - 1; i >= 0 && node->reached; i--) {
    struct factor *factor = &gradient->factor[i];
    if (factor->node != node || factor->input != input) continue;
    *joined = true;
    return gradient_sum(&factor->gradient, g);
  }
  return STATUS_OK;
}

/* Room for one factor more. */
static int grow(struct gradient *gradient) {
  if (gradient->factor_count < gradient->factor_capacity) return STATUS_OK;
  int capacity = gradient->factor_capacity ? 2 * gradient->factor_capacity : 2;
  struct factor *grown = memory_new((size_t)capacity, sizeof *grown);
  if (!grown) return STATUS_ERROR;
  for (int i = 0; i < gradient->factor_count; i++) grown[i] = gradient->factor[i];
  memory_delete(gradient->factor);
  gradient->factor = grown;
  gradient->factor_capacity = capacity;
  return STATUS_OK;
}

int gradient_add_factor(struct tensor *leaf, struct node *node, struct node *root, struct tensor *g, int input) {
  struct gradient *gradient = gradient_of(leaf);
  int status = gradient ? STATUS_OK : STATUS_ERROR;
  if (status == STATUS_OK && leaf->factor_readers == 0 && gradient->factor_count > 0 &&
      gradient->factor[0].root != root) {
    status = gradient_settle(leaf, SUMMED);
    gradient = gradient_of(leaf);
    if (!gradient) status = STATUS_ERROR;
  }
  if (status == STATUS_OK) {
    bool joined;
    STATUS_TRY(join_factor(gradient, node, input, g, &joined));
    if (joined) return STATUS_OK;
    status = grow(gradient);
  }
  if (status != STATUS_OK) {
    tensor_release(g);
    return STATUS_ERROR;
  }
  gradient->factor[gradient->factor_count++] =
      (struct factor){.node = node_retain(node), .root = node_retain(root), .gradient = g, .input = input};
  return STATUS_OK;
}

/* ---- forming ---- */

int gradient_check_factor(const struct factor *factor) {
  const struct op_call *call = &factor->node->call;
  if (factor->node->released || factor->input != 1 || call->op->affine->products) return STATUS_OK;
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
  if (gradient_check_factor(factor) != STATUS_OK) return NULL;
  bool needed[3] = {0};
  struct tensor *result[3] = {0};
  needed[factor->input] = true;
  const char *outside = place;
  place = factor->node->place;
  profile_begin("backward", call->op->name);
  const struct op_affine *affine = call->op->affine;
  int status =
      profile_ended((affine->products ? affine->products : call->op->vjp)(call, factor->gradient, needed, result));
  place = outside;
  if (status == STATUS_OK && anomaly_on)
    status = anomaly_check_backward(factor->node, factor->input, factor->gradient, result[factor->input]);
  if (status == STATUS_OK) return result[factor->input];
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

int gradient_settle(struct tensor *leaf, const char *reason) {
  struct gradient *gradient = leaf->gradient;
  struct tensor *total;
  if (!gradient || gradient->factor_count == 0) return STATUS_OK;
  STATUS_TRY(gradient_dense(leaf, &total));
  tensor_release(gradient->dense);
  gradient->dense = tensor_retain(total);
  forget_factors(gradient);
  gradient->lost = reason;
  return STATUS_OK;
}

int gradient_before_write(const struct tensor *x) {
  /* What is x's own no node has saved; leaves are kept as they are. */
  if (x->storage->references == 1 && !x->requires_gradient) return STATUS_OK;
  for (struct node *node = node_first(), *next; node; node = next) {
    const struct op_call *call = &node->call;
    next = node->next;
    if (!call->op->affine || !call->input[0] || call->input[0]->storage != x->storage) continue;
    node_retain(node);
    for (int i = 1; i < call->input_count; i++)
      if (call->input[i]) STATUS_TRY(gradient_settle(call->input[i], WRITTEN));
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
