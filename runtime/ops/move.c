/* Move: ops that rearrange elements and compute nothing. Most give views of their input; the derivative of a
   movement is the same movement of the tangent, and its reverse for the gradient. */
#include "../base/integer.h"
#include "op.h"

/* x in another shape: a view, or a copy where strides forbid it. */
static struct tensor *reshaped(const struct tensor *x, const struct shape *shape) {
  struct tensor *view = tensor_view_shape(x, shape);
  if (view || tensor_is_contiguous(x)) return view;
  struct tensor *copy = tensor_copy(x);
  if (copy) view = tensor_view_shape(copy, shape);
  tensor_release(copy);
  return view;
}

/* ---- the same elements in another shape: view, reshape, flatten, squeeze, unsqueeze, contiguous ---- */

static int reshape_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                       struct tensor **result) {
  return needed[0] ? op_give(reshaped(gradient, &call->input[0]->shape), result) : STATUS_OK;
}

static int reshape_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return op_give(reshaped(tangent[0], &call->output->shape), result);
}

static bool same_first_size(const struct op_call *call) {
  const struct shape *from = &call->input[0]->shape, *to = &call->output->shape;
  return from->rank > 0 && to->rank > 0 && from->size[0] == to->size[0];
}

static int reshape_forward(struct op_call *call) {
  struct shape shape;
  enum element_type type;
  STATUS_TRY(call->op->shape(call, &shape, &type));
  return op_give(reshaped(call->input[0], &shape), &call->output);
}

static int view_forward(struct op_call *call) {
  struct shape shape;
  enum element_type type;
  STATUS_TRY(call->op->shape(call, &shape, &type));
  return op_give(tensor_view_shape(call->input[0], &shape), &call->output);
}

/* Sizes as given; one of them may be -1: what is left over. */
static int reshape_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct op_value *sizes = &call->value[0];
  const struct tensor *x = call->input[0];
  *type = x->type;
  *shape = (struct shape){.rank = sizes->count};
  int free = -1;
  int64_t product = 1;
  for (int i = 0; i < sizes->count; i++) {
    shape->size[i] = sizes->list[i];
    if (sizes->list[i] != -1) {
      if (sizes->list[i] < 0)
        return status_error("size %d is %lld: sizes are 0 or more, and one may be -1 for what is left", i + 1,
                            (long long)sizes->list[i]);
      if (__builtin_mul_overflow(product, sizes->list[i], &product)) return status_error("the sizes are too large");
    } else if (free >= 0) {
      return status_error("sizes %d and %d are both -1: only one can be what is left", free + 1, i + 1);
    } else {
      free = i;
    }
  }
  int64_t count = tensor_count(x);
  if (free >= 0) {
    shape->size[free] = product > 0 ? count / product : 0;
    if (product == 0 || count % product != 0)
      return status_error("%s has %lld elements: no size %d makes that with the others, whose product is %lld",
                          shape_text(&x->shape), (long long)count, free + 1, (long long)product);
  } else if (product != count) {
    return status_error("%s has %lld elements and %s has %lld", shape_text(&x->shape), (long long)count,
                        shape_text(shape), (long long)product);
  }
  return STATUS_OK;
}

static int flatten_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct shape *from = &call->input[0]->shape;
  *type = call->input[0]->type;
  *shape = (struct shape){.rank = 1, .size = {1}};
  if (from->rank == 0) return STATUS_OK;
  int first, last;
  STATUS_TRY(op_resolve_dimension(call->value[0].list[0], from->rank, &first));
  STATUS_TRY(op_resolve_dimension(call->value[1].list[0], from->rank, &last));
  if (first > last) return status_error("first dimension %d comes after last dimension %d", first + 1, last + 1);
  shape->rank = 0;
  for (int i = 0; i < from->rank; i++)
    if (i > first && i <= last)
      shape->size[shape->rank - 1] *= from->size[i];
    else
      shape->size[shape->rank++] = from->size[i];
  return STATUS_OK;
}

