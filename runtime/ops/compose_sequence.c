/* Attention and recurrences written in other rows, for derivatives of their derivatives (compose.h). */
#include <math.h>

#include "../base/memory.h"
#include "compose.h"

typedef struct tensor *term;

/* ---- attention ---- */

enum { QUERY, KEY, VALUE, MASK };

/* (…, n, heads · d) as (…, heads, n, d), or back. */
static term heads_apart(struct formula *f, term x, int64_t heads, bool back) {
  if (!x || heads == 1) return x;
  struct shape shape = x->shape;
  int last = shape.rank - 1;
  if (!back) {
    shape.size[last + 1] = shape.size[last] / heads;
    shape.size[last] = heads;
    shape.rank++;
    x = term_reshape(f, x, &shape);
    last++;
  }
  const struct op_value exchanged[OP_MAX_PARAMETERS] = {{.list = {last - 2}}, {.list = {last - 1}}};
  x = term_run(f, "transpose", 1, &x, exchanged);
  if (!x || !back) return x;
  shape = x->shape;
  shape.size[last - 1] *= shape.size[last];
  shape.rank--;
  return term_reshape(f, x, &shape);
}

/* 1 where the mask lets a key be seen, 0 elsewhere, for all heads alike; NULL where there is no mask. */
static term seen(struct formula *f, struct tensor *mask, int64_t heads) {
  if (!mask) return NULL;
  struct shape shape = mask->shape;
  if (heads > 1 && shape.rank > 2) {
    for (int i = shape.rank; i > shape.rank - 2; i--) shape.size[i] = shape.size[i - 1];
    shape.size[shape.rank - 2] = 1;
    shape.rank++;
  }
  return term_reshape(f, term_of_two(f, "ne", mask, term_number(f, 0)), &shape);
}

/* 0 where allowed is 1, −10³⁰ where it is 0. */
static term lowering(struct formula *f, term allowed) { return term_affine(f, allowed, 1e30, -1e30); }

/* softmax(scale · query keyᵀ) value. Scores that are not seen are lowered until their weights are 0; only where a mask
   may hide all keys of a query they are made 0 besides. */
term attention_composed(struct formula *f, const struct op_call *call) {
  const int64_t heads = call->value[0].list[0];
  term part[3] = {call->input[QUERY], call->input[KEY], call->input[VALUE]};
  const struct shape *query = &part[QUERY]->shape;
  const int64_t n = query->size[query->rank - 2];
  if (!part[KEY]) {
    const int64_t width = query->size[query->rank - 1] / 3;
    for (int i = VALUE; i >= QUERY; i--) part[i] = term_narrow(f, part[QUERY], query->rank - 1, i * width, width);
  }
  for (int i = 0; i < 3; i++) part[i] = heads_apart(f, part[i], heads, false);
  if (!part[QUERY] || !part[VALUE]) return NULL;
  const int64_t size = part[QUERY]->shape.size[part[QUERY]->shape.rank - 1];
  const double given = call->value[2].number, scale = given != 0 ? given : 1 / sqrt((double)(size ? size : 1));
  const struct op_value last[OP_MAX_PARAMETERS] = {{.list = {-1}}}, main[OP_MAX_PARAMETERS] = {{.list = {0}}};
  term scores = term_of_two(f, "matmul", term_affine(f, part[QUERY], scale, 0), term_transpose(f, part[KEY]));
  term allowed = seen(f, call->input[MASK], heads);
  if (allowed) scores = term_add(f, scores, lowering(f, allowed));
  if (call->value[1].list[0]) {
    const struct shape square = shape_of(2, n, n);
    term ones = term_expand(f, term_number(f, 1), &square);
    scores = term_add(f, scores, lowering(f, term_run(f, "tril", 1, &ones, main)));
  }
  term weights = term_run(f, "softmax", 1, &scores, last);
  if (allowed) weights = term_mul(f, weights, allowed);
  term output = heads_apart(f, term_of_two(f, "matmul", weights, part[VALUE]), heads, true);
  return output ? term_expand(f, output, &call->output->shape) : NULL;
}

