/* Arguments: what a row of the op table is called with, by position and by name in a last table, as the inputs and
   values that the row takes. Every mistake is an error that shows the row's signature. */
#include "bind.h"

#include <string.h>

struct arguments {
  const struct op *op;
  int positional; /* arguments by position */
  int named;      /* stack index of the table of named ones; 0: none */
  int next;       /* the next by position */
};

static int fail(lua_State *L, const struct op *op, const char *message) {
  bind_push_signature(L, op);
  return bind_raise(L, lua_pushfstring(L, "%s: %s; the call is %s", op->name, message, lua_tostring(L, -1)));
}

static bool takes_list(const struct op_parameter *p) {
  return p->kind == OP_TENSORS || p->kind == OP_DIMENSIONS || p->kind == OP_SIZES || p->kind == OP_PAIR ||
         p->kind == OP_INDICES;
}

/* The parameter that argument i fills, or NULL. */
static const struct op_parameter *parameter_at(const struct op *op, int i) {
  for (const struct op_parameter *p = op->parameter; p->name; p++)
    if (p->kind != OP_RANDOM && --i == 0) return p;
  return NULL;
}

/* True when the table has names; each of them must be a parameter's that has no argument by position. */
static bool check_names(lua_State *L, const struct op *op, int table) {
  bool found = false;
  lua_pushnil(L);
  while (lua_next(L, table)) {
    lua_pop(L, 1);
    if (lua_type(L, -1) != LUA_TSTRING) continue;
    found = true;
    const char *name = lua_tostring(L, -1), *known[OP_MAX_PARAMETERS + 1] = {0};
    int count = 0, at = 0;
    for (const struct op_parameter *p = op->parameter; p->name; p++) {
      if (p->kind == OP_RANDOM) continue;
      known[count++] = p->name;
      if (strcmp(p->name, name) == 0) at = count;
    }
    if (at == 0) {
      bind_push_suggestion(L, name, known);
      const char *message = lua_pushfstring(L, "there is no argument \"%s\"%s", name, lua_tostring(L, -1));
      fail(L, op, message);
    }
    if (at < table && !lua_isnil(L, at))
      fail(L, op, lua_pushfstring(L, "argument \"%s\" is given twice, by position and by name", name));
  }
  return found;
}

/* Stack index of the next parameter's argument, 0 when it is absent. Pushes what is given by name. */
static int find_argument(lua_State *L, struct arguments *a, const struct op_parameter *p) {
  if (a->next <= a->positional) {
    int at = a->next++;
    if (!lua_isnil(L, at)) return at;
  }
  if (!a->named) return 0;
  lua_pushstring(L, p->name);
  if (lua_rawget(L, a->named) != LUA_TNIL) return lua_gettop(L);
  lua_pop(L, 1);
  return 0;
}

static int wrong_value(lua_State *L, const struct op *op, const struct op_parameter *p, int at, const char *expected) {
  const char *got = lua_type(L, at) == LUA_TNUMBER ? luaL_tolstring(L, at, NULL)
                    : bind_test_tensor(L, at)      ? "a tensor"
                                                   : luaL_typename(L, at);
  return fail(L, op, lua_pushfstring(L, "%s must be %s, got %s", p->name, expected, got));
}

/* An int32 tensor from the list given, for parameters of indices. */
static int list_to_indices(lua_State *L) {
  lua_Integer length = bind_length(L, 1, "a list of indices");
  struct shape shape = shape_of(1, (int64_t)length);
  bind_push_tensor(L, tensor_new(TYPE_INT32, &shape));
  int32_t *index = tensor_int32(bind_tensor(L, -1));
  for (lua_Integer i = 1; i <= length; i++) {
    int whole = 0;
    lua_rawgeti(L, 1, i);
    lua_Integer value = lua_type(L, -1) == LUA_TNUMBER ? lua_tointegerx(L, -1, &whole) : 0;
    if (!whole || value < INT32_MIN || value > INT32_MAX)
      return bind_fail(L, "entry %d of a list of indices must be a whole number, got %s", (int)i,
                       luaL_tolstring(L, -1, NULL));
    index[i - 1] = (int32_t)value;
    lua_pop(L, 1);
  }
  return 1;
}

