/* Scaled dot-product attention over any leading dimensions, several heads side by side in the last one: kernels over
   heads (kernels/attention), their layouts, and the row. */
#include "../kernels/attention/attention.h"

#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "compose.h"

enum { QUERY, KEY, VALUE, OPERANDS, MASK = OPERANDS };
enum { HEADS, CAUSAL, SCALE };

enum { QUERY_CHUNK = 256 }; /* queries of a head that one thread makes in forward */

/* ---- shapes ---- */

static bool is_packed(const struct op_call *call) { return !call->input[KEY] && !call->input[VALUE]; }

static int64_t last_size(const struct tensor *t) { return t->shape.size[t->shape.rank - 1]; }
static int64_t rows_of(const struct tensor *t) { return t->shape.size[t->shape.rank - 2]; }

static struct shape leading(const struct shape *shape) {
  struct shape result = *shape;
  result.rank -= 2;
  return result;
}

/* Sizes of the heads, and the dimensions before those of the operands. */
struct layout {
  struct shape batch;
  int64_t queries, keys, heads, size, values;
  real scale;
};

static int layout_of(const struct op_call *call, struct layout *layout) {
  const struct tensor *q = call->input[QUERY], *k = call->input[KEY], *v = call->input[VALUE];
  const char *names[] = {"query", "key", "value"};
  bool packed = is_packed(call);
  if (!packed && (!k || !v)) return status_error("key and value are both given, or neither");
  for (int i = 0; i < (packed ? 1 : OPERANDS); i++)
    if (call->input[i]->shape.rank < 2)
      return status_error("%s is (…, places, heads · size), given %s", names[i], shape_text(&call->input[i]->shape));
  if (packed) k = v = q;
  int64_t heads = call->value[HEADS].list[0], parts = packed ? OPERANDS : 1;
  if (heads < 1 || last_size(q) % (heads * parts) || last_size(v) % (heads * parts))
    return status_error("%lld heads do not divide the last size of %s and %s%s", (long long)heads,
                        shape_text(&q->shape), shape_text(&v->shape), packed ? " into query, key and value" : "");
  *layout = (struct layout){.queries = rows_of(q), .keys = rows_of(k), .heads = heads};
  layout->size = last_size(q) / heads / parts, layout->values = last_size(v) / heads / parts;
  if (last_size(k) != last_size(q))
    return status_error("query and key differ in their last size: %s and %s", shape_text(&q->shape),
                        shape_text(&k->shape));
  if (rows_of(v) != layout->keys)
    return status_error("key and value differ in their places: %s and %s", shape_text(&k->shape),
                        shape_text(&v->shape));
  if (call->value[CAUSAL].list[0] && layout->queries != layout->keys)
    return status_error("causal attention is over as many keys as queries, given %s and %s; give it a mask",
                        shape_text(&q->shape), shape_text(&k->shape));
  struct shape a = leading(&q->shape), b = leading(&k->shape), c = leading(&v->shape);
  if (!shape_broadcast(&a, &b, &layout->batch) || !shape_broadcast(&layout->batch, &c, &layout->batch))
    return status_error("leading dimensions do not broadcast: %s, %s and %s", shape_text(&q->shape),
                        shape_text(&k->shape), shape_text(&v->shape));
  double scale = call->value[SCALE].number;
  layout->scale = (real)(scale != 0 ? scale : 1 / sqrt((double)(layout->size ? layout->size : 1)));
  return STATUS_OK;
}

static struct shape with_matrix(const struct shape *batch, int64_t rows, int64_t columns) {
  struct shape shape = *batch;
  shape.size[shape.rank++] = rows;
  shape.size[shape.rank++] = columns;
  return shape;
}

static int attention_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  struct layout layout;
  (void)type;
  STATUS_TRY(layout_of(call, &layout));
  if (layout.batch.rank + 2 > TENSOR_MAX_RANK) return status_error("at most %d dimensions", TENSOR_MAX_RANK);
  if (call->input[MASK]) {
    struct shape scores = with_matrix(&layout.batch, layout.queries, layout.keys), both;
    if (!shape_broadcast(&call->input[MASK]->shape, &scores, &both) || !shape_equal(&both, &scores))
      return status_error("a mask of shape %s does not broadcast to %s, queries × keys",
                          shape_text(&call->input[MASK]->shape), shape_text(&scores));
  }
  *shape = with_matrix(&layout.batch, layout.queries, layout.heads * layout.values);
  return STATUS_OK;
}

/* ---- operands ---- */

/* A tensor in the batch's dimensions, (batch…, places, heads · size), its rows contiguous. */
struct operand {
  struct tensor *tensor; /* owned; NULL: there is none */
  int64_t size;          /* of a head */
};

