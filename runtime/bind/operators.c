/* Operators: + - * / // % ^ and the unary minus of tensors. A number beside a tensor goes to the rows made for
   numbers. */
#include "bind.h"

/* Rows that the operators use; a number beside a tensor goes to the rows made for numbers. */
static const struct op *row_add, *row_sub, *row_mul, *row_div, *row_pow, *row_affine, *row_power, *row_neg,
    *row_reciprocal, *row_floor_divide, *row_remainder;

static void push_affine(lua_State *L, struct tensor *x, double scale, double shift) {
  struct op_value value[OP_MAX_PARAMETERS] = {{.number = scale}, {.number = shift}};
  bind_run(L, row_affine, 1, &x, value);
}

struct operands {
  struct tensor *x, *y;
  double number;    /* the operand that is not a tensor */
  bool number_left; /* it stands on the left */
};

/* True for two tensors; else x is the only one. */
static bool take_operands(lua_State *L, const char *sign, struct operands *o) {
  *o = (struct operands){.x = bind_test_operand(L, 1), .y = bind_test_operand(L, 2)};
  for (int i = 1; i <= 2; i++) {
    struct tensor *tensor = i == 1 ? o->x : o->y;
    if (!tensor && lua_type(L, i) != LUA_TNUMBER)
      bind_fail(L, "%s operand of %s is %s: a tensor or a number expected", i == 1 ? "left" : "right", sign,
                luaL_testudata(L, i, BIND_TENSOR) ? "a released tensor" : luaL_typename(L, i));
  }
  struct tensor **missing = o->x ? &o->y : &o->x;
  const struct tensor *given = o->x ? o->x : o->y;
  if (!*missing && given->type != TYPE_REAL) { /* a whole number beside integers is one */
    int i = o->x ? 2 : 1;
    *missing = lua_isinteger(L, i) && bind_fusing == 0 ? bind_push_integer(L, lua_tointeger(L, i))
                                                       : bind_push_number(L, lua_tonumber(L, i));
  }
  if (o->x && o->y) return true;
  o->number_left = !o->x;
  o->number = lua_tonumber(L, o->x ? 2 : 1);
  if (!o->x) o->x = o->y;
  return false;
}

static void push_two(lua_State *L, const struct op *op, const struct operands *o) {
  bind_run(L, op, 2, (struct tensor *[]){o->x, o->y}, NULL);
}

static int operator_add(lua_State *L) {
  struct operands o;
  if (take_operands(L, "+", &o))
    push_two(L, row_add, &o);
  else
    push_affine(L, o.x, 1, o.number);
  return 1;
}

static int operator_sub(lua_State *L) {
  struct operands o;
  if (take_operands(L, "-", &o))
    push_two(L, row_sub, &o);
  else
    push_affine(L, o.x, o.number_left ? -1 : 1, o.number_left ? o.number : -o.number);
  return 1;
}

static int operator_mul(lua_State *L) {
  struct operands o;
  if (take_operands(L, "*", &o))
    push_two(L, row_mul, &o);
  else
    push_affine(L, o.x, o.number, 0);
  return 1;
}

static int operator_div(lua_State *L) {
  struct operands o;
  if (take_operands(L, "/", &o)) {
    push_two(L, row_div, &o);
  } else if (!o.number_left) {
    push_affine(L, o.x, 1 / o.number, 0);
  } else if (o.number == 1) {
    bind_run(L, row_reciprocal, 1, &o.x, NULL);
  } else {
    bind_run(L, row_div, 2, (struct tensor *[]){bind_push_number(L, o.number), o.x}, NULL);
  }
  return 1;
}

static int operator_pow(lua_State *L) {
  struct operands o;
  if (take_operands(L, "^", &o)) {
    push_two(L, row_pow, &o);
  } else if (!o.number_left) {
    struct op_value value[OP_MAX_PARAMETERS] = {{.number = o.number}};
    bind_run(L, row_power, 1, &o.x, value);
  } else {
    bind_run(L, row_pow, 2, (struct tensor *[]){bind_push_number(L, o.number), o.x}, NULL);
  }
  return 1;
}

/* // and %: a number is a tensor of rank 0. */
static int operator_of_two(lua_State *L, const char *sign, const struct op *op) {
  struct operands o;
  if (!take_operands(L, sign, &o)) {
    o.y = o.number_left ? o.x : bind_push_number(L, o.number);
    if (o.number_left) o.x = bind_push_number(L, o.number);
  }
  push_two(L, op, &o);
  return 1;
}

static int operator_floor_divide(lua_State *L) { return operator_of_two(L, "//", row_floor_divide); }
static int operator_remainder(lua_State *L) { return operator_of_two(L, "%", row_remainder); }

static int operator_unm(lua_State *L) {
  struct operands o;
  take_operands(L, "-", &o);
  bind_run(L, row_neg, 1, &o.x, NULL);
  return 1;
}

static const struct bind_function operators[] = {{"__add", operator_add, BIND_ANY, NULL},
                                                 {"__sub", operator_sub, BIND_ANY, NULL},
                                                 {"__mul", operator_mul, BIND_ANY, NULL},
                                                 {"__div", operator_div, BIND_ANY, NULL},
                                                 {"__pow", operator_pow, BIND_ANY, NULL},
                                                 {"__idiv", operator_floor_divide, BIND_ANY, NULL},
                                                 {"__mod", operator_remainder, BIND_ANY, NULL},
                                                 {"__unm", operator_unm, BIND_ANY, NULL},
                                                 {NULL, NULL, 0, NULL}};

void bind_open_operators(lua_State *L) {
  row_add = op_find("add");
  row_sub = op_find("sub");
  row_mul = op_find("mul");
  row_div = op_find("div");
  row_pow = op_find("pow");
  row_affine = op_find("affine");
  row_power = op_find("power");
  row_neg = op_find("neg");
  row_reciprocal = op_find("reciprocal");
  row_floor_divide = op_find("floor_divide");
  row_remainder = op_find("remainder");
  luaL_getmetatable(L, BIND_TENSOR);
  bind_functions(L, operators);
  lua_pop(L, 1);
}
