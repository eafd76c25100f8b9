/* Arrange: ops that copy elements into new places: joined, padded, flipped, tiled, or half of a matrix.
   (Ops that give views are in move.c.) */
#include <string.h>

#include "../base/parallel.h"
#include "op.h"

/* Releases the view after assigning to it; NULL stands for a failure. */
static int assign_view(struct tensor *view, const struct tensor *source) {
  int status = view ? tensor_assign(view, source) : STATUS_ERROR;
  tensor_release(view);
  return status;
}

/* ---- cat, stack ---- */

struct join_rule {
  bool stacks; /* along a new dimension */
};

static bool is_stack(const struct op_call *call) { return ((const struct join_rule *)call->op->family)->stacks; }

static int join_dimension(const struct op_call *call, int *dimension) {
  if (call->input_count == 0) return status_error("the list of tensors is empty");
  return op_resolve_dimension(call->value[0].list[0], call->input[0]->shape.rank + is_stack(call), dimension);
}

static int cat_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  int dimension;
  STATUS_TRY(join_dimension(call, &dimension));
  *shape = call->input[0]->shape;
  for (int k = 1; k < call->input_count; k++) {
    const struct shape *next = &call->input[k]->shape;
    bool fits = next->rank == shape->rank;
    for (int i = 0; fits && i < shape->rank; i++) fits = i == dimension || next->size[i] == shape->size[i];
    if (!fits)
      return status_error("tensor %d does not fit the first: %s and %s differ not only in dimension %d", k + 1,
                          shape_text(next), shape_text(&call->input[0]->shape), dimension + 1);
    shape->size[dimension] += next->size[dimension];
  }
  return STATUS_OK;
}

static int stack_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  int dimension;
  STATUS_TRY(join_dimension(call, &dimension));
  const struct shape *first = &call->input[0]->shape;
  if (first->rank == TENSOR_MAX_RANK) return status_error("a tensor has at most %d dimensions", TENSOR_MAX_RANK);
  for (int k = 1; k < call->input_count; k++)
    if (!shape_equal(first, &call->input[k]->shape))
      return status_error("tensor %d is %s, the first %s: they must be of one shape", k + 1,
                          shape_text(&call->input[k]->shape), shape_text(first));
  *shape = (struct shape){.rank = first->rank + 1};
  for (int i = 0; i < shape->rank; i++)
    shape->size[i] = i == dimension ? call->input_count : first->size[i < dimension ? i : i - 1];
  return STATUS_OK;
}

/* The place of input k in whole, which has the output's shape; start, where it begins, becomes where the next does. */
static struct tensor *join_place(const struct op_call *call, const struct tensor *whole, int k, int64_t *start) {
  int dimension;
  if (join_dimension(call, &dimension) != STATUS_OK) return NULL;
  if (is_stack(call)) return tensor_select(whole, dimension, k);
  int64_t count = call->input[k]->shape.size[dimension], first = *start;
  *start += count;
  return tensor_narrow(whole, dimension, first, count, 1);
}

static int join_forward(struct op_call *call) {
  int64_t start = 0;
  for (int k = 0; k < call->input_count; k++)
    STATUS_TRY(assign_view(join_place(call, call->output, k, &start), call->input[k]));
  return STATUS_OK;
}

static int join_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  int64_t start = 0;
  for (int k = 0; k < call->input_count; k++) {
    struct tensor *place = join_place(call, gradient, k, &start);
    if (needed[k])
      STATUS_TRY(op_give(place, &result[k]));
    else
      tensor_release(place);
  }
  return STATUS_OK;
}

static int join_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct tensor *whole = tensor_zeros(TYPE_REAL, &call->output->shape);
  int status = whole ? STATUS_OK : STATUS_ERROR;
  int64_t start = 0;
  for (int k = 0; k < call->input_count && status == STATUS_OK; k++) {
    struct tensor *place = join_place(call, whole, k, &start);
    if (tangent[k])
      status = assign_view(place, tangent[k]);
    else
      tensor_release(place);
  }
  return op_give_if(status, whole, result);
}

