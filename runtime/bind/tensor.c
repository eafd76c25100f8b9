/* Tensor: the userdata, its fields, and the methods that are not ops. */
#include "bind.h"

#include <string.h>

#include "../base/memory.h"
#include "../grad/tape.h"

static const char metatable_key; /* its address names the metatable in the registry: faster than a string */

/* ---- userdata ---- */

struct tensor **bind_new_tensor(lua_State *L) {
  struct tensor **slot = lua_newuserdatauv(L, sizeof *slot, 0);
  *slot = NULL;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key);
  lua_setmetatable(L, -2);
  if (bind_in_scope()) bind_note_in_scope(L);
  return slot;
}

/* The reference is the caller's: a failing allocation of the userdata must not lose it. */
static int push_unsafe(lua_State *L) {
  struct tensor **slot = bind_new_tensor(L);
  *slot = lua_touserdata(L, 1);
  bind_made(L, *slot);
  return 1;
}

void bind_push_tensor(lua_State *L, struct tensor *tensor) {
  if (!tensor) bind_error(L);
  luaL_checkstack(L, 3, "too many values");
  lua_pushcfunction(L, push_unsafe);
  lua_pushlightuserdata(L, tensor);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
    tensor_release(tensor);
    lua_error(L);
  }
}

void bind_push_taken(lua_State *L, struct tensor **slot) {
  struct tensor *tensor = *slot;
  *slot = NULL;
  bind_push_tensor(L, tensor);
}

struct tensor **bind_test_slot(lua_State *L, int i) {
  struct tensor **slot = lua_touserdata(L, i);
  if (!slot || !lua_getmetatable(L, i)) return NULL;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key);
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same ? slot : NULL;
}

struct tensor *bind_test_tensor(lua_State *L, int i) {
  struct tensor **slot = bind_test_slot(L, i);
  return slot ? *slot : NULL;
}

struct tensor *bind_tensor(lua_State *L, int i) {
  struct tensor **slot = bind_test_slot(L, i);
  if (!slot) {
    bind_wrong_argument(L, i, "a tensor");
    return NULL;
  }
  bind_check_argument(L, *slot, i, "this tensor has been released");
  return *slot;
}

struct tensor *bind_optional_tensor(lua_State *L, int i) {
  return lua_isnoneornil(L, i) ? NULL : bind_tensor(L, i);
}

void bind_check_constant(lua_State *L, const struct tensor *source, const char *what) {
  if (tape_enabled() && tape_tracks(source))
    luaL_error(L,
               "%s: the values require a gradient, which would be lost; make the whole by cat, stack, where or "
               "arithmetic, or give x:detach()",
               what);
}

void bind_check_writable(lua_State *L, const struct tensor *tensor, const char *what) {
  if (tensor->node && bind_recording())
    bind_fail(L,
              "%s: a tensor that was computed from one that requires gradient cannot be written in place; write into "
              "x:clone() or x:detach(), or inside gls.no_grad()",
              what);
  for (int d = 0; d < tensor->shape.rank; d++)
    if (tensor->stride[d] == 0 && tensor->shape.size[d] > 1)
      bind_fail(L, "%s: dimension %d of this view repeats one element, which cannot be several; write into x:clone()",
                what, d + 1);
  bind_check(L, gradient_before_write(tensor));
}

enum element_type bind_type(lua_State *L, int i) {
  const char *name = bind_text(L, i, NULL);
  for (int type = TYPE_REAL; type <= TYPE_UINT8; type++)
    if (strcmp(name, type_name(type)) == 0) return type;
  return bind_fail(L, "unknown type \"%s\": a tensor is of type %s, int32 or uint8", name, type_name(TYPE_REAL));
}

void bind_sizes(lua_State *L, int first, struct shape *shape) {
  int top = lua_gettop(L);
  bool list = top == first && lua_istable(L, first);
  lua_Integer count = list ? bind_length(L, first, "sizes") : top - first + 1;
  if (count > TENSOR_MAX_RANK)
    bind_fail(L, "%d sizes given: a tensor has at most %d dimensions", (int)count, TENSOR_MAX_RANK);
  *shape = (struct shape){.rank = (int)count};
  for (int d = 0; d < count; d++) {
    if (list)
      lua_rawgeti(L, first, d + 1);
    else
      lua_pushvalue(L, first + d);
    int whole = 0;
    if (lua_type(L, -1) == LUA_TNUMBER) shape->size[d] = lua_tointegerx(L, -1, &whole);
    if (!whole)
      bind_fail(L, "size %d must be a whole number, got %s (sizes are numbers, or one list of them)", d + 1,
                lua_type(L, -1) == LUA_TNUMBER ? lua_tostring(L, -1) : luaL_typename(L, -1));
    lua_pop(L, 1);
  }
}