static int squeeze_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct shape *from = &call->input[0]->shape;
  const struct op_value *dims = &call->value[0];
  *type = call->input[0]->type;
  bool drop[TENSOR_MAX_RANK] = {false};
  for (int i = 0; i < from->rank; i++) drop[i] = dims->count == 0 && from->size[i] == 1;
  for (int i = 0; i < dims->count; i++) {
    int dimension;
    STATUS_TRY(op_resolve_dimension(dims->list[i], from->rank, &dimension));
    drop[dimension] = from->size[dimension] == 1;
  }
  *shape = (struct shape){0};
  for (int i = 0; i < from->rank; i++)
    if (!drop[i]) shape->size[shape->rank++] = from->size[i];
  return STATUS_OK;
}

/* from with size at the new dimension. */
static int insert_dimension(const struct shape *from, int64_t dimension, int64_t size, struct shape *shape, int *at) {
  if (from->rank == TENSOR_MAX_RANK) return status_error("a tensor has at most %d dimensions", TENSOR_MAX_RANK);
  STATUS_TRY(op_resolve_dimension(dimension, from->rank + 1, at));
  *shape = (struct shape){.rank = from->rank + 1};
  for (int i = 0; i < shape->rank; i++) shape->size[i] = i == *at ? size : from->size[i < *at ? i : i - 1];
  return STATUS_OK;
}

static int unsqueeze_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  int at;
  *type = call->input[0]->type;
  return insert_dimension(&call->input[0]->shape, call->value[0].list[0], 1, shape, &at);
}

static int same_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  *shape = call->input[0]->shape;
  *type = call->input[0]->type;
  return STATUS_OK;
}

static int contiguous_forward(struct op_call *call) {
  const struct tensor *x = call->input[0];
  return op_give(tensor_is_contiguous(x) ? tensor_alias(x) : tensor_copy(x), &call->output);
}

static int clone_forward(struct op_call *call) { return op_give(tensor_copy(call->input[0]), &call->output); }

/* ---- dimensions in another order: permute, transpose, t ---- */

/* The order that a call asks for: the row's family. */
typedef int order_rule(const struct op_call *call, int *order);
struct permute_rule {
  order_rule *order;
};

static int given_order(const struct op_call *call, int *order) {
  int rank = call->input[0]->shape.rank;
  const struct op_value *dims = &call->value[0];
  bool seen[TENSOR_MAX_RANK] = {false};
  if (dims->count != rank)
    return status_error("%d dimensions are given for %s, which has %d", dims->count, shape_text(&call->input[0]->shape),
                        rank);
  for (int i = 0; i < rank; i++) {
    STATUS_TRY(op_resolve_dimension(dims->list[i], rank, &order[i]));
    if (seen[order[i]]) return status_error("dimension %d is given twice", order[i] + 1);
    seen[order[i]] = true;
  }
  return STATUS_OK;
}

static int exchanged_order(int rank, int first, int second, int *order) {
  for (int i = 0; i < rank; i++) order[i] = i;
  order[first] = second;
  order[second] = first;
  return STATUS_OK;
}

static int transpose_order(const struct op_call *call, int *order) {
  int rank = call->input[0]->shape.rank, first, second;
  STATUS_TRY(op_resolve_dimension(call->value[0].list[0], rank, &first));
  STATUS_TRY(op_resolve_dimension(call->value[1].list[0], rank, &second));
  return exchanged_order(rank, first, second, order);
}

static int t_order(const struct op_call *call, int *order) {
  const struct shape *shape = &call->input[0]->shape;
  if (shape->rank != 2)
    return status_error("takes a matrix, not %s: transpose takes two dimensions", shape_text(shape));
  return exchanged_order(2, 0, 1, order);
}

static int order_of(const struct op_call *call, int *order) {
  return ((const struct permute_rule *)call->op->family)->order(call, order);
}