static bool join_rowwise(const struct op_call *call) {
  int dimension;
  return join_dimension(call, &dimension) == STATUS_OK && dimension != 0;
}

/* ---- pad ---- */

/* Places before and after dimension i. */
static void padding_of(const struct op_call *call, int i, int64_t *before, int64_t *after) {
  int pair = call->input[0]->shape.rank - 1 - i;
  bool is_given = 2 * pair + 1 < call->value[0].count;
  *before = is_given ? call->value[0].list[2 * pair] : 0;
  *after = is_given ? call->value[0].list[2 * pair + 1] : 0;
}

static int pad_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct op_value *sizes = &call->value[0];
  *type = call->input[0]->type;
  *shape = call->input[0]->shape;
  if (sizes->count % 2 != 0 || sizes->count > 2 * shape->rank)
    return status_error("%d sizes are given: they are pairs, before and after, for at most %d dimensions from the last",
                        sizes->count, shape->rank);
  for (int i = 0; i < sizes->count; i++)
    if (sizes->list[i] < 0)
      return status_error("size %d is %lld: it is 0 or more; narrow makes smaller", i + 1, (long long)sizes->list[i]);
  for (int i = 0; i < shape->rank; i++) {
    int64_t before, after;
    padding_of(call, i, &before, &after);
    if (__builtin_add_overflow(before, after, &after) || __builtin_add_overflow(shape->size[i], after, &shape->size[i]))
      return status_error("the sizes are too large");
  }
  return STATUS_OK;
}

/* Where x lies in whole, which has the output's shape. */
static struct tensor *pad_inside(const struct op_call *call, struct tensor *whole) {
  struct tensor *view = tensor_retain(whole);
  for (int i = 0; view && i < whole->shape.rank; i++) {
    int64_t before, after;
    padding_of(call, i, &before, &after);
    struct tensor *next = tensor_narrow(view, i, before, whole->shape.size[i] - before - after, 1);
    tensor_release(view);
    view = next;
  }
  return view;
}

static int pad_forward(struct op_call *call) {
  STATUS_TRY(tensor_fill(call->output, call->value[1].number));
  return assign_view(pad_inside(call, call->output), call->input[0]);
}

static int pad_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  return needed[0] ? op_give(pad_inside(call, gradient), result) : STATUS_OK;
}

static int pad_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct tensor *whole = tensor_zeros(TYPE_REAL, &call->output->shape);
  return op_give_if(whole ? assign_view(pad_inside(call, whole), tangent[0]) : STATUS_ERROR, whole, result);
}

static bool pad_rowwise(const struct op_call *call) { return call->value[0].count < 2 * call->input[0]->shape.rank; }

/* ---- flip ---- */

static int flip_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct op_value *dims = &call->value[0];
  *type = call->input[0]->type;
  *shape = call->input[0]->shape;
  bool seen[TENSOR_MAX_RANK] = {false};
  for (int i = 0; i < dims->count; i++) {
    int dimension;
    STATUS_TRY(op_resolve_dimension(dims->list[i], shape->rank, &dimension));
    if (seen[dimension]) return status_error("dimension %d is given twice", dimension + 1);
    seen[dimension] = true;
  }
  return STATUS_OK;
}

static bool is_flipped(const struct op_call *call, int dimension, int rank) {
  const struct op_value *dims = &call->value[0];
  bool flipped = dims->count == 0;
  for (int i = 0; i < dims->count; i++) {
    int64_t listed = dims->list[i];
    flipped |= (listed < 0 ? listed + rank : listed) == dimension;
  }
  return flipped;
}

