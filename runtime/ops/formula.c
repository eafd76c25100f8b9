/* Formula: terms, and the list of those that a formula holds. */
#include "formula.h"

#include "../base/memory.h"
#include "elementwise.h"

struct tensor *formula_keep(struct formula *f, struct tensor *term) {
  if (!term) return NULL;
  if (f->count < FORMULA_FEW) return f->few[f->count++] = term;
  int more = f->count - FORMULA_FEW;
  if (more == f->capacity) {
    int capacity = f->capacity ? 2 * f->capacity : 2 * FORMULA_FEW;
    struct tensor **grown = memory_new((size_t)capacity, sizeof *grown);
    if (!grown) {
      tensor_release(term);
      return NULL;
    }
    for (int i = 0; i < more; i++) grown[i] = f->term[i];
    memory_delete(f->term);
    f->term = grown;
    f->capacity = capacity;
  }
  f->count++;
  return f->term[more] = term;
}

struct tensor *formula_end(struct formula *f, struct tensor *result) {
  if (result) tensor_retain(result);
  for (int i = 0; i < f->count; i++) tensor_release(i < FORMULA_FEW ? f->few[i] : f->term[i - FORMULA_FEW]);
  memory_delete(f->term);
  f->count = f->capacity = 0;
  f->term = NULL;
  return result;
}

int formula_give(struct tensor *term, struct tensor **result) {
  *result = term ? tensor_retain(term) : NULL;
  return term ? STATUS_OK : STATUS_ERROR;
}

static struct tensor *run_row(struct formula *f, const struct op *op, int count, struct tensor *const *input,
                              const struct op_value *values) {
  for (int i = 0; i < count; i++)
    if (!input[i]) return NULL;
  return formula_keep(f, op_apply(op, count, input, values));
}

struct tensor *term_run(struct formula *f, const char *name, int count, struct tensor *const *input,
                        const struct op_value *values) {
  const struct op *op = op_find(name);
  if (op) return run_row(f, op, count, input, values);
  status_error("there is no op %s", name);
  return NULL;
}

struct tensor *term_of(struct formula *f, const char *name, struct tensor *x) {
  const struct op_value none[OP_MAX_PARAMETERS] = {0};
  return term_run(f, name, 1, &x, none);
}

struct tensor *term_of_two(struct formula *f, const char *name, struct tensor *x, struct tensor *y) {
  return term_run(f, name, 2, (struct tensor *[]){x, y}, NULL);
}

struct tensor *term_of_three(struct formula *f, const char *name, struct tensor *x, struct tensor *y,
                             struct tensor *z) {
  return term_run(f, name, 3, (struct tensor *[]){x, y, z}, NULL);
}

struct tensor *term_number(struct formula *f, double number) {
  return formula_keep(f, tensor_scalar((real)number));
}

struct tensor *term_add(struct formula *f, struct tensor *x, struct tensor *y) {
  return term_of_two(f, "add", x, y);
}
struct tensor *term_sub(struct formula *f, struct tensor *x, struct tensor *y) {
  return term_of_two(f, "sub", x, y);
}
struct tensor *term_mul(struct formula *f, struct tensor *x, struct tensor *y) {
  return term_of_two(f, "mul", x, y);
}

struct tensor *term_chain(struct formula *f, struct tensor *gradient, struct tensor *slope) {
  return run_row(f, &elementwise_chain, 2, (struct tensor *[]){gradient, slope}, NULL);
}

struct tensor *term_affine(struct formula *f, struct tensor *x, double scale, double shift) {
  const struct op_value values[OP_MAX_PARAMETERS] = {{.number = scale}, {.number = shift}};
  return term_run(f, "affine", 1, &x, values);
}

struct tensor *term_power(struct formula *f, struct tensor *x, double exponent) {
  const struct op_value values[OP_MAX_PARAMETERS] = {{.number = exponent}};
  return term_run(f, "power", 1, &x, values);
}

struct tensor *term_clamp(struct formula *f, struct tensor *x, double low, double high) {
  const struct op_value values[OP_MAX_PARAMETERS] = {{.number = low}, {.number = high}};
  return term_run(f, "clamp", 1, &x, values);
}

struct tensor *term_reduce(struct formula *f, const char *name, struct tensor *x, const bool *dimension) {
  struct op_value values[OP_MAX_PARAMETERS] = {[1] = {.list = {1}}};
  if (!x) return NULL;
  for (int i = 0; i < x->shape.rank; i++)
    if (dimension[i]) values[0].list[values[0].count++] = i;
  return values[0].count > 0 ? term_run(f, name, 1, &x, values) : x;
}

struct tensor *term_reduce_one(struct formula *f, const char *name, struct tensor *x, int dimension) {
  bool marked[TENSOR_MAX_RANK] = {false};
  marked[dimension] = true;
  return term_reduce(f, name, x, marked);
}

struct tensor *term_sum_to(struct formula *f, struct tensor *x, const struct shape *shape) {
  if (!x || shape_equal(&x->shape, shape)) return x;
  bool marked[TENSOR_MAX_RANK] = {false};
  int extra = x->shape.rank - shape->rank;
  for (int i = 0; i < x->shape.rank; i++)
    marked[i] = i < extra || (shape->size[i - extra] == 1 && x->shape.size[i] != 1);
  return term_reshape(f, term_reduce(f, "sum", x, marked), shape);
}

static struct tensor *to_sizes(struct formula *f, const char *name, struct tensor *x, const struct shape *shape) {
  struct op_value values[OP_MAX_PARAMETERS] = {{.count = shape->rank}};
  if (!x || shape_equal(&x->shape, shape)) return x;
  for (int i = 0; i < shape->rank; i++) values[0].list[i] = shape->size[i];
  return term_run(f, name, 1, &x, values);
}

/* What is not recorded has no need of the rows for its views. */
struct tensor *term_reshape(struct formula *f, struct tensor *x, const struct shape *shape) {
  if (op_recorder || !x || !tensor_is_contiguous(x)) return to_sizes(f, "reshape", x, shape);
  return shape_equal(&x->shape, shape) ? x : formula_keep(f, tensor_view_shape(x, shape));
}

struct tensor *term_expand(struct formula *f, struct tensor *x, const struct shape *shape) {
  return to_sizes(f, "expand", x, shape);
}

struct tensor *term_narrow(struct formula *f, struct tensor *x, int dimension, int64_t first, int64_t count) {
  const struct op_value values[OP_MAX_PARAMETERS] = {
      {.list = {dimension}}, {.list = {first + 1}}, {.list = {count}}, {.list = {1}}};
  return term_run(f, "narrow", 1, &x, values);
}

struct tensor *term_transpose(struct formula *f, struct tensor *x) {
  if (!x) return NULL;
  if (!op_recorder) return formula_keep(f, tensor_transpose(x, x->shape.rank - 2, x->shape.rank - 1));
  const struct op_value values[OP_MAX_PARAMETERS] = {{.list = {x->shape.rank - 2}}, {.list = {x->shape.rank - 1}}};
  return term_run(f, "transpose", 1, &x, values);
}