static int permute_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  int order[TENSOR_MAX_RANK];
  STATUS_TRY(order_of(call, order));
  STATUS_TRY(same_shape(call, shape, type));
  for (int i = 0; i < shape->rank; i++) shape->size[i] = call->input[0]->shape.size[order[i]];
  return STATUS_OK;
}

static int permute_forward(struct op_call *call) {
  int order[TENSOR_MAX_RANK];
  STATUS_TRY(order_of(call, order));
  return op_give(tensor_permute(call->input[0], order), &call->output);
}

static int permute_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                       struct tensor **result) {
  int order[TENSOR_MAX_RANK], back[TENSOR_MAX_RANK] = {0};
  if (!needed[0]) return STATUS_OK;
  STATUS_TRY(order_of(call, order));
  for (int i = 0; i < gradient->shape.rank; i++) back[order[i]] = i;
  return op_give(tensor_permute(gradient, back), result);
}

static int permute_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  int order[TENSOR_MAX_RANK];
  STATUS_TRY(order_of(call, order));
  return op_give(tensor_permute(tangent[0], order), result);
}

static bool permute_rowwise(const struct op_call *call) {
  int order[TENSOR_MAX_RANK] = {1};
  return call->input[0]->shape.rank > 0 && order_of(call, order) == STATUS_OK && order[0] == 0;
}

/* ---- expand ---- */

static int expand_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct op_value *sizes = &call->value[0];
  const struct shape *from = &call->input[0]->shape;
  *type = call->input[0]->type;
  *shape = (struct shape){.rank = sizes->count};
  for (int i = 0; i < sizes->count; i++) {
    int own = i - (sizes->count - from->rank);
    shape->size[i] = sizes->list[i] == -1 && own >= 0 ? from->size[own] : sizes->list[i];
  }
  STATUS_TRY(shape_check(shape));
  struct shape both;
  if (!shape_broadcast(from, shape, &both) || !shape_equal(&both, shape))
    return status_error("%s does not broadcast to %s", shape_text(from), shape_text(shape));
  return STATUS_OK;
}

static int expand_forward(struct op_call *call) {
  struct shape shape;
  enum element_type type;
  STATUS_TRY(expand_shape(call, &shape, &type));
  return op_give(tensor_expand(call->input[0], &shape), &call->output);
}

static int expand_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  return needed[0] ? op_give(op_sum_to_shape(gradient, &call->input[0]->shape), result) : STATUS_OK;
}

static int expand_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return op_give(tensor_expand(tangent[0], &call->output->shape), result);
}

static bool expand_rowwise(const struct op_call *call) {
  return same_first_size(call) && call->input[0]->shape.rank == call->output->shape.rank;
}

/* ---- parts: narrow, select, diagonal ---- */

/* Place in a dimension, from 1 or from the end (-1 is the last), to 0..size-1. */
static int resolve_index(const char *name, int64_t index, int64_t size, int dimension, int64_t *result) {
  *result = index < 0 ? index + size : index - 1;
  if (index != 0 && *result >= 0 && *result < size) return STATUS_OK;
  if (size == 0) return status_error("%s %lld: dimension %d is empty", name, (long long)index, dimension + 1);
  return status_error("%s %lld is out of range: dimension %d goes from 1 to %lld", name, (long long)index,
                      dimension + 1, (long long)size);
}

/* The part of x that a call asks for: the row's family. x has the input's shape, or is a block of its rows. NULL with
   message where there is none. */
struct part_rule {
  struct tensor *(*part)(const struct op_call *call, const struct tensor *x);
};

static struct tensor *selected(const struct op_call *call, const struct tensor *x) {
  int dimension;
  int64_t index;
  if (op_resolve_dimension(call->value[0].list[0], x->shape.rank, &dimension) != STATUS_OK) return NULL;
  if (resolve_index("index", call->value[1].list[0], x->shape.size[dimension], dimension, &index) != STATUS_OK)
    return NULL;
  return tensor_select(x, dimension, index);
}