/* to = x flipped: read by a view that walks backwards. Its own reverse. */
static int flip_into(const struct op_call *call, struct tensor *to, const struct tensor *x) {
  struct tensor *view = tensor_alias(x);
  if (!view) return STATUS_ERROR;
  for (int i = 0; i < x->shape.rank; i++) {
    if (!is_flipped(call, i, x->shape.rank) || x->shape.size[i] < 2) continue;
    view->offset += (x->shape.size[i] - 1) * x->stride[i];
    view->stride[i] = -x->stride[i];
  }
  int status = tensor_assign(to, view);
  tensor_release(view);
  return status;
}

static int flip_new(const struct op_call *call, const struct tensor *x, struct tensor **result) {
  struct tensor *out = tensor_new(TYPE_REAL, &x->shape);
  return op_give_if(out ? flip_into(call, out, x) : STATUS_ERROR, out, result);
}

static int flip_forward(struct op_call *call) { return flip_into(call, call->output, call->input[0]); }

static int flip_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  return needed[0] ? flip_new(call, gradient, result) : STATUS_OK;
}

static int flip_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return flip_new(call, tangent[0], result);
}

static bool flip_rowwise(const struct op_call *call) {
  int rank = call->input[0]->shape.rank;
  return rank > 0 && !is_flipped(call, 0, rank);
}

/* ---- tile ---- */

static int tile_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct op_value *sizes = &call->value[0];
  const struct shape *from = &call->input[0]->shape;
  *type = call->input[0]->type;
  *shape = (struct shape){.rank = sizes->count};
  if (sizes->count < from->rank)
    return status_error("%d sizes are given for %s: one for each dimension, or more", sizes->count, shape_text(from));
  for (int i = 0; i < sizes->count; i++) {
    int own = i - (sizes->count - from->rank);
    if (sizes->list[i] < 0)
      return status_error("size %d is %lld: it is how often to repeat, 0 or more", i + 1, (long long)sizes->list[i]);
    if (__builtin_mul_overflow(sizes->list[i], own < 0 ? 1 : from->size[own], &shape->size[i]))
      return status_error("the sizes are too large");
  }
  return STATUS_OK;
}

/* Repeating dimension i, with the dimensions after it repeated already: x as (outer, 1, block) to
   (outer, times, block). */
struct repetition {
  int64_t outer, times, block;
};

static struct repetition repetition_of(const struct op_call *call, const struct shape *from, int i) {
  const struct op_value *sizes = &call->value[0];
  struct repetition repetition = {1, sizes->list[i], 1};
  for (int k = 0; k < sizes->count; k++) {
    int own = k - (sizes->count - from->rank);
    int64_t size = own < 0 ? 1 : from->size[own];
    if (k < i)
      repetition.outer *= size;
    else
      repetition.block *= k == i ? size : size * sizes->list[k];
  }
  return repetition;
}

/* x seen as (outer, middle, block), then spread over times or, backwards, summed over them. */
static struct tensor *tile_step(struct tensor *x, struct repetition repetition, bool backward) {
  struct shape folded = shape_of(3, repetition.outer, backward ? repetition.times : (int64_t)1, repetition.block);
  struct tensor *view = tensor_view_shape(x, &folded), *result = NULL;
  if (view && backward) {
    struct op_value values[OP_MAX_PARAMETERS] = {{.count = 1, .list = {1}}};
    result = op_run(op_find("sum"), 1, &view, values);
  } else if (view) {
    folded.size[1] = repetition.times;
    struct tensor *wide = tensor_expand(view, &folded);
    result = wide ? tensor_copy(wide) : NULL;
    tensor_release(wide);
  }
  tensor_release(view);
  return result;
}

/* x repeated, or a gradient summed back; from is the shape of the unrepeated, to of the result. */
static struct tensor *repeated(const struct op_call *call, struct tensor *x, const struct shape *from,
                               const struct shape *to, bool backward) {
  struct tensor *now = tensor_contiguous(x);
  int rank = call->value[0].count;
  for (int k = 0; now && k < rank; k++) {
    struct repetition repetition = repetition_of(call, from, backward ? k : rank - 1 - k);
    if (repetition.times == 1) continue;
    struct tensor *next = tile_step(now, repetition, backward);
    tensor_release(now);
    now = next;
  }
  struct tensor *result = now ? tensor_view_shape(now, to) : NULL;
  tensor_release(now);
  return result;
}