static int operand_of(struct tensor *t, const struct layout *layout, int64_t size, struct operand *operand) {
  operand->size = size;
  if (!t) return STATUS_OK;
  int last = t->shape.rank - 1;
  struct tensor *rows = t->stride[last] == 1 || t->shape.size[last] <= 1 ? tensor_retain(t) : tensor_copy(t);
  if (!rows) return STATUS_ERROR;
  struct shape whole = with_matrix(&layout->batch, rows_of(t), t->shape.size[last]);
  operand->tensor = tensor_expand(rows, &whole);
  tensor_release(rows);
  return operand->tensor ? STATUS_OK : STATUS_ERROR;
}

/* given[i]: in the place of query, key and value, which one tensor holds side by side where key and value are left
   out. */
static int operands_of(const struct op_call *call, struct tensor *const *given, const struct layout *layout,
                       struct operand operand[OPERANDS]) {
  bool packed = is_packed(call);
  int status = STATUS_OK;
  for (int i = 0; i < OPERANDS && status == STATUS_OK; i++) {
    int64_t size = i == VALUE ? layout->values : layout->size, width = layout->heads * size;
    struct tensor *part = packed ? given[QUERY] : given[i];
    if (part && packed) {
      part = tensor_narrow(part, part->shape.rank - 1, i * width, width, 1);
      if (!part) return STATUS_ERROR;
    }
    status = operand_of(part, layout, size, &operand[i]);
    if (packed) tensor_release(part);
  }
  return status;
}

static void release_operands(struct operand operand[OPERANDS]) {
  for (int i = 0; i < OPERANDS; i++) tensor_release(operand[i].tensor);
}

/* The first element of place `item` of t's dimensions before the last two. */
static int64_t item_offset(const struct tensor *t, int64_t item) {
  int64_t offset = 0;
  for (int d = t->shape.rank - 3; d >= 0; d--) {
    offset += item % t->shape.size[d] * t->stride[d];
    item /= t->shape.size[d];
  }
  return offset;
}

static struct attention_matrix matrix_of(const struct operand *operand, int64_t item, int64_t head) {
  const struct tensor *t = operand->tensor;
  if (!t) return (struct attention_matrix){0};
  return (struct attention_matrix){tensor_real(t) + item_offset(t, item) + head * operand->size,
                                   t->stride[t->shape.rank - 2]};
}

/* ---- all heads ---- */

/* What a pass over the heads reads and writes. */
struct pass {
  struct layout layout;
  struct operand in[OPERANDS], out[OPERANDS], change[OPERANDS]; /* change: tangents */
  struct operand output, gradient;
  struct tensor *mask; /* in the scores' shape, without heads; or NULL */
  bool causal;
  real *logarithm; /* batch × heads × queries */
  int64_t count;   /* heads of all the batch */
  void (*run)(const struct pass *pass, int64_t task, real *scratch);
  int64_t tasks;
};

static struct attention_head head_of(const struct pass *pass, int64_t item, int64_t h) {
  const struct layout *layout = &pass->layout;
  struct attention_head head = {.queries = layout->queries, .keys = layout->keys};
  head.size = layout->size, head.values = layout->values;
  head.q = matrix_of(&pass->in[QUERY], item, h);
  head.k = matrix_of(&pass->in[KEY], item, h);
  head.v = matrix_of(&pass->in[VALUE], item, h);
  head.scale = layout->scale, head.causal = pass->causal;
  if (pass->mask) {
    head.mask = tensor_real(pass->mask) + item_offset(pass->mask, item);
    head.mask_query = pass->mask->stride[pass->mask->shape.rank - 2];
    head.mask_key = pass->mask->stride[pass->mask->shape.rank - 1];
  }
  return head;
}

/* A mask to be added to the scores, 0 where a key is seen, would be read the wrong way round. */
static int check_mask(const struct tensor *mask) {
  struct tensor *flat = tensor_contiguous((struct tensor *)mask);
  if (!flat) return STATUS_ERROR;
  int64_t count = tensor_count(flat), wrong = -1;
  for (int64_t i = 0; i < count && wrong < 0; i++)
    if (!(tensor_real(flat)[i] >= 0)) wrong = i;
  int status = wrong < 0 ? STATUS_OK
                         : status_error(
                               "the mask has %g: it is 1 where a key is seen and 0 where not; of one that is "
                               "added to the scores give mask:eq(0)",
                               (double)tensor_real(flat)[wrong]);
  tensor_release(flat);
  return status;
}

/* The mask in the scores' shape. */
static int mask_of(const struct tensor *mask, const struct layout *layout, struct tensor **result) {
  struct shape scores = with_matrix(&layout->batch, layout->queries, layout->keys);
  return op_give(tensor_expand(mask, &scores), result);
}

