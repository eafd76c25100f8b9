/* Index: x[key] and x[key] = value.
   A key is a number (an index of the first dimension, which goes away); a list of numbers, {from, to} or
   {from, to, step}, a range of the first dimension; a tensor; or a list with a list or a tensor in it, one entry a
   dimension: a number selects, a list is a range, {} is all of it. Indices start at 1, negative ones count from the
   end, ranges include both ends. An int32 tensor picks places of a dimension, which its own dimensions replace; several
   side by side, which broadcast, pick from their dimensions together; a mask (of reals or bytes, 0 and 1, as
   comparisons give) of the first dimensions' sizes picks where it is 1. Reading goes through the ops narrow, select,
   reshape and index_select, so that it is recorded; without a tensor in the key the result is a view. */
#include "bind.h"

#include "../grad/tape.h"
#include "../ops/index.h"

struct range {
  bool selects; /* one index: the dimension goes away */
  int64_t start, count, step;
};

/* The tensors in a key, if there are any: a mask, or indices (int32). */
struct pick {
  struct tensor *by;                    /* the mask or indices; of several the first, until they are joined to one */
  struct tensor *each[TENSOR_MAX_RANK]; /* of several, all */
  int count;
  int dimension; /* of what the ranges leave of x */
  int covered;   /* dimensions from there on that are picked from: a mask's own, or one for each tensor */
};

static bool is_mask(const struct tensor *by) { return by->type != TYPE_INT32; }

/* The index at the top of the stack, from 0; it is popped. */
static int64_t take_index(lua_State *L, const struct tensor *x, int dimension, const char *what) {
  int whole = 0;
  int64_t size = x->shape.size[dimension], given = 0;
  if (lua_type(L, -1) == LUA_TNUMBER) given = lua_tointegerx(L, -1, &whole);
  if (!whole)
    bind_fail(L, "%s of dimension %d must be a whole number, got %s", what, dimension + 1,
              lua_type(L, -1) == LUA_TNUMBER ? lua_tostring(L, -1) : luaL_typename(L, -1));
  int64_t index = given < 0 ? given + size : given - 1;
  if (given == 0 || index < 0 || index >= size)
    bind_fail(L, "%s %I is out of range for dimension %d of shape %s: 1 to %I, or -%I to -1", what, (lua_Integer)given,
              dimension + 1, shape_text(&x->shape), (lua_Integer)size, (lua_Integer)size);
  lua_pop(L, 1);
  return index;
}

/* The list at stack index i as a range of a dimension. */
static struct range list_range(lua_State *L, int i, const struct tensor *x, int dimension) {
  lua_Integer length = bind_length(L, i, "x[…]");
  struct range range = {.start = 0, .count = x->shape.size[dimension], .step = 1};
  if (length == 0) return range;
  if (length > 3)
    bind_fail(L, "a range is {from, to} or {from, to, step}, got %d values; x[i][j] gives an element", (int)length);
  lua_rawgeti(L, i, 1);
  range.start = take_index(L, x, dimension, "range start");
  int64_t last = range.start;
  if (length > 1) {
    lua_rawgeti(L, i, 2);
    last = take_index(L, x, dimension, "range end");
  }
  if (length > 2) {
    int whole = 0;
    lua_rawgeti(L, i, 3);
    if (lua_type(L, -1) == LUA_TNUMBER) range.step = lua_tointegerx(L, -1, &whole);
    if (!whole || range.step < 1) bind_fail(L, "the step of a range must be a whole number from 1");
    lua_pop(L, 1);
  }
  if (last < range.start)
    bind_fail(L, "the range {%I, %I} of dimension %d runs backwards", (lua_Integer)range.start + 1,
              (lua_Integer)last + 1, dimension + 1);
  range.count = (last - range.start) / range.step + 1;
  return range;
}

/* Whether the list has an entry a dimension: one is a list or a tensor. */
static bool holds_entries(lua_State *L, int i) {
  for (lua_Integer k = 1, n = (lua_Integer)lua_rawlen(L, i); k <= n; k++) {
    bool entry = lua_rawgeti(L, i, k) == LUA_TTABLE || bind_test_tensor(L, -1);
    lua_pop(L, 1);
    if (entry) return true;
  }
  return false;
}