static int tile_forward(struct op_call *call) {
  struct tensor *x = call->input[0], *tiles = repeated(call, x, &x->shape, &call->output->shape, false);
  int status = tiles ? tensor_assign(call->output, tiles) : STATUS_ERROR;
  tensor_release(tiles);
  return status;
}

static int tile_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  const struct shape *from = &call->input[0]->shape;
  return needed[0] ? op_give(repeated(call, gradient, from, from, true), result) : STATUS_OK;
}

static int tile_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return op_give(repeated(call, tangent[0], &tangent[0]->shape, &call->output->shape, false), result);
}

static bool tile_rowwise(const struct op_call *call) {
  int rank = call->input[0]->shape.rank;
  return rank > 0 && call->value[0].count == rank && call->value[0].list[0] == 1;
}

/* ---- tril, triu ---- */

static int triangle_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  *type = call->input[0]->type;
  *shape = call->input[0]->shape;
  if (shape->rank < 2) return status_error("takes matrices (2 dimensions or more), not %s", shape_text(shape));
  return STATUS_OK;
}

struct triangle_rule {
  bool upper; /* the triangle that stays */
};

/* to (contiguous) = x with zeros on one side of the diagonal. */
static int triangle_into(const struct op_call *call, struct tensor *to, const struct tensor *x) {
  STATUS_TRY(tensor_assign(to, x));
  int64_t rows = x->shape.size[x->shape.rank - 2], columns = x->shape.size[x->shape.rank - 1];
  int64_t diagonal = call->value[0].list[0], all_rows = columns > 0 ? tensor_count(to) / columns : 0;
  bool upper = ((const struct triangle_rule *)call->op->family)->upper;
  if (diagonal > columns) diagonal = columns; /* beyond the corners all diagonals are alike */
  if (diagonal < -rows) diagonal = -rows;
  const size_t element = type_size(to->type);
  char *out = (char *)to->storage->data + (size_t)to->offset * element;
#pragma omp parallel for schedule(static) if (all_rows * columns > PARALLEL_THRESHOLD)
  for (int64_t row = 0; row < all_rows; row++) {
    int64_t edge = row % rows + diagonal + (upper ? 0 : 1);
    edge = edge < 0 ? 0 : min(edge, columns);
    int64_t start = upper ? 0 : edge, end = upper ? edge : columns;
    memset(out + (size_t)(row * columns + start) * element, 0, (size_t)(end - start) * element);
  }
  return STATUS_OK;
}

static int triangle_new(const struct op_call *call, const struct tensor *x, struct tensor **result) {
  struct tensor *out = tensor_new(TYPE_REAL, &x->shape);
  return op_give_if(out ? triangle_into(call, out, x) : STATUS_ERROR, out, result);
}

static int triangle_forward(struct op_call *call) { return triangle_into(call, call->output, call->input[0]); }

static int triangle_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                        struct tensor **result) {
  return needed[0] ? triangle_new(call, gradient, result) : STATUS_OK;
}

static int triangle_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return triangle_new(call, tangent[0], result);
}

static bool triangle_rowwise(const struct op_call *call) { return call->input[0]->shape.rank > 2; }

/* ---- rows ---- */

static const char *const cat_samples[] = {
    "[2x3 4x3]", "[2x3 2x1 2x2] dimension=2", "[2x3x4 2x5x4] dimension=-2", "[1]", "[0x3 2x3]", "[2x0 2x0] dimension=2",
    NULL};
static const char *const stack_samples[] = {
    "[2x3 2x3]", "[2x3 2x3 2x3] dimension=-1", "[3 3] dimension=2", "[scalar scalar]", "[1]", "[0x3 0x3]", NULL};