static struct tensor *narrowed(const struct op_call *call, const struct tensor *x) {
  const struct op_value *value = call->value;
  int dimension;
  int64_t start;
  if (op_resolve_dimension(value[0].list[0], x->shape.rank, &dimension) != STATUS_OK) return NULL;
  int64_t size = x->shape.size[dimension], count = value[2].list[0], step = value[3].list[0];
  if (step < 1) {
    status_error("step is %lld: it is 1 or more", (long long)step);
    return NULL;
  }
  if (count < 0) {
    status_error("count is %lld: it is 0 or more", (long long)count);
    return NULL;
  }
  bool nothing = count == 0 && value[1].list[0] == size + 1; /* an empty part may start behind the last */
  if (!nothing && resolve_index("start", value[1].list[0], size, dimension, &start) != STATUS_OK) return NULL;
  if (nothing) start = 0;
  if (count > 0 && (count - 1) > (size - 1 - start) / step) {
    status_error("%lld elements from %lld in steps of %lld pass the end: dimension %d goes from 1 to %lld",
                 (long long)count, (long long)start + 1, (long long)step, dimension + 1, (long long)size);
    return NULL;
  }
  return tensor_narrow(x, dimension, start, count, step);
}

/* Dimensions dim1 and dim2 walked at once, as a new last dimension. */
static struct tensor *diagonal_of(const struct op_call *call, const struct tensor *x) {
  int64_t offset = call->value[0].list[0];
  int first, second, order[TENSOR_MAX_RANK], kept = 0;
  if (op_resolve_dimension(call->value[1].list[0], x->shape.rank, &first) != STATUS_OK) return NULL;
  if (op_resolve_dimension(call->value[2].list[0], x->shape.rank, &second) != STATUS_OK) return NULL;
  if (first == second) {
    status_error("dim1 and dim2 are both %d: a diagonal runs through two dimensions", first + 1);
    return NULL;
  }
  int64_t rows = x->shape.size[first], columns = x->shape.size[second];
  int64_t row = offset < 0 ? -max(offset, -rows) : 0, column = offset > 0 ? min(offset, columns) : 0;
  for (int i = 0; i < x->shape.rank; i++)
    if (i != first && i != second) order[kept++] = i;
  order[kept] = first;
  order[kept + 1] = second;
  struct tensor *view = tensor_permute(x, order);
  if (!view) return NULL;
  int64_t count = min(rows - row, columns - column);
  if (count > 0) view->offset += row * x->stride[first] + column * x->stride[second];
  view->shape.rank--;
  view->shape.size[kept] = count;
  view->stride[kept] = x->stride[first] + x->stride[second];
  return view;
}

static struct tensor *part(const struct op_call *call, const struct tensor *x) {
  return ((const struct part_rule *)call->op->family)->part(call, x);
}

static int part_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  struct tensor *view = part(call, call->input[0]);
  if (!view) return STATUS_ERROR;
  *shape = view->shape;
  *type = view->type;
  tensor_release(view);
  return STATUS_OK;
}

static int part_forward(struct op_call *call) { return op_give(part(call, call->input[0]), &call->output); }

static int part_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  if (!needed[0]) return STATUS_OK;
  struct tensor *whole = tensor_zeros(TYPE_REAL, &call->input[0]->shape);
  struct tensor *view = whole ? part(call, whole) : NULL;
  int status = view ? tensor_assign(view, gradient) : STATUS_ERROR;
  tensor_release(view);
  return op_give_if(status, whole, result);
}

static int part_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return op_give(part(call, tangent[0]), result);
}

/* ---- rows ---- */

static const char *const reshape_samples[] = {"4x6 sizes=3,8", "4x6 sizes=-1",  "2x3x4 sizes=2,-1",
                                              "1 sizes=1,1",   "0x3 sizes=3,0", NULL};