static struct tensor *take_tensor(lua_State *L, const struct op *op, const struct op_parameter *p, int at) {
  struct tensor *tensor = bind_test_operand(L, at);
  if (tensor) {
    if (tensor->type == TYPE_REAL ? p->kind != OP_INDICES
                                  : p->kind == OP_ANY_TENSOR || (p->kind != OP_INDICES && op->integers))
      return tensor;
    if (p->kind == OP_INDICES && tensor->type == TYPE_INT32) return tensor;
  } else if (p->kind == OP_INDICES && lua_istable(L, at)) {
    lua_pushcfunction(L, list_to_indices);
    lua_pushvalue(L, at);
    lua_call(L, 1, 1);
    return bind_tensor(L, -1);
  } else if (lua_type(L, at) == LUA_TNUMBER && p->kind != OP_INDICES) {
    return bind_push_number(L, lua_tonumber(L, at));
  }
  if (tensor) {
    const char *type = p->kind == OP_INDICES ? type_name(TYPE_INT32) : type_name(TYPE_REAL);
    const char *message = lua_pushfstring(L, "%s must be a tensor of type %s, got %s (x:to(\"%s\") converts)", p->name,
                                          type, type_name(tensor->type), type);
    fail(L, op, message);
  }
  void *slot = luaL_testudata(L, at, BIND_TENSOR);
  if (slot) fail(L, op, lua_pushfstring(L, "%s is a tensor that has been released", p->name));
  wrong_value(L, op, p, at,
              p->kind == OP_INDICES           ? "an int32 tensor or a list of numbers"
              : p->kind == OP_OPTIONAL_TENSOR ? "a tensor or nil"
                                              : "a tensor");
  return NULL;
}

static int64_t take_integer(lua_State *L, const struct op *op, const struct op_parameter *p, int at,
                            const char *expected) {
  int whole = 0;
  int64_t value = lua_type(L, at) == LUA_TNUMBER ? lua_tointegerx(L, at, &whole) : 0;
  if (!whole) wrong_value(L, op, p, at, expected);
  if (p->kind != OP_DIMENSION && p->kind != OP_DIMENSIONS) return value;
  if (value == 0) fail(L, op, lua_pushfstring(L, "%s: dimensions start at 1 (or at -1, from the end)", p->name));
  return value > 0 ? value - 1 : value;
}

/* Later parameters take numbers by position, so this one cannot take more than one. */
static bool numbers_follow(const struct op_parameter *p) {
  for (p++; p->name; p++)
    if (p->kind >= OP_NUMBER && p->kind != OP_FLAG && p->kind != OP_RANDOM) return true;
  return false;
}

static void take_list(lua_State *L, struct arguments *a, const struct op_parameter *p, int at, struct op_value *value) {
  const char *expected = p->kind == OP_PAIR ? "a whole number or a list of two" : "whole numbers or a list of them";
  int limit = p->kind == OP_PAIR ? 2 : OP_MAX_LIST;
  if (lua_istable(L, at)) {
    lua_Integer count = bind_length(L, at, a->op->name);
    if (count > limit || (p->kind == OP_PAIR && count != 2))
      fail(L, a->op, lua_pushfstring(L, "%s must be %s, got a list of %d", p->name, expected, (int)count));
    for (int i = 0; i < count; i++) {
      lua_rawgeti(L, at, i + 1);
      value->list[i] = take_integer(L, a->op, p, lua_gettop(L), expected);
      lua_pop(L, 1);
    }
    value->count = (int)count;
    return;
  }
  value->list[0] = take_integer(L, a->op, p, at, expected);
  value->count = 1;
  if (p->kind == OP_PAIR) {
    value->list[1] = value->list[0];
    value->count = 2;
    return;
  }
  if (at > a->positional || numbers_follow(p)) return;
  while (a->next <= a->positional && lua_type(L, a->next) == LUA_TNUMBER) { /* x:view(2, 3) */
    if (value->count == limit) fail(L, a->op, lua_pushfstring(L, "%s has more than %d numbers", p->name, limit));
    value->list[value->count++] = take_integer(L, a->op, p, a->next++, expected);
  }
}

static void take_default(lua_State *L, const struct op *op, const struct op_parameter *p, struct op_value *value) {
  if (!p->has_default) {
    if (p->kind == OP_DIMENSIONS) return;
    fail(L, op, lua_pushfstring(L, "argument \"%s\" is missing", p->name));
  }
  value->number = p->default_value;
  if (p->kind == OP_NUMBER || p->kind == OP_DIMENSIONS || p->kind == OP_SIZES) return;
  int64_t given = (int64_t)p->default_value;
  if (p->kind == OP_DIMENSION && given > 0) given--; /* written as a user would, from 1 */
  value->list[0] = value->list[1] = given;
  value->count = p->kind == OP_PAIR ? 2 : 1;
}