static int pass_open(const struct op_call *call, struct pass *pass) {
  *pass = (struct pass){.causal = call->value[CAUSAL].list[0]};
  STATUS_TRY(layout_of(call, &pass->layout));
  pass->count = shape_count(&pass->layout.batch) * pass->layout.heads;
  pass->logarithm = call->saved[0] ? tensor_real(call->saved[0]) : NULL;
  STATUS_TRY(operands_of(call, call->input, &pass->layout, pass->in));
  STATUS_TRY(operand_of(call->output, &pass->layout, pass->layout.values, &pass->output));
  return call->input[MASK] ? mask_of(call->input[MASK], &pass->layout, &pass->mask) : STATUS_OK;
}

static void pass_close(struct pass *pass) {
  release_operands(pass->in);
  release_operands(pass->out);
  release_operands(pass->change);
  tensor_release(pass->output.tensor);
  tensor_release(pass->gradient.tensor);
  tensor_release(pass->mask);
}

/* run for every task, some at a time. */
static int pass_run(const struct pass *pass) {
  const struct layout *layout = &pass->layout;
  if (pass->tasks == 0) return STATUS_OK;
  struct attention_head head = head_of(pass, 0, 0);
  int64_t each = round_up(attention_scratch(&head), 16), tasks = pass->tasks;
  double work = (double)pass->count * (double)layout->queries * (double)layout->keys;
  int threads = (int)(omp_in_parallel() || work < PARALLEL_THRESHOLD ? 1 : min(parallel_threads(), tasks));
  size_t bytes;
  if (!memory_multiply((size_t)threads * sizeof(real), (size_t)each, &bytes))
    return status_error("too many keys: %lld", (long long)layout->keys);
  real *scratch = memory_acquire(bytes);
  if (!scratch) return STATUS_ERROR;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (int64_t i = 0; i < tasks; i++) pass->run(pass, i, scratch + omp_get_thread_num() * each);
  memory_release(scratch);
  return STATUS_OK;
}

static void forward_task(const struct pass *pass, int64_t task, real *scratch) {
  const struct layout *layout = &pass->layout;
  int64_t chunks = ceil_div(layout->queries, QUERY_CHUNK), index = task / chunks, first = task % chunks * QUERY_CHUNK;
  int64_t item = index / layout->heads, h = index % layout->heads;
  struct attention_head head = head_of(pass, item, h);
  attention_forward(matrix_of(&pass->output, item, h), pass->logarithm + index * layout->queries, &head, first,
                    min(QUERY_CHUNK, layout->queries - first), scratch);
}

static int attention_forward_run(struct op_call *call) {
  struct pass pass;
  int status = pass_open(call, &pass);
  if (status == STATUS_OK && call->input[MASK]) status = check_mask(call->input[MASK]);
  if (status == STATUS_OK) {
    struct shape shape = with_matrix(&pass.layout.batch, pass.layout.heads, pass.layout.queries);
    status = op_give(tensor_new(TYPE_REAL, &shape), &call->saved[0]);
  }
  if (status == STATUS_OK) {
    pass.logarithm = tensor_real(call->saved[0]);
    pass.run = forward_task;
    pass.tasks = pass.count * ceil_div(pass.layout.queries, QUERY_CHUNK);
    status = pass_run(&pass);
  }
  pass_close(&pass);
  return status;
}

static void gradient_task(const struct pass *pass, int64_t task, real *scratch) {
  int64_t item = task / pass->layout.heads, h = task % pass->layout.heads;
  struct attention_head head = head_of(pass, item, h);
  attention_gradient(matrix_of(&pass->out[QUERY], item, h), matrix_of(&pass->out[KEY], item, h),
                     matrix_of(&pass->out[VALUE], item, h), &head, matrix_of(&pass->output, item, h),
                     pass->logarithm + task * pass->layout.queries, matrix_of(&pass->gradient, item, h), scratch);
}

static int attention_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                         struct tensor **result) {
  struct pass pass;
  struct tensor *whole[OPERANDS] = {0}; /* before sums over what was broadcast */
  int status = pass_open(call, &pass), inputs = is_packed(call) ? 1 : OPERANDS;
  for (int i = 0; i < inputs && status == STATUS_OK; i++) {
    if (!needed[i]) continue;
    const struct tensor *input = call->input[i];
    struct shape shape = with_matrix(&pass.layout.batch, rows_of(input), last_size(input));
    status = op_give(tensor_new(TYPE_REAL, &shape), &whole[i]);
  }
  if (status == STATUS_OK) status = operands_of(call, whole, &pass.layout, pass.out);
  if (status == STATUS_OK) status = operand_of(gradient, &pass.layout, pass.layout.values, &pass.gradient);
  if (status == STATUS_OK) {
    pass.run = gradient_task, pass.tasks = pass.count;
    status = pass_run(&pass);
  }
  pass_close(&pass);
  for (int i = 0; i < inputs; i++) {
    if (status == STATUS_OK && whole[i])
      status = op_give(op_sum_to_shape(whole[i], &call->input[i]->shape), &result[i]);
    tensor_release(whole[i]);
  }
  if (status == STATUS_OK && call->input[MASK] && needed[MASK])
    status = op_give(tensor_zeros(TYPE_REAL, &call->input[MASK]->shape), &result[MASK]);
  return status;
}

