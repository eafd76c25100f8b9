/* Factors: what backward left at a weight, all of the weight's uses stacked. */
#include <string.h>

#include "../base/integer.h"
#include "../base/memory.h"
#include "system.h"

/* Patches that stand for all, where the caller leaves it to us. */
enum { PATCHES_AN_IMAGE = 5, PATCHES_LEAST = 128, PATCHES_MOST = 512 };

static const struct factor *next_use(const struct gls_system *system, int *i) {
  const struct gradient *gradient = system->weight->gradient;
  while (*i < gradient->factor_count) {
    const struct factor *factor = &gradient->factor[(*i)++];
    if (factor->input == 1 && !factor->node->released) return factor;
  }
  return NULL;
}

static struct tensor *bias_of_call(const struct op_call *call) { return call->input_count > 2 ? call->input[2] : NULL; }

int factors_open(struct gls_system *system, struct tensor *weight, struct tensor *const *parameter, int count,
                 bool *is_layer) {
  *is_layer = false;
  system->weight = weight;
  if (!weight->gradient) return STATUS_OK;
  if (weight->gradient->lost)
    return status_error("gls: the factors of the weight of shape %s are gone: %s", shape_text(&weight->shape),
                        weight->gradient->lost);
  int i = 0, uses = 0, bias_uses = 0;
  const struct factor *use;
  struct tensor *bias = NULL;
  bool one_bias = true;
  while ((use = next_use(system, &i))) {
    const struct op_call *call = &use->node->call;
    STATUS_TRY(gradient_check_factor(use));
    if (call->op->affine->serves && !call->op->affine->serves(call)) return STATUS_OK;
    for (int k = 0; k < count; k++) /* A is a parameter, and would move under the other's feet */
      if (parameter[k] == call->input[0]) return STATUS_OK;
    struct tensor *here = bias_of_call(call);
    if (here) system->has_bias = true;
    if (uses > 0 && here != bias) one_bias = false;
    bias = here;
    uses++;
  }
  if (uses == 0) return STATUS_OK;
  bool listed = false;
  for (int k = 0; k < count && bias; k++) listed = listed || parameter[k] == bias;
  if (bias && bias->gradient)
    for (int k = 0; k < bias->gradient->factor_count; k++) bias_uses += bias->gradient->factor[k].input == 2;
  /* A bias is stepped with its weight when it serves the same uses and nothing else. */
  if (one_bias && listed && bias->gradient && bias_uses == uses && !bias->gradient->dense) system->bias = bias;
  *is_layer = true;
  return STATUS_OK;
}

int factors_uses(const struct gls_system *system) {
  int i = 0, uses = 0;
  while (next_use(system, &i)) uses++;
  return uses;
}

bool factors_recur(const struct gls_system *system) {
  int i = 0;
  const struct factor *use;
  while ((use = next_use(system, &i)))
    if (use->node->call.op->affine->products) return true;
  return false;
}

static int64_t rows_of_use(const struct op_call *call) {
  const struct op_affine *affine = call->op->affine;
  const struct tensor *z = affine->products ? call->input[0] : call->output;
  int64_t outputs = call->input[1]->shape.size[affine->outputs];
  return outputs > 0 ? tensor_count(z) / outputs : 0;
}

int64_t factors_rows_of_last(void) {
  const struct tensor *last = NULL, *weight;
  int64_t rows = 0;
  for (struct node *node = node_last(); node; node = node->previous) {
    if (!node->reached || !node->call.op->affine) continue;
    weight = node->call.input[1];
    if (!last) last = weight;
    if (weight->storage == last->storage && weight->offset == last->offset) rows += rows_of_use(&node->call);
  }
  return rows;
}

static bool is_use(const struct gls_system *system, const struct node *node) {
  int i = 0;
  const struct factor *use;
  while ((use = next_use(system, &i)))
    if (use->node == node) return true;
  return false;
}

/* How many other uses have gone into what a use is given. */
static int uses_before(const struct gls_system *system, struct node *use) {
  int found = 0;
  use->counted = true;
  for (struct node *node = use; node; node = node->previous) { /* inputs are older */
    if (!node->counted) continue;
    node->counted = false;
    found += node != use && is_use(system, node);
    for (int k = 0; k < node->call.input_count; k++)
      if (node->input_node[k] && !node->input_node[k]->released) node->input_node[k]->counted = true;
  }
  return found;
}

bool factors_loop(const struct gls_system *system) {
  enum { BEFORE_LEAST = 3 };
  int i = 0;
  const struct factor *use;
  if (factors_uses(system) <= BEFORE_LEAST) return false;
  while ((use = next_use(system, &i)))
    if (uses_before(system, use->node) >= BEFORE_LEAST) return true;
  return false;
}

bool factors_are_direct(const struct gls_system *system) {
  int i = 0;
  const struct factor *use;
  while ((use = next_use(system, &i)))
    if (!use->node->call.op->affine->direct) return false;
  return true;
}