/* The key at stack index 2, as ranges of the first *count dimensions, and a tensor. */
static void parse_key(lua_State *L, const struct tensor *x, struct range *range, int *count, struct pick *pick) {
  int rank = x->shape.rank;
  *pick = (struct pick){.by = bind_test_tensor(L, 2), .covered = 1};
  *count = 0;
  if (rank == 0) bind_fail(L, "a tensor of shape () cannot be indexed; x:item() gives its value");
  if (lua_type(L, 2) == LUA_TNUMBER) {
    lua_pushvalue(L, 2);
    range[0] = (struct range){.selects = true, .start = take_index(L, x, 0, "index"), .count = 1, .step = 1};
    *count = 1;
    return;
  }
  if (pick->by) {
    if (is_mask(pick->by)) pick->covered = pick->by->shape.rank;
    return;
  }
  if (!lua_istable(L, 2))
    bind_fail(L, "a tensor is indexed by a number, a range {from, to}, a tensor, or a list of these, got %s",
              luaL_typename(L, 2));
  if (!holds_entries(L, 2)) {
    range[0] = list_range(L, 2, x, 0);
    *count = 1;
    return;
  }
  lua_Integer entries = bind_length(L, 2, "x[…]");
  if (entries > rank) bind_fail(L, "%d indices for a tensor of shape %s", (int)entries, shape_text(&x->shape));
  bool beside = false; /* the entry before is of indices */
  for (int d = 0; d < entries; d++) {
    lua_rawgeti(L, 2, d + 1);
    struct tensor *by = bind_test_tensor(L, -1);
    if (by) {
      if (pick->count > 0 && (!beside || is_mask(by)))
        bind_fail(L, "several tensors in x[{…}] are int32 indices of neighbouring dimensions");
      if (pick->count == 0) {
        pick->by = by;
        for (int before = 0; before < d; before++) pick->dimension += !range[before].selects;
      }
      pick->each[pick->count++] = by;
      pick->covered = pick->count;
      range[d] = (struct range){.count = x->shape.size[d], .step = 1};
      lua_pop(L, 1);
    } else if (lua_istable(L, -1)) {
      range[d] = list_range(L, lua_gettop(L), x, d);
      lua_pop(L, 1);
    } else {
      range[d] = (struct range){.selects = true, .start = take_index(L, x, d, "index"), .count = 1, .step = 1};
    }
    beside = by && !is_mask(by);
  }
  *count = (int)entries;
}

static bool whole_dimension(const struct range *range, const struct tensor *x, int dimension) {
  return !range->selects && range->count == x->shape.size[dimension] && range->step == 1;
}

/* An unrecorded view for writing, or NULL with message. */
static struct tensor *plain_view(const struct tensor *x, const struct range *range, int count) {
  struct tensor *view = tensor_alias(x);
  for (int d = count - 1; view && d >= 0; d--) {
    if (whole_dimension(&range[d], view, d)) continue;
    struct tensor *next = range[d].selects ? tensor_select(view, d, range[d].start)
                                           : tensor_narrow(view, d, range[d].start, range[d].count, range[d].step);
    tensor_release(view);
    view = next;
  }
  return view;
}

/* ---- keys with a tensor ---- */

static void check_mask(lua_State *L, const struct tensor *x, const struct pick *pick) {
  const struct tensor *mask = pick->by;
  bool fits = mask->shape.rank == pick->covered && pick->dimension + pick->covered <= x->shape.rank;
  for (int i = 0; fits && i < pick->covered; i++) fits = mask->shape.size[i] == x->shape.size[pick->dimension + i];
  if (!fits || mask->shape.rank == 0)
    bind_fail(L, "a mask of shape %s does not fit %s from dimension %d on (indices are int32: x:int() converts)",
              shape_text(&mask->shape), shape_text(&x->shape), pick->dimension + 1);
  struct tensor *flat = tensor_contiguous(pick->by);
  if (!flat) {
    bind_error(L);
    return;
  }
  int64_t count = tensor_count(flat);
  bool wrong = false;
  if (flat->type == TYPE_REAL)
    for (int64_t i = 0; i < count; i++) wrong |= (tensor_real(flat)[i] != 0) & (tensor_real(flat)[i] != 1);
  else
    for (int64_t i = 0; i < count; i++) wrong |= tensor_uint8(flat)[i] > 1;
  tensor_release(flat);
  if (wrong) bind_fail(L, "a mask holds 0 and 1 alone (indices are int32: x:int() converts)");
}

