/* Elementwise: what the rows of elementwise.c give to the functions of elementwise_run.c that all of them share.
   A kernel sees contiguous elements only; elementwise_walk.c cuts any strides and any broadcasting into such blocks. */
#ifndef GLS_OPS_ELEMENTWISE_H
#define GLS_OPS_ELEMENTWISE_H

#include "formula.h"

/* One block: result = what the kernel computes. Operands that the kernel does not read may be NULL. */
struct elements {
  real *result;
  const real *x, *y, *z; /* inputs 0, 1, 2 */
  const real *gradient;  /* of the output (vjp), or the tangent of an input (jvp) */
  const real *output;    /* what the kernel of the values gave */
  int64_t count;
  const struct op_value *value;
  const struct elementwise_pair *pair; /* of elementwise_pair_values alone */
};
typedef void elementwise_kernel(const struct elements *e);

/* One element of operands of which none is of reals; INTEGER_NONE where there is no result. */
struct integers {
  int64_t x, y, z;
  const struct op_value *value;
};
typedef int64_t integer_kernel(struct integers e);
#define INTEGER_NONE INT64_MIN

/* The family's part of a row. derivative[i]: result = gradient · ∂output/∂input i, which serves both modes. It reads
   x, y, z where the row says OP_SAVES_INPUTS, and output where it says OP_SAVES_OUTPUT; elementwise_same where the
   derivative is 1. linear: the output's tangent is the values of the tangents. */
struct elementwise_rule {
  elementwise_kernel *values;
  elementwise_kernel *derivative[3]; /* NULL: there is none by this input */
  integer_kernel *integers;          /* with elementwise_integers */
  bool linear;
  bool chooses; /* input 0 is a condition, which the derivatives read, alone of the inputs */
};

/* A vectorised loop over the elements of a block; simdlen asks for the widest registers. */
#define foreach(i, e) _Pragma("omp simd simdlen(16)") for (int64_t i = 0; i < (e)->count; i++)

elementwise_kernel elementwise_same; /* result = gradient */

/* What a derivative gives: the product of a gradient (or tangent) and a slope, but 0 where the gradient is 0, even if
   the slope is infinite or NaN: what has no part in the loss (the branch that `where` did not choose) has no part in
   its gradient. PyTorch gives NaN there. */
static inline real unless_zero(real gradient, real product) { return gradient == 0 ? 0 : product; }

/* ---- elementwise_walk.c ---- */
enum { WALK_OPERANDS = 33 };
/* Operands over the dimensions of a shape; neighbouring dimensions that all operands walk as one are joined. */
struct elementwise_walk {
  int64_t count, block; /* elements of the shape, and of a block */
  int operands, rank;
  int64_t size[TENSOR_MAX_RANK];
  const struct tensor *operand[WALK_OPERANDS]; /* NULL where there is none */
  int64_t stride[WALK_OPERANDS][TENSOR_MAX_RANK];
  bool whole[WALK_OPERANDS]; /* contiguous reals over all of the shape */
  bool all_whole;
};
/* opened: the operands, those that are large transposes as contiguous copies; given back by
   elementwise_release_operands. */
int elementwise_open_operands(int operands, struct tensor *const *operand, struct tensor **opened);
void elementwise_release_operands(int operands, struct tensor **opened);
/* Operands (borrowed; any type, any strides, broadcast to the shape; NULL where there is none) for blocks of this many
   elements. */
int elementwise_walk_plan(struct elementwise_walk *walk, const struct shape *shape, int operands,
                          struct tensor *const *operand, int64_t block);
/* The block from start on: sets from[k] to the contiguous elements of operand k, then calls visit for them, once or,
   for long rows, row by row. packed: room for operands × block reals, NULL when all are whole. */
typedef void elementwise_visitor(void *context, int64_t start, int64_t count);
void elementwise_walk_block(const struct elementwise_walk *walk, int64_t start, real *packed, const real **from,
                            elementwise_visitor *visit, void *context);

/* ---- elementwise_run.c ---- */
/* Operands of elementwise_run by place; NULL where there is none. Any type, any strides, broadcast to the shape. */
enum { ELEMENTWISE_X, ELEMENTWISE_Y, ELEMENTWISE_Z, ELEMENTWISE_GRADIENT, ELEMENTWISE_OUTPUT, ELEMENTWISE_OPERANDS };

/* result (contiguous, of the shape) = kernel over the operands. */
int elementwise_run(elementwise_kernel *kernel, const struct op_value *value, struct tensor *const *operand,
                    struct tensor *result);

/* What the rows point to. */
int elementwise_shape(const struct op_call *call, struct shape *shape, enum element_type *type);
bool elementwise_rowwise(const struct op_call *call);
int elementwise_forward(struct op_call *call);
bool elementwise_is(const struct op *op); /* a row whose rule fuse can run */
int elementwise_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result);
int elementwise_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result);
int where_forward(struct op_call *call);
int where_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result);
int where_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result);

/* ---- second.c ---- */
/* Second derivatives of functions of one argument, and the gradients of those of two. */
formula_rule second_power, second_square, second_reciprocal, second_tanh, second_sigmoid, second_softplus, second_elu,
    second_gelu, second_silu, second_exp, second_expm1, second_log, second_log1p, second_sqrt, second_rsqrt, second_sin,
    second_cos, second_tan, second_asin, second_acos, second_atan, second_sinh, second_cosh, second_asinh, second_acosh,
    second_atanh, second_erf;
graph_rule mul_graph, div_graph, pow_graph, atan2_graph;

/* ---- elementwise.c ---- */
/* gradient · slope, but 0 where the gradient is 0: a row of no name in the table, for formulas (term_chain). */
extern const struct op elementwise_chain;

/* ---- elementwise_integer.c ---- */
int elementwise_integers(struct op_call *call);
/* The message for a result that the type does not hold. */
int integer_error(int64_t value, enum element_type type);

/* ---- forms of rows: further parameters last ---- */
/* second_by_x: the second derivative (op.h); NULL with OP_LINEAR in saves, where it is 0. */
#define UNARY(word, text, tried, saves, values_kernel, by_x, second_by_x, ...)                       \
  OP(word, text, tried, PARAMETERS(TENSOR("x"), __VA_ARGS__), OP_ROWWISE | OP_LISTED_ROWS | (saves), \
     elementwise_shape, elementwise_forward, elementwise_vjp, elementwise_jvp, .batch_inputs = 1,    \
     .second = second_by_x, .family = &(const struct elementwise_rule){.values = values_kernel, .derivative = {by_x}})

#endif