/* ---- metamethods and fields ---- */

static int tensor_release_slot(lua_State *L) {
  struct tensor **slot = bind_test_slot(L, 1);
  if (!slot) return bind_wrong_argument(L, 1, "a tensor");
  struct tensor *tensor = *slot;
  *slot = NULL;
  tensor_release(tensor);
  return 0;
}

/* Called in protected mode: the text is not Lua's. */
static int push_text(lua_State *L) {
  const char *text = lua_touserdata(L, 1);
  size_t length = strlen(text);
  if (length > 0 && text[length - 1] == '\n') length--;
  lua_pushlstring(L, text, length);
  return 1;
}

static int tensor_tostring(lua_State *L) {
  struct tensor *tensor = bind_test_tensor(L, 1);
  if (!tensor) {
    lua_pushliteral(L, "a released tensor");
    return 1;
  }
  char *text = tensor_format(tensor);
  if (!text) return bind_error(L);
  lua_pushcfunction(L, push_text);
  lua_pushlightuserdata(L, text);
  int status = lua_pcall(L, 1, 1, 0);
  memory_delete(text);
  return status == LUA_OK ? 1 : lua_error(L);
}

static int tensor_length(lua_State *L) {
  struct tensor *tensor = bind_tensor(L, 1);
  if (tensor->shape.rank == 0) return bind_fail(L, "a tensor of shape () has no length");
  lua_pushinteger(L, tensor->shape.size[0]);
  return 1;
}

static int tensor_equal(lua_State *L) {
  struct tensor *a = bind_test_tensor(L, 1), *b = bind_test_tensor(L, 2);
  lua_pushboolean(L, a && a == b);
  return 1;
}

/* A number, or a tensor of one element. */
static double single_value(lua_State *L, int i, const char *what) {
  struct tensor *tensor = bind_test_tensor(L, i);
  if (!tensor) {
    if (lua_type(L, i) == LUA_TNUMBER) return lua_tonumber(L, i);
    return bind_fail(L, "%s: a number or a tensor expected, got %s", what, luaL_typename(L, i));
  }
  if (tensor_count(tensor) != 1)
    return bind_fail(L, "%s: a tensor of one element expected, got shape %s (element by element: x:lt(y), x:le(y) …)",
                     what, shape_text(&tensor->shape));
  return tensor_get(tensor, (int64_t[TENSOR_MAX_RANK]){0});
}

static int tensor_less(lua_State *L) {
  lua_pushboolean(L, single_value(L, 1, "comparison") < single_value(L, 2, "comparison"));
  return 1;
}

static int tensor_less_equal(lua_State *L) {
  lua_pushboolean(L, single_value(L, 1, "comparison") <= single_value(L, 2, "comparison"));
  return 1;
}

static void push_shape(lua_State *L, const struct shape *shape) {
  lua_createtable(L, shape->rank, 0);
  for (int d = 0; d < shape->rank; d++) {
    lua_pushinteger(L, shape->size[d]);
    lua_rawseti(L, -2, d + 1);
  }
}

/* The names of fields and methods, as keys of a table. */
static void push_names(lua_State *L) {
  static const char *const fields[] = {"shape", "type", "grad"};
  lua_newtable(L);
  for (lua_pushnil(L); lua_next(L, lua_upvalueindex(1));) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
    lua_pushboolean(L, true);
    lua_setfield(L, -2, fields[i]);
  }
}

/* __index: methods (upvalue 1), fields, elements. */
static int tensor_index(lua_State *L) {
  if (lua_type(L, 2) != LUA_TSTRING) return bind_index_read(L);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  struct tensor *tensor = bind_tensor(L, 1);
  const char *key = lua_tostring(L, 2);
  if (strcmp(key, "shape") == 0) {
    push_shape(L, &tensor->shape);
  } else if (strcmp(key, "type") == 0) {
    lua_pushstring(L, type_name(tensor->type));
  } else if (strcmp(key, "grad") == 0) {
    struct tensor **slot = bind_new_tensor(L), *gradient = NULL;
    bind_check(L, gradient_dense(tensor, &gradient));
    if (gradient) {
      *slot = tensor_retain(gradient);
      bind_made(L, gradient);
    } else {
      lua_pushnil(L);
    }
  } else if (key[0] == '_') { /* what Lua and libraries ask of every value */
    lua_pushnil(L);
  } else {
    push_names(L);
    bind_push_suggestion_of_keys(L, key, -1);
    return bind_fail(L, "a tensor has no field or method \"%s\"%s", key, lua_tostring(L, -1));
  }
  return 1;
}