/* Several indices become one of their dimensions together, pushed: row-major, from 1. */
static void join_indices(lua_State *L, const struct tensor *x, struct pick *pick) {
  struct shape shape = pick->by->shape, both;
  int64_t places = 1;
  for (int k = 0; k < pick->count; k++) {
    if (!shape_broadcast(&shape, &pick->each[k]->shape, &both))
      bind_fail(L, "indices of shapes %s and %s in x[{…}] do not broadcast", shape_text(&shape),
                shape_text(&pick->each[k]->shape));
    shape = both;
    places *= x->shape.size[pick->dimension + k];
    if (places > INT32_MAX) bind_fail(L, "x[{…}]: too many elements to number them with int32");
  }
  bind_push_tensor(L, tensor_zeros(TYPE_INT32, &shape));
  struct tensor *joined = bind_tensor(L, -1);
  for (int k = 0; k < pick->count; k++) {
    bind_push_tensor(L, tensor_expand(pick->each[k], &shape));
    bind_push_tensor(L, tensor_copy(bind_tensor(L, -1)));
    const int32_t *index = tensor_int32(bind_tensor(L, -1));
    int64_t size = x->shape.size[pick->dimension + k];
    for (int64_t i = 0; i < tensor_count(joined); i++) {
      if (index[i] < 1 || index[i] > size)
        bind_fail(L, "index %d of dimension %d is out of range: 1 to %I", (int)index[i], pick->dimension + k + 1,
                  (lua_Integer)size);
      int32_t *at = tensor_int32(joined) + i;
      *at = (int32_t)((*at - (k > 0)) * size + index[i]);
    }
    lua_pop(L, 2);
  }
  pick->by = joined;
}

/* The places, from 1, that are picked from the dimensions of x as one: a list, pushed. */
static struct tensor *push_places(lua_State *L, const struct tensor *x, struct pick *pick) {
  if (pick->count > 1) join_indices(L, x, pick);
  struct shape list = shape_of(1, tensor_count(pick->by));
  struct tensor *flat = NULL, *places = NULL;
  if (is_mask(pick->by)) check_mask(L, x, pick);
  struct tensor *by = tensor_contiguous(pick->by);
  if (by) flat = tensor_view_shape(by, &list);
  if (flat && is_mask(by)) {
    struct tensor *found = op_run1("nonzero", flat);
    if (found) list.size[0] = tensor_count(found);
    places = found ? tensor_view_shape(found, &list) : NULL;
    tensor_release(found);
  } else if (flat) {
    places = tensor_retain(flat);
  }
  tensor_release(by);
  tensor_release(flat);
  bind_push_tensor(L, places);
  return bind_tensor(L, -1);
}

/* The shape of what is picked from x. */
static struct shape picked_shape(lua_State *L, const struct tensor *x, const struct pick *pick, int64_t places) {
  struct shape inside = is_mask(pick->by) ? shape_of(1, places) : pick->by->shape, shape = {0};
  if (x->shape.rank - pick->covered + inside.rank > TENSOR_MAX_RANK)
    bind_fail(L, "indices of shape %s in %s make more than %d dimensions", shape_text(&inside), shape_text(&x->shape),
              TENSOR_MAX_RANK);
  for (int i = 0; i < pick->dimension; i++) shape.size[shape.rank++] = x->shape.size[i];
  for (int i = 0; i < inside.rank; i++) shape.size[shape.rank++] = inside.size[i];
  for (int i = pick->dimension + pick->covered; i < x->shape.rank; i++) shape.size[shape.rank++] = x->shape.size[i];
  return shape;
}

/* Pushes x in another shape, recorded. */
static struct tensor *push_reshaped(lua_State *L, struct tensor *x, const struct shape *shape) {
  struct op_value value[OP_MAX_PARAMETERS] = {{.count = shape->rank}};
  for (int i = 0; i < shape->rank; i++) value[0].list[i] = shape->size[i];
  bind_run(L, op_find("reshape"), 1, &x, value);
  return bind_tensor(L, -1);
}