/* ---- recurrences: one time after the other ---- */

enum { X, WEIGHT, BIAS, STATE, TIMES };

/* Gate k of u, (batch, gates · width). */
static term gate(struct formula *f, term u, int64_t k, int64_t width) { return term_narrow(f, u, 1, k * width, width); }

/* z a + (1 − z) b */
static term between(struct formula *f, term z, term a, term b) {
  return term_add(f, b, term_mul(f, z, term_sub(f, a, b)));
}

/* The state after a time, of that before it; u = h W + bias. */
static term lstm_step(struct formula *f, term x, term u, term before, int64_t width) {
  term sum = term_add(f, x, u), i = term_of(f, "sigmoid", gate(f, sum, 0, width));
  term forget = term_of(f, "sigmoid", gate(f, sum, 1, width)), g = term_of(f, "tanh", gate(f, sum, 2, width));
  term o = term_of(f, "sigmoid", gate(f, sum, 3, width));
  term c = term_add(f, term_mul(f, forget, term_narrow(f, before, 1, width, width)), term_mul(f, i, g));
  const struct op_value columns[OP_MAX_PARAMETERS] = {{.list = {1}}};
  return term_run(f, "cat", 2, (term[]){term_mul(f, o, term_of(f, "tanh", c)), c}, columns);
}

static term gru_step(struct formula *f, term x, term u, term before, int64_t width) {
  term sum = term_add(f, term_narrow(f, x, 1, 0, 2 * width), term_narrow(f, u, 1, 0, 2 * width));
  term r = term_of(f, "sigmoid", gate(f, sum, 0, width)), z = term_of(f, "sigmoid", gate(f, sum, 1, width));
  term new = term_of(f, "tanh", term_add(f, gate(f, x, 2, width), term_mul(f, r, gate(f, u, 2, width))));
  return between(f, z, before, new);
}

/* The mask of a time, (batch, 1), chooses between the new state and the old. */
static term next_state(struct formula *f, const struct op_call *call, term before, int64_t t,
                       term step(struct formula *f, term x, term u, term before, int64_t width)) {
  const int64_t width = call->input[WEIGHT]->shape.size[0];
  const struct op_value time[OP_MAX_PARAMETERS] = {{.list = {1}}, {.list = {t + 1}}};
  term now = term_run(f, "select", 1, &call->input[X], time);
  term u = before ? term_of_two(f, "matmul", term_narrow(f, before, 1, 0, width), call->input[WEIGHT]) : NULL;
  if (call->input[BIAS]) u = term_add(f, u, call->input[BIAS]);
  term after = now && u ? step(f, now, u, before, width) : NULL;
  if (!call->input[TIMES]) return after;
  return term_of_three(f, "where", term_narrow(f, call->input[TIMES], 1, t, 1), after, before);
}

static term recurrent(struct formula *f, const struct op_call *call,
                      term step(struct formula *f, term x, term u, term before, int64_t width)) {
  const struct shape *shape = &call->output->shape;
  const int64_t batch = shape->size[0], times = shape->size[1];
  const struct shape state = shape_of(2, batch, shape->size[2]);
  const struct op_value along[OP_MAX_PARAMETERS] = {{.list = {1}}};
  if (times == 0) return term_reshape(f, call->input[X], shape); /* nothing of nothing */
  term now = call->input[STATE], *all = memory_new((size_t)times, sizeof(term)), result = NULL;
  if (!now) now = formula_keep(f, tensor_zeros(TYPE_REAL, &state));
  for (int64_t t = 0; t < times && all; t++) all[t] = now = next_state(f, call, now, t, step);
  if (all) result = term_run(f, "stack", (int)times, all, along);
  memory_delete(all);
  return result;
}

term lstm_composed(struct formula *f, const struct op_call *call) { return recurrent(f, call, lstm_step); }
term gru_composed(struct formula *f, const struct op_call *call) { return recurrent(f, call, gru_step); }