static void take_value(lua_State *L, struct arguments *a, const struct op_parameter *p, struct op_value *value) {
  if (p->kind == OP_RANDOM) {
    value->stream = random_next_stream();
    return;
  }
  int at = find_argument(L, a, p);
  if (at == 0) {
    take_default(L, a->op, p, value);
  } else if (p->kind == OP_NUMBER) {
    if (lua_type(L, at) != LUA_TNUMBER) wrong_value(L, a->op, p, at, "a number");
    value->number = lua_tonumber(L, at);
  } else if (p->kind == OP_FLAG) {
    if (lua_type(L, at) != LUA_TBOOLEAN) wrong_value(L, a->op, p, at, "true or false");
    value->list[0] = lua_toboolean(L, at);
    value->count = 1;
  } else if (p->kind == OP_INTEGER || p->kind == OP_DIMENSION) {
    value->list[0] = take_integer(L, a->op, p, at, "a whole number");
    value->count = 1;
  } else {
    take_list(L, a, p, at, value);
  }
}

/* The list of tensors at stack index at, as an array that the stack keeps. */
static struct tensor **take_tensors(lua_State *L, const struct op *op, const struct op_parameter *p, int at,
                                    int *count) {
  if (at == 0 || !lua_istable(L, at)) {
    if (at) wrong_value(L, op, p, at, "a list of tensors");
    fail(L, op, lua_pushfstring(L, "argument \"%s\", a list of tensors, is missing", p->name));
  }
  lua_Integer length = bind_length(L, at, op->name);
  if (length > INT32_MAX / 64) fail(L, op, "too many tensors in the list");
  *count = (int)length;
  struct tensor **input = lua_newuserdatauv(L, (size_t)(length ? length : 1) * sizeof *input, 0);
  for (int i = 0; i < length; i++) {
    lua_rawgeti(L, at, i + 1);
    input[i] = bind_test_tensor(L, -1);
    if (!input[i] || (input[i]->type != TYPE_REAL && !op->integers)) {
      const char *got = input[i] ? type_name(input[i]->type) : luaL_typename(L, -1);
      fail(L, op,
           lua_pushfstring(L, "entry %d of %s must be a tensor of type %s, got %s", i + 1, p->name,
                           type_name(TYPE_REAL), got));
    }
    lua_pop(L, 1);
  }
  return input;
}

/* Whole numbers beside tensors that are all of integers are integers too. whole[i]: where on the stack input i was
   given as one, else 0. */
static void settle_numbers(lua_State *L, const struct op *op, struct bind_arguments *read, const int *whole) {
  struct op_call call = {.op = op, .input_count = read->input_count};
  struct tensor *others[OP_MAX_PARAMETERS];
  call.input = others;
  bool any = false;
  for (int i = 0; i < read->input_count; i++) {
    others[i] = whole[i] ? NULL : read->input[i];
    any = any || whole[i];
  }
  if (!any || op_common_type(&call) == TYPE_REAL) return;
  bool integers = false;
  for (int i = 0; i < read->input_count; i++) integers = integers || (others[i] && others[i]->type != TYPE_REAL);
  for (int i = 0; i < read->input_count && integers; i++)
    if (whole[i]) read->input[i] = bind_push_integer(L, lua_tointeger(L, whole[i]));
}

void bind_read_arguments(lua_State *L, const struct op *op, struct bind_arguments *read) {
  int top = lua_gettop(L), value_count = 0;
  int whole[OP_MAX_PARAMETERS] = {0};
  struct arguments a = {.op = op, .positional = top, .next = 1};
  memset(read, 0, sizeof *read);
  read->input = read->input_array;
  luaL_checkstack(L, 2 * OP_MAX_PARAMETERS + 8, "too many arguments");
  if (top > 0 && lua_type(L, top) == LUA_TTABLE) {
    const struct op_parameter *p = parameter_at(op, top);
    bool list = p && takes_list(p) && !(p->kind == OP_PAIR && lua_rawlen(L, top) == 0);
    if (check_names(L, op, top)) a.named = top;
    if (!list || (a.named && lua_rawlen(L, top) == 0)) a.positional = top - 1;
    if (!a.named && !list && lua_rawlen(L, top) > 0) a.positional = top;
  }
  for (const struct op_parameter *p = op->parameter; p->name; p++) {
    if (p->kind >= OP_NUMBER) {
      take_value(L, &a, p, &read->value[value_count++]);
      continue;
    }
    int at = find_argument(L, &a, p);
    if (p->kind == OP_TENSORS) {
      read->input = take_tensors(L, op, p, at, &read->input_count);
    } else if (at) {
      whole[read->input_count] = lua_isinteger(L, at) && bind_fusing == 0 ? at : 0;
      read->input[read->input_count++] = take_tensor(L, op, p, at);
    } else if (p->kind == OP_OPTIONAL_TENSOR) {
      read->input[read->input_count++] = NULL;
    } else {
      fail(L, op, lua_pushfstring(L, "argument \"%s\", a tensor, is missing", p->name));
    }
  }
  if (a.next <= a.positional) fail(L, op, lua_pushfstring(L, "too many arguments (%d)", top));
  if (op->integers && op->parameter[0].kind != OP_TENSORS) settle_numbers(L, op, read, whole);
}