static const char *const pad_samples[] = {"2x3 sizes=1,2", "2x3 sizes=1,0,2,1 value=3", "2x3x2 sizes=0,0,1,1",
                                          "1 sizes=1,1",   "0x3 sizes=1,1,1,1",         NULL};
static const char *const flip_samples[] = {"2x3", "2x3 dims=1", "2x3x4 dims=-1,1", "1x3 dims=1", "0x3 dims=2", NULL};
static const char *const tile_samples[] = {
    "2x3 sizes=1,2", "2x3 sizes=3,2", "2x3 sizes=2,1,3", "scalar sizes=3", "2x3 sizes=0,2", "0x3 sizes=2,2", NULL};
static const char *const triangle_samples[] = {
    "4x4", "3x5 diagonal=1", "5x3 diagonal=-1", "2x3x3", "1x1 diagonal=7", "0x3", NULL};

const struct op arrange_ops[] = {
    OP("cat", "tensors of a list one after another along a dimension", cat_samples,
       PARAMETERS(GIVEN("tensors", OP_TENSORS), DEFAULT("dimension", OP_DIMENSION, 1)), OP_LINEAR, cat_shape,
       join_forward, join_vjp, join_jvp, .integers = join_forward, .family = &(const struct join_rule){.stacks = false},
       .batch_inputs = ~0u, .rowwise = join_rowwise),
    OP("stack", "tensors of a list, all of one shape, side by side along a new dimension", stack_samples,
       PARAMETERS(GIVEN("tensors", OP_TENSORS), DEFAULT("dimension", OP_DIMENSION, 1)), OP_LINEAR, stack_shape,
       join_forward, join_vjp, join_jvp, .integers = join_forward, .family = &(const struct join_rule){.stacks = true},
       .batch_inputs = ~0u, .rowwise = join_rowwise),
    OP("pad", "x with value around it: sizes are places before and after the last dimension, the one before it, …",
       pad_samples, PARAMETERS(GIVEN("x", OP_ANY_TENSOR), GIVEN("sizes", OP_SIZES), DEFAULT("value", OP_NUMBER, 0)),
       OP_LINEAR, pad_shape, pad_forward, pad_vjp, pad_jvp, .batch_inputs = 1, .rowwise = pad_rowwise),
    OP("flip", "dims backwards (all when none are given)", flip_samples,
       PARAMETERS(GIVEN("x", OP_ANY_TENSOR), DEFAULT("dims", OP_DIMENSIONS, 0)), OP_LINEAR, flip_shape, flip_forward,
       flip_vjp, flip_jvp, .batch_inputs = 1, .rowwise = flip_rowwise),
    OP("tile", "x repeated, sizes[i] times along dimension i; more sizes than dimensions make new ones in front",
       tile_samples, PARAMETERS(GIVEN("x", OP_ANY_TENSOR), GIVEN("sizes", OP_SIZES)), OP_LINEAR, tile_shape,
       tile_forward, tile_vjp, tile_jvp, .batch_inputs = 1, .rowwise = tile_rowwise),
    OP("tril", "matrices with zeros above the diagonal (1: the one above the main one)", triangle_samples,
       PARAMETERS(GIVEN("x", OP_ANY_TENSOR), DEFAULT("diagonal", OP_INTEGER, 0)), OP_LINEAR, triangle_shape,
       triangle_forward, triangle_vjp, triangle_jvp, .batch_inputs = 1, .rowwise = triangle_rowwise,
       .family = &(const struct triangle_rule){.upper = false}),
    OP("triu", "matrices with zeros below the diagonal (1: the one above the main one)", triangle_samples,
       PARAMETERS(GIVEN("x", OP_ANY_TENSOR), DEFAULT("diagonal", OP_INTEGER, 0)), OP_LINEAR, triangle_shape,
       triangle_forward, triangle_vjp, triangle_jvp, .batch_inputs = 1, .rowwise = triangle_rowwise,
       .family = &(const struct triangle_rule){.upper = true}),
    {.name = NULL}};