static const char *const view_samples[] = {"4x6 sizes=4,6", "4x6 sizes=4,2,3", "2x3x4 sizes=2,3,-1",
                                           "1 sizes=1,1",   "0x3 sizes=3,0",   NULL};
static const char *const flatten_samples[] = {"2x3x4",  "2x3x4 first=2", "2x3x4 first=1 last=2",
                                              "scalar", "0x3 first=2",   NULL};
static const char *const squeeze_samples[] = {"2x1x3", "2x1x3x1 dims=2", "2x3 dims=1", "1", "1x0", NULL};
static const char *const unsqueeze_samples[] = {"2x3 dimension=1",    "2x3 dimension=-1", "2x3 dimension=2",
                                                "scalar dimension=1", "0 dimension=1",    NULL};
static const char *const contiguous_samples[] = {"2x3", "scalar", "0x3", NULL};
static const char *const permute_samples[] = {"2x3 dims=2,1", "2x3x4 dims=3,1,2", "2x3x4 dims=1,3,2",
                                              "1 dims=1",     "0x3 dims=-1,-2",   NULL};
static const char *const transpose_samples[] = {"2x3", "2x3x4 dim1=1 dim2=3", "2x3x4 dim1=2 dim2=-1", "1x1", "0x3",
                                                NULL};
static const char *const t_samples[] = {"2x3", "1x4", "0x3", NULL};
static const char *const expand_samples[] = {"1x3 sizes=4,3",
                                             "3 sizes=2,4,3",
                                             "2x1x3 sizes=-1,4,-1",
                                             "scalar sizes=2,3",
                                             "1x3 sizes=0,3",
                                             "0x3 sizes=2,0,3",
                                             NULL};
static const char *const narrow_samples[] = {"4x5 dimension=2 start=2 count=3",
                                             "7x2 dimension=1 start=2 count=3 step=2",
                                             "2x3x4 dimension=-1 start=1 count=1",
                                             "4x5 dimension=1 start=5 count=0",
                                             "1x3 dimension=1 start=-1 count=1",
                                             "0x3 dimension=2 start=2 count=2",
                                             NULL};
static const char *const select_samples[] = {"4x5 dimension=1 index=2",
                                             "4x5 dimension=2 index=-1",
                                             "2x3x4 dimension=2 index=3",
                                             "3 dimension=1 index=1",
                                             "1x3 dimension=1 index=1",
                                             "0x3 dimension=2 index=1",
                                             NULL};

static const struct permute_rule given_order_rule = {given_order}, transpose_order_rule = {transpose_order},
                                 t_order_rule = {t_order};
static const struct part_rule narrowed_rule = {narrowed}, selected_rule = {selected}, diagonal_rule = {diagonal_of};

static const char *const diagonal_samples[] = {
    "4x5", "4x5 offset=2", "5x4 offset=-1", "2x3x4 dim1=1 dim2=3", "2x3x3", "3x3 offset=7", "1x1", "0x3", NULL};

static bool diagonal_rowwise(const struct op_call *call) {
  int first = 0, second = 0, rank = call->input[0]->shape.rank;
  return op_resolve_dimension(call->value[1].list[0], rank, &first) == STATUS_OK &&
         op_resolve_dimension(call->value[2].list[0], rank, &second) == STATUS_OK && first != 0 && second != 0;
}

/* A form for views of any tensor: further parameters after the others. */
#define VIEW(word, text, tried, rowwise_run, shape_run, forward_run, vjp_run, jvp_run, rule, ...)           \
  OP(word, text, tried, PARAMETERS(GIVEN("x", OP_ANY_TENSOR), __VA_ARGS__), OP_VIEW | OP_LINEAR, shape_run, \
     forward_run, vjp_run, jvp_run, .batch_inputs = 1, .rowwise = rowwise_run, .family = rule)