static void tangent_task(const struct pass *pass, int64_t task, real *scratch) {
  int64_t item = task / pass->layout.heads, h = task % pass->layout.heads;
  struct attention_head head = head_of(pass, item, h);
  attention_tangent(matrix_of(&pass->out[QUERY], item, h), &head, matrix_of(&pass->output, item, h),
                    pass->logarithm + task * pass->layout.queries, matrix_of(&pass->change[QUERY], item, h),
                    matrix_of(&pass->change[KEY], item, h), matrix_of(&pass->change[VALUE], item, h), scratch);
}

static int attention_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct pass pass;
  int status = pass_open(call, &pass);
  struct tensor *out = status == STATUS_OK ? tensor_new(TYPE_REAL, &call->output->shape) : NULL;
  if (!out) status = STATUS_ERROR;
  if (status == STATUS_OK) status = operands_of(call, tangent, &pass.layout, pass.change);
  if (status == STATUS_OK) status = operand_of(out, &pass.layout, pass.layout.values, &pass.out[QUERY]);
  if (status == STATUS_OK) {
    pass.run = tangent_task, pass.tasks = pass.count;
    status = pass_run(&pass);
  }
  pass_close(&pass);
  return op_give_if(status, out, result);
}

/* Dimension 1 is the batch's in all that have it: what is broadcast to it does not begin with a dimension as long. */
static bool attention_rowwise(const struct op_call *call) {
  int rank = call->output->shape.rank;
  int64_t batch = rank > 2 ? call->output->shape.size[0] : 0;
  for (int i = 0; i <= MASK; i++) {
    const struct tensor *t = call->input[i];
    if (t && t->shape.rank < rank && t->shape.rank > 0 && t->shape.size[0] == batch) return false;
  }
  return rank > 2;
}

const struct op attention_ops[] = {
    OP("attention",
       "softmax(scale · query keyᵀ) value for each of `heads` heads that lie side by side in the last dimension: query "
       "(…, n, heads · d), key (…, m, heads · d), value (…, m, heads · e) -> (…, n, heads · e); leading dimensions "
       "broadcast. Without key and value, query holds all three side by side (…, n, 3 · heads · d). A key is seen "
       "where the mask, broadcast to (…, n, m), is not 0, and with causal where its place is not after the query's; "
       "a query that sees none gets zeros. scale 0 stands for 1/√d. The n × m weights are not kept (Dao et al., 2022)",
       SAMPLES("5x3 7x3 7x4", "2x3x5x4 2x3x5x4 2x3x5x4", "2x5x6 2x7x6 2x7x4 heads=2", "2x3x5 3x5 1x3x4 scale=0.7",
               "2x9x12 - - heads=2 causal=1", "2x5x4 2x5x4 2x5x4 causal=1", "2x5x4 2x7x4 2x7x4 mask:2x5x7",
               "2x5x4 2x7x4 2x7x4 mask:2x1x7", "2x6x12 - - mask:6x6 heads=2", "70x5 70x5 70x3 causal=1",
               "3x2 130x2 130x3", "1x1 1x1 1x1", "2x1x6 - -", "0x5x3 0x5x3 0x5x2", "2x0x3 2x4x3 2x4x2",
               "2x4x3 2x0x3 2x0x2", "2x4x0 2x4x0 2x4x2"),
       PARAMETERS(TENSOR("query"), GIVEN("key", OP_OPTIONAL_TENSOR), GIVEN("value", OP_OPTIONAL_TENSOR),
                  GIVEN("mask", OP_OPTIONAL_TENSOR), DEFAULT("heads", OP_INTEGER, 1), DEFAULT("causal", OP_FLAG, 0),
                  DEFAULT("scale", OP_NUMBER, 0)),
       OP_SAVES_INPUTS | OP_SAVES_OUTPUT, attention_shape, attention_forward_run, attention_vjp, attention_jvp,
       .batch_inputs = 15, .rowwise = attention_rowwise, .composed = attention_composed),
    {.name = NULL}};