/* Pushes what the key's tensor picks from x. */
static void push_picked(lua_State *L, struct tensor *x, struct pick *pick) {
  struct tensor *places = push_places(L, x, pick);
  struct shape picked = picked_shape(L, x, pick, tensor_count(places)), joined = {0};
  for (int i = 0; i < x->shape.rank; i++) {
    if (i > pick->dimension && i < pick->dimension + pick->covered)
      joined.size[joined.rank - 1] *= x->shape.size[i];
    else
      joined.size[joined.rank++] = x->shape.size[i];
  }
  if (pick->covered != 1) x = push_reshaped(L, x, &joined);
  struct op_value value[OP_MAX_PARAMETERS] = {{.count = 1, .list = {pick->dimension}}};
  bind_run(L, op_find("index_select"), 2, (struct tensor *[]){x, places}, value);
  if (picked.rank != joined.rank || pick->by->shape.rank == 0) push_reshaped(L, bind_tensor(L, -1), &picked);
}

/* ---- reading and writing ---- */

int bind_index_read(lua_State *L) {
  struct tensor *x = bind_tensor(L, 1);
  struct range range[TENSOR_MAX_RANK];
  struct pick pick;
  int count = 0;
  parse_key(L, x, range, &count, &pick);
  if (!pick.by) lua_settop(L, 1);
  if (!tape_tracks(x) || !bind_recording()) {
    struct tensor **slot = bind_new_tensor(L);
    *slot = plain_view(x, range, count);
    if (!*slot) return bind_error(L);
    tape_note_made(*slot, 1, &x);
    bind_made(L, *slot);
    if (pick.by) push_picked(L, *slot, &pick);
    return 1;
  }
  const struct op *select = op_find("select"), *narrow = op_find("narrow");
  for (int d = count - 1; d >= 0; d--) { /* from the last, so that the numbers of those before stay */
    if (whole_dimension(&range[d], x, d)) continue;
    struct op_value value[OP_MAX_PARAMETERS] = {{.count = 1, .list = {d}},
                                                {.count = 1, .list = {range[d].start + 1}},
                                                {.count = 1, .list = {range[d].count}},
                                                {.count = 1, .list = {range[d].step}}};
    bind_run(L, range[d].selects ? select : narrow, 1, &x, value);
    x = bind_tensor(L, -1);
  }
  if (pick.by) push_picked(L, x, &pick);
  return 1;
}

/* x, a part that the key's ranges leave, = source where its tensor picks. */
static int assign_picked(lua_State *L, struct tensor *x, struct pick *pick, const struct tensor *source) {
  struct tensor *places = push_places(L, x, pick);
  struct shape shape = picked_shape(L, x, pick, tensor_count(places));
  struct tensor *wide = tensor_expand(source, &shape);
  int status = wide ? index_assign(x, pick->dimension, pick->covered, places, wide) : STATUS_ERROR;
  tensor_release(wide);
  return status;
}

void bind_index_write(lua_State *L) {
  struct tensor *x = bind_tensor(L, 1), *source = bind_test_tensor(L, 3);
  struct range range[TENSOR_MAX_RANK];
  struct pick pick;
  int count = 0;
  bind_check_writable(L, x, "x[…] = value");
  if (source) {
    bind_check_constant(L, source, "x[…] = value");
    tape_note_write(x, source);
  }
  parse_key(L, x, range, &count, &pick);
  if (!source && lua_type(L, 3) != LUA_TNUMBER)
    bind_fail(L, "an element or a part of a tensor can be set to a number or a tensor, got %s", luaL_typename(L, 3));
  if (!source && pick.by) { /* of x's type: float32 does not hold every int32 */
    bind_push_tensor(L, tensor_new(x->type, &(struct shape){.rank = 0}));
    struct tensor *number = bind_tensor(L, -1);
    bind_check(L, tensor_fill(number, lua_tonumber(L, 3)));
    source = number;
  }
  bind_push_tensor(L, plain_view(x, range, count));
  struct tensor *view = bind_tensor(L, -1);
  bind_check(L, pick.by  ? assign_picked(L, view, &pick, source)
                : source ? tensor_assign(view, source)
                         : tensor_fill(view, lua_tonumber(L, 3)));
}