const struct op move_ops[] = {
    VIEW("view",
         "the same elements in another shape, one size may be -1; shares memory, an error where strides forbid it",
         view_samples, same_first_size, reshape_shape, view_forward, reshape_vjp, reshape_jvp, NULL,
         GIVEN("sizes", OP_SIZES)),
    VIEW("reshape", "the same elements in another shape, one size may be -1; copies where strides forbid a view",
         reshape_samples, same_first_size, reshape_shape, reshape_forward, reshape_vjp, reshape_jvp, NULL,
         GIVEN("sizes", OP_SIZES)),
    VIEW("flatten", "dimensions first to last as one", flatten_samples, same_first_size, flatten_shape, reshape_forward,
         reshape_vjp, reshape_jvp, NULL, DEFAULT("first", OP_DIMENSION, 1), DEFAULT("last", OP_DIMENSION, -1)),
    VIEW("squeeze", "without dimensions of size 1: all of them, or those of dims that have it", squeeze_samples,
         same_first_size, squeeze_shape, reshape_forward, reshape_vjp, reshape_jvp, NULL,
         DEFAULT("dims", OP_DIMENSIONS, 0)),
    VIEW("unsqueeze", "with a new dimension of size 1 at this place", unsqueeze_samples, same_first_size,
         unsqueeze_shape, reshape_forward, reshape_vjp, reshape_jvp, NULL, GIVEN("dimension", OP_DIMENSION)),
    VIEW("contiguous", "the same elements, neighbours in memory in row-major order: x itself or a copy",
         contiguous_samples, same_first_size, same_shape, contiguous_forward, reshape_vjp, reshape_jvp, NULL),
    VIEW("clone", "a copy with memory of its own; derivatives flow through it", contiguous_samples, same_first_size,
         same_shape, clone_forward, reshape_vjp, reshape_jvp, NULL),
    VIEW("permute", "dimensions in another order: dimension i of the result is dimension dims[i] of x", permute_samples,
         permute_rowwise, permute_shape, permute_forward, permute_vjp, permute_jvp, &given_order_rule,
         GIVEN("dims", OP_DIMENSIONS)),
    VIEW("transpose", "two dimensions exchanged, the last two when none are given", transpose_samples, permute_rowwise,
         permute_shape, permute_forward, permute_vjp, permute_jvp, &transpose_order_rule,
         DEFAULT("dim1", OP_DIMENSION, -2), DEFAULT("dim2", OP_DIMENSION, -1)),
    VIEW("t", "a matrix transposed", t_samples, permute_rowwise, permute_shape, permute_forward, permute_vjp,
         permute_jvp, &t_order_rule),
    VIEW("expand", "broadcast to sizes without copying; -1 keeps a size", expand_samples, expand_rowwise, expand_shape,
         expand_forward, expand_vjp, expand_jvp, NULL, GIVEN("sizes", OP_SIZES)),
    VIEW("narrow", "count places of a dimension from start (from 1; -1 is the last) in steps: a view", narrow_samples,
         op_later_dimension, part_shape, part_forward, part_vjp, part_jvp, &narrowed_rule,
         GIVEN("dimension", OP_DIMENSION), GIVEN("start", OP_INTEGER), GIVEN("count", OP_INTEGER),
         DEFAULT("step", OP_INTEGER, 1)),
    VIEW("select", "one place of a dimension (from 1; -1 is the last), which goes: a view", select_samples,
         op_later_dimension, part_shape, part_forward, part_vjp, part_jvp, &selected_rule,
         GIVEN("dimension", OP_DIMENSION), GIVEN("index", OP_INTEGER)),
    VIEW("diagonal",
         "the diagonal of two dimensions (the last two when none are given) as the last dimension, offset places above "
         "the main one: a view",
         diagonal_samples, diagonal_rowwise, part_shape, part_forward, part_vjp, part_jvp, &diagonal_rule,
         DEFAULT("offset", OP_INTEGER, 0), DEFAULT("dim1", OP_DIMENSION, -2), DEFAULT("dim2", OP_DIMENSION, -1)),
    {.name = NULL}};