static int tensor_newindex(lua_State *L) {
  struct tensor *tensor = bind_tensor(L, 1);
  if (lua_type(L, 2) != LUA_TSTRING) {
    bind_index_write(L);
    return 0;
  }
  if (strcmp(lua_tostring(L, 2), "grad") != 0)
    return bind_fail(L, "field \"%s\" of a tensor cannot be set (only grad can)", lua_tostring(L, 2));
  struct tensor *given = bind_optional_tensor(L, 3);
  if (given && (given->type != TYPE_REAL || !shape_equal(&given->shape, &tensor->shape)))
    return bind_fail(L, "grad: a tensor of type %s and shape %s expected, got %s of shape %s", type_name(TYPE_REAL),
                     shape_text(&tensor->shape), type_name(given->type), shape_text(&given->shape));
  struct tensor *copy = given ? tensor_copy(given) : NULL;
  if (given && !copy) return bind_error(L);
  gradient_clear(tensor);
  if (copy) bind_check(L, gradient_add(tensor, copy));
  return 0;
}

/* ---- methods ---- */

static int method_dim(lua_State *L) {
  lua_pushinteger(L, bind_tensor(L, 1)->shape.rank);
  return 1;
}

static int method_numel(lua_State *L) {
  lua_pushinteger(L, tensor_count(bind_tensor(L, 1)));
  return 1;
}

static int method_size(lua_State *L) {
  struct tensor *tensor = bind_tensor(L, 1);
  if (lua_isnoneornil(L, 2)) {
    push_shape(L, &tensor->shape);
    return 1;
  }
  lua_Integer d = bind_whole(L, 2);
  int rank = tensor->shape.rank;
  lua_Integer from_start = d < 0 ? d + rank : d - 1;
  if (d == 0 || from_start < 0 || from_start >= rank)
    return bind_fail(L, "size: dimension %I is out of range: shape %s has dimensions 1 to %d", d,
                     shape_text(&tensor->shape), rank);
  lua_pushinteger(L, tensor->shape.size[from_start]);
  return 1;
}

static void push_element(lua_State *L, const struct tensor *tensor, const int64_t *index) {
  double value = tensor_get(tensor, index);
  if (tensor->type == TYPE_REAL)
    lua_pushnumber(L, value);
  else
    lua_pushinteger(L, (lua_Integer)value);
}

static int method_item(lua_State *L) {
  struct tensor *tensor = bind_tensor(L, 1);
  if (tensor_count(tensor) != 1)
    return bind_fail(L, "item: a tensor of one element expected, got shape %s", shape_text(&tensor->shape));
  push_element(L, tensor, (int64_t[TENSOR_MAX_RANK]){0});
  return 1;
}

static void push_list(lua_State *L, const struct tensor *tensor, int dimension, int64_t *index) {
  if (dimension == tensor->shape.rank) {
    push_element(L, tensor, index);
    return;
  }
  int64_t size = tensor->shape.size[dimension];
  luaL_checkstack(L, 3, "too many dimensions");
  lua_createtable(L, size < INT32_MAX ? (int)size : INT32_MAX, 0);
  for (int64_t i = 0; i < size; i++) {
    index[dimension] = i;
    push_list(L, tensor, dimension + 1, index);
    lua_rawseti(L, -2, i + 1);
  }
}

static int method_tolist(lua_State *L) {
  push_list(L, bind_tensor(L, 1), 0, (int64_t[TENSOR_MAX_RANK]){0});
  return 1;
}

/* A convenience for methods that give their tensor back. */
static int self(lua_State *L) {
  lua_settop(L, 1);
  return 1;
}

static int method_fill(lua_State *L) {
  struct tensor *tensor = bind_tensor(L, 1);
  bind_check_writable(L, tensor, "fill");
  bind_check(L, tensor_fill(tensor, bind_number(L, 2)));
  tape_note_overwrite(tensor, NULL);
  return self(L);
}

static int method_copy(lua_State *L) {
  struct tensor *tensor = bind_tensor(L, 1), *source = bind_tensor(L, 2);
  bind_check_writable(L, tensor, "copy");
  bind_check_constant(L, source, "copy");
  tape_note_write(tensor, source);
  if (tensor_assign(tensor, source) != STATUS_OK) return bind_fail(L, "copy: %s", status_message());
  tape_note_overwrite(tensor, source);
  return self(L);
}

