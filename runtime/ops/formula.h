/* Formula: expressions of rows of the op table, for derivatives that are to be differentiated again (op.h: second,
   graph, composed). A term is what a row gives; it is borrowed from its formula and goes with it. A term that could not
   be made is NULL, as is what is made of it, and the message is set: only the end of a formula is checked.
     struct formula f = {0};
     struct tensor *slope = term_affine(&f, term_of(&f, "square", y), -1, 1);
     return formula_end(&f, term_chain(&f, gradient, slope)); */
#ifndef GLS_OPS_FORMULA_H
#define GLS_OPS_FORMULA_H

#include "op.h"

enum { FORMULA_FEW = 16 };

struct formula {
  int count, capacity;
  struct tensor *few[FORMULA_FEW], **term; /* the first terms, and the others */
};

/* What rows say: second and composed; graph (op.h). */
typedef struct tensor *formula_rule(struct formula *f, const struct op_call *call);
typedef int graph_rule(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result);

/* The result with a reference of its own (NULL stays NULL); everything else is released. */
struct tensor *formula_end(struct formula *f, struct tensor *result);
/* *result = term with a reference of its own, which outlives the formula. */
int formula_give(struct tensor *term, struct tensor **result);
/* The formula takes over a tensor. */
struct tensor *formula_keep(struct formula *f, struct tensor *term);

/* What a row makes: of one, two or three tensors, by name; of values too. */
struct tensor *term_of(struct formula *f, const char *name, struct tensor *x);
struct tensor *term_of_two(struct formula *f, const char *name, struct tensor *x, struct tensor *y);
struct tensor *term_of_three(struct formula *f, const char *name, struct tensor *x, struct tensor *y, struct tensor *z);
struct tensor *term_run(struct formula *f, const char *name, int count, struct tensor *const *input,
                        const struct op_value *values);

struct tensor *term_number(struct formula *f, double number); /* a constant of rank 0 */
struct tensor *term_add(struct formula *f, struct tensor *x, struct tensor *y);
struct tensor *term_sub(struct formula *f, struct tensor *x, struct tensor *y);
struct tensor *term_mul(struct formula *f, struct tensor *x, struct tensor *y);
/* gradient · slope, but 0 where the gradient is 0 (elementwise.h, unless_zero). */
struct tensor *term_chain(struct formula *f, struct tensor *gradient, struct tensor *slope);
struct tensor *term_affine(struct formula *f, struct tensor *x, double scale, double shift);
struct tensor *term_power(struct formula *f, struct tensor *x, double exponent);
struct tensor *term_clamp(struct formula *f, struct tensor *x, double low, double high);
/* Over the dimensions marked, which stay with size 1. "sum" or "mean". */
struct tensor *term_reduce(struct formula *f, const char *name, struct tensor *x, const bool *dimension);
/* The same over one dimension. */
struct tensor *term_reduce_one(struct formula *f, const char *name, struct tensor *x, int dimension);
/* Summed to a shape that was broadcast to x's. */
struct tensor *term_sum_to(struct formula *f, struct tensor *x, const struct shape *shape);
struct tensor *term_reshape(struct formula *f, struct tensor *x, const struct shape *shape);
struct tensor *term_expand(struct formula *f, struct tensor *x, const struct shape *shape);
/* Places first … first + count − 1 of a dimension. */
struct tensor *term_narrow(struct formula *f, struct tensor *x, int dimension, int64_t first, int64_t count);
/* The last two dimensions exchanged. */
struct tensor *term_transpose(struct formula *f, struct tensor *x);

#endif
