/* Index: x[key] and x[key] = value.
   A key is a number (an index of the first dimension, which goes away); a list of numbers, {from, to} or
   {from, to, step}, a range of the first dimension; or a list with a list in it, one entry a dimension: a number
   selects, a list is a range, {} is all of it. Indices start at 1, negative ones count from the end, ranges include
   both ends. Reading goes through the ops narrow and select, so that it is recorded; the result is a view. */
#include "bind.h"

#include "../grad/tape.h"

struct range {
  bool selects; /* one index: the dimension goes away */
  int64_t start, count, step;
};

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

static bool holds_list(lua_State *L, int i) {
  for (lua_Integer k = 1, n = (lua_Integer)lua_rawlen(L, i); k <= n; k++) {
    bool list = lua_rawgeti(L, i, k) == LUA_TTABLE;
    lua_pop(L, 1);
    if (list) return true;
  }
  return false;
}

/* The key at stack index 2, as ranges of the first *count dimensions. */
static void parse_key(lua_State *L, const struct tensor *x, struct range *range, int *count) {
  int rank = x->shape.rank;
  if (rank == 0) bind_fail(L, "a tensor of shape () cannot be indexed; x:item() gives its value");
  if (lua_type(L, 2) == LUA_TNUMBER) {
    lua_pushvalue(L, 2);
    range[0] = (struct range){.selects = true, .start = take_index(L, x, 0, "index"), .count = 1, .step = 1};
    *count = 1;
    return;
  }
  if (!lua_istable(L, 2))
    bind_fail(L, "a tensor is indexed by a number, a range {from, to}, or a list of these, got %s",
              luaL_typename(L, 2));
  if (!holds_list(L, 2)) {
    range[0] = list_range(L, 2, x, 0);
    *count = 1;
    return;
  }
  lua_Integer entries = bind_length(L, 2, "x[…]");
  if (entries > rank) bind_fail(L, "%d indices for a tensor of shape %s", (int)entries, shape_text(&x->shape));
  for (int d = 0; d < entries; d++) {
    if (lua_rawgeti(L, 2, d + 1) == LUA_TTABLE) {
      range[d] = list_range(L, lua_gettop(L), x, d);
      lua_pop(L, 1);
    } else {
      range[d] = (struct range){.selects = true, .start = take_index(L, x, d, "index"), .count = 1, .step = 1};
    }
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

int bind_index_read(lua_State *L) {
  struct tensor *x = bind_tensor(L, 1);
  struct range range[TENSOR_MAX_RANK];
  int count = 0;
  parse_key(L, x, range, &count);
  lua_settop(L, 1);
  if (!tape_tracks(x) || !bind_recording()) {
    struct tensor **slot = bind_new_tensor(L);
    *slot = plain_view(x, range, count);
    if (!*slot) return bind_error(L);
    bind_made(L, *slot);
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
  return 1;
}

void bind_index_write(lua_State *L) {
  struct tensor *x = bind_tensor(L, 1), *source = bind_test_tensor(L, 3);
  struct range range[TENSOR_MAX_RANK];
  int count = 0;
  bind_check_writable(L, x, "x[…] = value");
  if (source) bind_check_constant(L, source, "x[…] = value");
  parse_key(L, x, range, &count);
  if (!source && lua_type(L, 3) != LUA_TNUMBER)
    bind_fail(L, "an element or a part of a tensor can be set to a number or a tensor, got %s", luaL_typename(L, 3));
  struct tensor *view = plain_view(x, range, count);
  int status = !view ? STATUS_ERROR : source ? tensor_assign(view, source) : tensor_fill(view, lua_tonumber(L, 3));
  tensor_release(view);
  bind_check(L, status);
}