/* count rows of 0 … rows − 1, one from each of count strips of equal length, at a random place in it. */
static int64_t *draw_rows(const struct ranks *ranks, int64_t rows, int64_t count) {
  int64_t *row = memory_new((size_t)count, sizeof *row);
  struct random_stream stream;
  if (!row || ranks_next_stream(ranks, &stream) != STATUS_OK) {
    memory_delete(row);
    return NULL;
  }
  for (int64_t i = 0; i < count; i++) {
    uint32_t word[4];
    random_block(stream, (uint64_t)i, word);
    int64_t start = i * rows / count, end = (i + 1) * rows / count;
    row[i] = start + (int64_t)(word[0] % (uint64_t)(end - start));
  }
  return row;
}

/* Rows of one use: those of the batch on all ranks, those of A among them, and where this rank's begin. */
struct use_rows {
  int64_t all, held, before;
  int64_t *count; /* of A, of every rank */
};

/* The factors with limit of A's rows, drawn from those of all ranks, and without G. */
static int some_factors(const struct gls_system *system, const struct op_call *call, int64_t rows, int64_t limit,
                        struct use_rows *use, struct factors *f) {
  int64_t *row = draw_rows(system->share.ranks, use->all, limit), end = 0, first = 0, count = 0;
  if (!row) return STATUS_ERROR;
  int ranks = system->share.ranks ? system->share.ranks->size : 1;
  for (int64_t r = 0, i = 0; r < ranks; r++) {
    int64_t begin = i;
    end += use->count[r];
    while (i < limit && row[i] < end) i++;
    use->count[r] = i - begin;
    if (!system->share.ranks || r == system->share.ranks->rank) first = begin, count = i - begin;
  }
  for (int64_t i = first; i < first + count; i++) row[i] -= use->before;
  int64_t outputs = call->input[1]->shape.size[0];
  *f = (struct factors){.rows = rows, .inputs = tensor_count(call->input[1]) / outputs, .outputs = outputs};
  int status = call->op->affine->factor_rows(call, row + first, count, &f->a);
  memory_delete(row);
  use->held = limit;
  return status;
}

/* Factors of one use; where A is made at a cost and has more than limit rows, limit of them and no G. */
static int factors_of_use(const struct gls_system *system, const struct factor *factor, int64_t limit,
                          struct use_rows *use, struct factors *f) {
  const struct op_call *call = &factor->node->call;
  bool by_rows = call->op->affine->factor_rows && limit != 0;
  int64_t rows = rows_of_use(call);
  if (!by_rows) {
    STATUS_TRY(call->op->affine->factors(call, factor->gradient, f));
    rows = f->rows;
  }
  STATUS_TRY(shared_counts(system, rows, use->count, &use->all, &use->before));
  use->held = use->all;
  if (!by_rows) return STATUS_OK;
  if (limit < 0) {
    int64_t images = rows > 0 ? call->output->shape.size[0] * use->all / rows : 0;
    limit = min(PATCHES_AN_IMAGE * images, PATCHES_MOST);
    if (limit < PATCHES_LEAST) limit = PATCHES_LEAST;
  }
  return use->all > limit ? some_factors(system, call, rows, limit, use, f)
                          : call->op->affine->factors(call, factor->gradient, f);
}

static struct tensor *stack(struct tensor *top, struct tensor *below) {
  struct tensor *both = system_matrix(top->shape.size[0] + below->shape.size[0], top->shape.size[1]);
  if (!both) return NULL;
  int64_t first = tensor_count(top);
  memcpy(tensor_real(both), tensor_real(top), (size_t)first * sizeof(real));
  memcpy(tensor_real(both) + first, tensor_real(below), (size_t)tensor_count(below) * sizeof(real));
  return both;
}

/* *slot := *slot over more, which may be NULL; takes over more. */
static int append(struct tensor **slot, struct tensor *more) {
  if (!more) return STATUS_OK;
  struct tensor *both = *slot ? stack(*slot, more) : tensor_retain(more);
  tensor_release(*slot);
  tensor_release(more);
  *slot = both;
  return both ? STATUS_OK : STATUS_ERROR;
}

int factors_gather(struct gls_system *system, const struct gls_options *options) {
  int i = 0;
  const struct factor *factor;
  struct shared_rows *share = &system->share;
  *share = (struct shared_rows){.ranks = options->ranks};
  size_t ranks = share->ranks ? (size_t)share->ranks->size : 1;
  share->count = memory_new((size_t)factors_uses(system) * ranks, sizeof *share->count);
  if (!share->count) return STATUS_ERROR;
  struct use_rows use = {.count = share->count};
  for (; (factor = next_use(system, &i)); use.count += ranks) {
    struct factors f = {0};
    STATUS_TRY(factors_of_use(system, factor, options->statistics_rows, &use, &f));
    system->inputs = f.inputs;
    system->outputs = f.outputs;
    int status = append(&system->a, f.a);
    if (status == STATUS_OK)
      status = append(&system->g, f.g);
    else
      tensor_release(f.g);
    STATUS_TRY(status);
    system->batch_rows += use.all;
    share->held += use.held;
    share->own += f.rows;
    share->before += use.before;
  }
  system->rows = system->batch_rows;
  system->extended = system->inputs + (system->bias ? 1 : 0);
  system->scale = share->held > 0 ? (double)system->batch_rows / (double)share->held : 1;
  return STATUS_OK;
}
