/* Forward mode: tangents over the recorded nodes, oldest first, for all rows of the batch or for some of them. */
#include "../base/memory.h"
#include "../base/place.h"
#include "../base/profile.h"
#include "tape.h"

static void clear_tangents(void) {
  for (struct node *node = node_first(); node; node = node->next) {
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
    const char *outside = place;
    place = node->place;
    profile_begin("tangents", node->call.op->name);
    int status = node->function ? node->function->jvp(node->context, tangent, &node->tangent)
                                : call->op->jvp(call, tangent, &node->tangent);
    profile_end();
    place = outside;
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
  if (node->tangent) return STATUS_OK; /* it is given */
  const struct op_affine *affine = node->call.op->affine;
  struct tensor *known = source->affine && affine && !affine->products ? source->affine(source->context, node) : NULL;
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
      if (block.count)
        *fits = !node->function && (any ? rows_narrow(node, block, &narrowed) : rows_follow(node, block));
      if (narrow_call) call = &narrowed;
      if (*fits) status = advance(node, call, known, tangent, any, block);
      if (*fits && narrow_call) rows_narrow_release(node, &narrowed);
    }
  }
  if (is_loss && node->loss_weight != 0) losses[(*loss)++].node = node;
  return status;
}

static int pass(const struct tangent_source *source, struct row_block block, bool *fits, struct loss_tangent *losses) {
  int loss = 0, status = STATUS_OK;
  struct node *first = node_first();
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
  for (struct node *node = node_first(); node; node = node->next)
    if (node->call.op->loss && node->loss_weight != 0) {
      (*count)++;
      if (block.count && !rows_of_loss(node, block)) *fits = false;
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

/* Every tensor that moves is a leaf or on the tape, of its tangent's shape, and there once. */
static int check_given(const struct given *given) {
  for (int i = 0; i < given->count; i++) {
    const struct tensor *leaf = given->leaf[i], *tangent = given->tangent[i];
    if (!shape_equal(&leaf->shape, &tangent->shape))
      return status_error("jvp: tangent %d has shape %s, its tensor %s", i + 1, shape_text(&tangent->shape),
                          shape_text(&leaf->shape));
    if (!tape_tracks(leaf))
      return status_error("jvp: entry %d of the inputs, shape %s, is no tensor that requires a gradient", i + 1,
                          shape_text(&leaf->shape));
    for (int k = 0; k < i; k++)
      if (given->leaf[k] == leaf || (leaf->node && given->leaf[k]->node == leaf->node))
        return status_error("jvp: entries %d and %d of the inputs are one tensor", k + 1, i + 1);
  }
  return STATUS_OK;
}

static struct tensor *tangent_of(const struct given *given, const struct tensor *output) {
  struct tensor *tangent = output->requires_gradient ? given_tangent((void *)given, output) : output->node->tangent;
  return tangent ? tensor_copy(tangent) : tensor_zeros(TYPE_REAL, &output->shape);
}

int tape_jvp(int outputs, struct tensor *const *output, int count, struct tensor *const *leaf,
             struct tensor *const *tangent, struct tensor **result) {
  struct given given = {count, leaf, tangent};
  for (int i = 0; i < outputs; i++) result[i] = NULL;
  STATUS_TRY(check_given(&given));
  for (int i = 0; i < outputs; i++)
    if (!tape_tracks(output[i]))
      return status_error("jvp: no tensor that requires a gradient leads to this one on the present tape");
  for (int i = 0; i < outputs; i++) tensor_retain(output[i]);
  for (int i = 0; i < count; i++) {
    tensor_retain(leaf[i]), tensor_retain(tangent[i]);
    if (!leaf[i]->requires_gradient) leaf[i]->node->tangent = tensor_retain(tangent[i]);
  }
  struct tangent_source source = {.context = &given, .leaf = given_tangent, .checks = true};
  op_runner *recorder = op_recorder;
  op_recorder = NULL;
  bool fits = true;
  int status = pass(&source, (struct row_block){0}, &fits, NULL);
  op_recorder = recorder;
  for (int i = 0; i < outputs && status == STATUS_OK; i++) status = op_give(tangent_of(&given, output[i]), &result[i]);
  clear_tangents();
  for (int i = 0; i < count; i++) tensor_release(leaf[i]), tensor_release(tangent[i]);
  for (int i = 0; i < outputs; i++) {
    tensor_release(output[i]);
    if (status == STATUS_OK) continue;
    tensor_release(result[i]);
    result[i] = NULL;
  }
  return status;
}