static int method_accumulate(lua_State *L) {
  struct tensor *tensor = bind_tensor(L, 1), *source = bind_tensor(L, 2);
  double factor = (lua_isnoneornil(L, 3) ? 1 : bind_number(L, 3));
  bind_check_writable(L, tensor, "accumulate");
  bind_check_constant(L, source, "accumulate");
  tape_note_write(tensor, source);
  if (tensor->type != TYPE_REAL || source->type != TYPE_REAL)
    return bind_fail(L, "accumulate: tensors of type %s expected, got %s and %s", type_name(TYPE_REAL),
                     type_name(tensor->type), type_name(source->type));
  const struct op *affine = op_find("affine"), *add = op_find("add");
  struct op_value value[OP_MAX_PARAMETERS] = {{.number = factor}, {.number = 0}};
  if (factor != 1) {
    bind_push_tensor(L, op_run(affine, 1, &source, value));
    source = bind_tensor(L, -1);
  }
  bind_push_tensor(L, op_run(add, 2, (struct tensor *[]){tensor, source}, NULL));
  if (tensor_assign(tensor, bind_tensor(L, -1)) == STATUS_OK) return self(L);
  return bind_fail(L, "accumulate: %s", status_message());
}

static int converted(lua_State *L, enum element_type type) {
  struct tensor *tensor = bind_tensor(L, 1);
  if (tensor->type == type) return self(L);
  bind_push_tensor(L, tensor_convert(tensor, type));
  return 1;
}

static int method_to(lua_State *L) { return converted(L, bind_type(L, 2)); }
static int method_float(lua_State *L) { return converted(L, TYPE_REAL); }
static int method_int(lua_State *L) { return converted(L, TYPE_INT32); }
static int method_byte(lua_State *L) { return converted(L, TYPE_UINT8); }

static int is_tensor(lua_State *L) {
  bind_check_argument(L, !lua_isnone(L, 1), 1, "a value is missing");
  lua_pushboolean(L, bind_test_tensor(L, 1) != NULL);
  return 1;
}

static const struct bind_function metamethods[] = {{"__gc", tensor_release_slot, BIND_ANY, NULL},
                                                   {"__close", tensor_release_slot, BIND_ANY, NULL},
                                                   {"__tostring", tensor_tostring, BIND_ANY, NULL},
                                                   {"__len", tensor_length, BIND_ANY, NULL},
                                                   {"__eq", tensor_equal, BIND_ANY, NULL},
                                                   {"__lt", tensor_less, BIND_ANY, NULL},
                                                   {"__le", tensor_less_equal, BIND_ANY, NULL},
                                                   {"__newindex", tensor_newindex, BIND_ANY, NULL},
                                                   {NULL, NULL, 0, NULL}};

static const struct bind_function methods[] = {
    {"release", tensor_release_slot, 1,
     "x:release()\n"
     "Gives up x at once instead of when the collector finds it dead; using x afterwards is an error."},
    {"dim", method_dim, 1,
     "x:dim() -> number\n"
     "The number of dimensions; 0 for a single value."},
    {"numel", method_numel, 1,
     "x:numel() -> number\n"
     "The number of elements."},
    {"size", method_size, 2,
     "x:size(dimension) -> number; x:size() -> list\n"
     "The size of a dimension (from 1; -1 is the last), or all, as x.shape."},
    {"item", method_item, 1,
     "x:item() -> number\n"
     "The value of a tensor of one element."},
    {"tolist", method_tolist, 1,
     "x:tolist() -> nested lists\n"
     "The values as Lua numbers; a number when x has no dimensions."},
    {"fill", method_fill, 2,
     "x:fill(value) -> x\n"
     "Sets every element, in place."},
    {"copy", method_copy, 2,
     "x:copy(y) -> x\n"
     "x = y in place: y is broadcast to x's shape and converted to its type. Not recorded."},
    {"accumulate", method_accumulate, 3,
     "x:accumulate(y, factor=1) -> x\n"
     "x = x + factor y in place, y broadcast to x's shape. Not recorded."},
    {"to", method_to, 2,
     "x:to(type) -> tensor\n"
     "Converted to \"float32\", \"int32\" or \"uint8\" (rounded toward zero, cut off at the type's ends); x\n"
     "itself when it is of that type. A conversion is not differentiated."},
    {"float", method_float, 1,
     "x:float() -> tensor\n"
     "x:to(\"float32\")."},
    {"int", method_int, 1,
     "x:int() -> tensor\n"
     "x:to(\"int32\")."},
    {"byte", method_byte, 1,
     "x:byte() -> tensor\n"
     "x:to(\"uint8\")."},
    {NULL, NULL, 0, NULL}};

static const struct bind_function functions[] = {{"is_tensor", is_tensor, 1,
                                                  "is_tensor(value) -> boolean\n"
                                                  "True for a tensor that has not been released."},
                                                 {NULL, NULL, 0, NULL}};

void bind_open_tensor(lua_State *L) {
  bind_functions(L, functions);
  luaL_newmetatable(L, BIND_TENSOR);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &metatable_key);
  bind_functions(L, metamethods);
  lua_newtable(L); /* methods; other domains add theirs */
  bind_functions(L, methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "methods");
  lua_pushcclosure(L, tensor_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
