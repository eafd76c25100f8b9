/* Signature: how a row of the op table is called, and its help text, written from the row. */
#include "bind.h"

#include <stdio.h>

/* "narrow(x, dimension, start, count, step=1)": optional tensors in brackets, defaults with their values. */
void bind_push_signature(lua_State *L, const struct op *op) {
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  luaL_addstring(&text, op->name);
  luaL_addchar(&text, '(');
  const char *separator = "";
  for (const struct op_parameter *p = op->parameter; p->name; p++) {
    if (p->kind == OP_RANDOM) continue;
    luaL_addstring(&text, separator);
    separator = ", ";
    if (p->kind == OP_OPTIONAL_TENSOR) luaL_addchar(&text, '[');
    luaL_addstring(&text, p->name);
    if (p->kind == OP_OPTIONAL_TENSOR) luaL_addchar(&text, ']');
    if (!p->has_default || p->kind < OP_NUMBER) continue;
    char value[48];
    if (p->kind == OP_FLAG) {
      snprintf(value, sizeof value, "=%s", p->default_value != 0 ? "true" : "false");
    } else if (p->kind == OP_DIMENSIONS || p->kind == OP_SIZES) {
      snprintf(value, sizeof value, "=%s", p->kind == OP_DIMENSIONS ? "all" : "{}");
    } else {
      snprintf(value, sizeof value, "=%.9g", p->default_value);
    }
    luaL_addstring(&text, value);
  }
  luaL_addchar(&text, ')');
  luaL_pushresult(&text);
}

void bind_push_op_doc(lua_State *L, const struct op *op) {
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  bind_push_signature(L, op);
  luaL_addvalue(&text);
  luaL_addstring(&text, " -> tensor\n");
  luaL_addstring(&text, op->doc ? op->doc : "");
  if (op->flags & OP_NO_GRADIENT) luaL_addstring(&text, "\nNot differentiable.");
  if (op->samples && op->samples[0]) {
    luaL_addstring(&text, "\nIs checked with inputs of shapes: ");
    for (int i = 0; op->samples[i]; i++) {
      if (i) luaL_addstring(&text, " | ");
      luaL_addstring(&text, op->samples[i]);
    }
  }
  luaL_pushresult(&text);
}
