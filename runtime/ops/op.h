/* Ops: one differentiable operation is one row, struct op. A family of ops is one file that ends in its array of rows,
   all written in one form (OP, below); table.c joins the arrays. The binding, the help text, the tape and the gradient
   checks all loop over rows and know no op by name.

   elementwise.c function.c              arithmetic, activations, comparisons; elementary functions
   elementwise_run.c …_walk.c …_integer.c …_pair.c   running them: any strides, integers, two at once
   reduce.c          sums, extremes, variances, norms over dimensions (fold.c)
   softmax.c         softmax and its kin along a dimension
   matmul.c conv.c pool.c                products, convolutions and pools (kernels/linalg, kernels/conv)
   attention.c recurrent.c               attention, LSTM and GRU (kernels/attention, kernels/recurrent)
   image.c           unfolding, shuffling and resizing images
   move.c arrange.c  views; copies into new places
   index.c sort.c    picking and writing by index (index.h); the order of elements
   scan.c            running sums
   solve.c           linear equations and determinants
   norm.c norm_batch.c                   normalisations
   loss.c cross_entropy.c random.c       losses; dropout, draws
   call.c formula.c  running a row; formulas of rows
   second.c compose.c compose_sequence.c derivatives of derivatives, as formulas

   A call holds the op's tensor inputs in the order of its parameters, and the values of the other parameters in their
   order. Every op works for any strides, broadcast, size 1 and empty. */
#ifndef GLS_OPS_OP_H
#define GLS_OPS_OP_H

#include "../base/random.h"
#include "../tensor/tensor.h"

enum { OP_MAX_PARAMETERS = 10, OP_MAX_LIST = 8, OP_MAX_SAVED = 3 };

enum op_parameter_kind {
  OP_TENSOR,          /* a tensor of reals; of integers too where the row has `integers` */
  OP_OPTIONAL_TENSOR, /* the same, or nil: input NULL */
  OP_INDICES,         /* an int32 tensor; values start at 1 as the user wrote them */
  OP_ANY_TENSOR,      /* a tensor of any type */
  OP_TENSORS,         /* a Lua list of tensors as OP_TENSOR's: takes all inputs; only as the first parameter */
  OP_NUMBER,          /* value.number */
  OP_INTEGER,         /* value.list[0] */
  OP_FLAG,            /* value.list[0] is 0 or 1 */
  OP_DIMENSION,       /* value.list[0], from 0, checked by op_resolve_dimension against the first input */
  OP_DIMENSIONS,      /* value.count, value.list: a list or one number; count 0 = not given = all */
  OP_SIZES,           /* value.count, value.list: a list of sizes, as given */
  OP_PAIR,            /* one number or two: value.list[0..1] */
  OP_RANDOM           /* not an argument of the user's: value.stream is filled with a fresh stream */
};

struct op_parameter {
  const char *name; /* NULL ends the list */
  enum op_parameter_kind kind;
  bool has_default;     /* of non-tensor kinds; without it the argument is required */
  double default_value; /* as the user would write it: dimensions from 1 */
};

struct op_value {
  double number;
  int count;
  int64_t list[OP_MAX_LIST];
  struct random_stream stream;
};

struct op;
struct formula; /* formula.h */

struct op_call {
  const struct op *op;
  int input_count;
  struct tensor **input;                    /* NULL where an optional tensor is absent */
  struct op_value value[OP_MAX_PARAMETERS]; /* of the non-tensor parameters, in order */
  struct tensor *output;
  struct tensor *saved[OP_MAX_SAVED]; /* what forward leaves for vjp and jvp (masks, statistics) */
  bool differentiable;                /* false: forward need not fill saved */
  /* jvp of OP_LISTED_ROWS: where, from their beginnings on, those rows of the inputs, the output and the saved tensors
     lie that the call is about; NULL: one after the other. The tangents hold just these. */
  const int64_t *row;
};

enum op_flag {
  OP_VIEW = 1,         /* forward makes output itself, a view of input 0 */
  OP_SAVES_INPUTS = 2, /* vjp or jvp read the values of inputs (shapes are always there) */
  OP_SAVES_OUTPUT = 4, /* vjp or jvp read the values of the output */
  OP_NO_GRADIENT = 8,  /* has no derivative (comparisons, argmax); vjp and jvp are NULL */
  OP_ROWWISE = 16,     /* row i of the output (first dimension) depends on row i of the batch inputs alone */
  OP_CONSTANT = 32,    /* derivative is zero everywhere it exists (floor, sign): recorded by nobody */
  OP_LISTED_ROWS = 64, /* OP_ROWWISE: jvp reads listed rows where they lie (struct op_call), with nothing copied */
  OP_LINEAR = 128 /* the derivative is the same at all values of the inputs, or changes in steps (relu, max_pool2d):
                          the second one is 0 */
};

/* The affine view of a call: output Z = A W + 1 bᵀ, for layers whose weight gradient is Aᵀ G. */
struct factors {
  int64_t rows, inputs, outputs; /* A: rows × inputs, G: rows × outputs; W: inputs × outputs */
  struct tensor *a;              /* contiguous rows, owned */
  struct tensor *g;              /* contiguous rows, owned */
};

/* What ops have that are affine in one matrix: input 1 is the weight W, input 2 the bias b (may be NULL). */
struct op_affine {
  int outputs;                                /* the dimension of input 1 that counts Z's columns */
  bool (*serves)(const struct op_call *call); /* whether this call is affine in one matrix; NULL: all are */
  int (*factors)(const struct op_call *call, struct tensor *gradient, struct factors *result);
  /* Where factors are made at a cost: *a = the listed rows of A alone (count × inputs). NULL elsewhere. */
  int (*factor_rows)(const struct op_call *call, const int64_t *row, int64_t count, struct tensor **a);
  /* Of an op whose Z is inside, in a recurrence: factors' gradient is ∂L/∂input 0, from which these are formed and, by
     products, the gradients of weight and bias. NULL: it is ∂L/∂output, and vjp makes the products. */
  int (*products)(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result);
  bool direct; /* factors are views of what is there: forming them costs nothing */
};

/* What losses have, which are convex in input 0. */
struct op_loss {
  /* *result = H v, H the Hessian (Gauss-Newton) of the loss in input 0. */
  int (*hessian_product)(const struct op_call *call, struct tensor *v, struct tensor **result);
  /* *result: the diagonal of that H, input 0's shape. NULL where H is diagonal: its product with ones says it. */
  int (*hessian_diagonal)(const struct op_call *call, struct tensor **result);
  bool quadratic; /* the Hessian is the same everywhere */
  int sum;        /* place of the value that says whether terms are summed, not averaged */
};

struct op {
  const char *name;
  const char *doc; /* one line: what it gives, shapes, source, what its derivative is where that is not plain */
  /* Inputs to try, NULL-ended, for gradient checks and the manual. One string a case: input shapes in order, then
     name=value: "4x5 5", "3x0", "positive:2x3", "labels7:4", "distinct:3x4 dims=1,2 keep=1". "scalar" is rank 0, "-" an
     absent optional tensor, "[2x3 2x3]" a list. Kinds: positive (0.5 to 2), unit (0.1 to 0.9), above (1.2 to 2.2),
     distinct (far apart, away from 0), regular (square matrices far from singular), labelsK (int32 from 1 to K), mask
     (0 or 1); default is normal. Where indices start at 1 for the user they do so here. */
  const char *const *samples;
  struct op_parameter parameter[OP_MAX_PARAMETERS + 1];
  unsigned flags;
  /* Output's shape and type; checks the inputs; STATUS_ERROR with a message such as "inner sizes differ: (250×3073) ·
     (3072×512)" (the op's name is put before it). *type on entry is what op_common_type says. */
  int (*shape)(const struct op_call *call, struct shape *shape, enum element_type *type);
  /* Fills call->output (contiguous, undefined contents) and saved. */
  int (*forward)(struct op_call *call);
  /* gradient: ∂L/∂output, output's shape, any strides. For every i with needed[i], result[i] becomes a new tensor of
     input i's shape (a view of gradient is fine). Results stay NULL elsewhere. On error the caller releases what is
     there. */
  int (*vjp)(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result);
  /* tangent[i]: change of input i, its shape, or NULL for none (at least one is not NULL). *result: change of the
     output. */
  int (*jvp)(const struct op_call *call, struct tensor *const *tangent, struct tensor **result);

  /* The derivative of the derivative, for gls.grad{ create_graph = true } (grad/derive.c). A row says one of four
     things; of a row that says none the second derivative is an error that names it.
       OP_LINEAR  a flag: vjp and jvp are all there is (views, sums, relu, pooling, interpolation, picking by index).
       second     elementwise of one input: its second derivative as a formula of input 0 or the output, whichever the
                  row saves.
       graph      the vjp as formulas of the inputs, the output and the gradient (matmul, softmax); may be vjp itself.
       composed   the output as a formula of the inputs (layer_norm, huber), which are differentiated instead of it:
                  the row has OP_SAVES_INPUTS. The least to write.
     Formulas are of other rows, so that what they run is recorded and has derivatives in its turn: formula.h, in which
     also op_apply, never op_run. What is borrowed from a formula goes with it. */
  struct tensor *(*second)(struct formula *f, const struct op_call *call);
  int (*graph)(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result);
  struct tensor *(*composed)(struct formula *f, const struct op_call *call);

  /* What some rows have besides. */
  /* forward where no tensor input is of reals. NULL: integers are refused. Beside reals, integers are read as reals. */
  int (*integers)(struct op_call *call);
  unsigned batch_inputs; /* OP_ROWWISE: bit i set when input i carries the batch in its first dimension, if its rank and
                            first size are the output's (elementwise broadcasting); saved tensors whose first size is
                            the output's go along */
  /* Decides OP_ROWWISE for this call alone (overrides the flag): true when row i of the output depends on row i of the
     batch inputs alone. Then their first size is the output's, whatever their rank. NULL: the flag. jvp of a rowwise
     call may see blocks of rows: it takes sizes from the tensors, not from the values. */
  bool (*rowwise)(const struct op_call *call);
  const struct op_affine *affine;
  const struct op_loss *loss;
  const void *family; /* what the functions that a family's rows share need to know of this row */
  /* Of a row that was made at run time (fuse.h) and goes with its last user: one user more (1) or fewer (-1). */
  void (*use)(const struct op *op, int change);
};

/* How a row is written, in every family:
     OP(name, doc, samples, PARAMETERS(…), flags, shape, forward, vjp, jvp, further fields by name)
   Rows of a family that differ in a few words have a shorter form there, made of this one. */
#define OP(word, text, tried, parameters, bits, shape_run, forward_run, vjp_run, jvp_run, ...)               \
  {                                                                                                          \
    .name = word, .doc = text, .samples = tried, .parameter = parameters, .flags = bits, .shape = shape_run, \
    .forward = forward_run, .vjp = vjp_run, .jvp = jvp_run, __VA_ARGS__                                      \
  }
#define SAMPLES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define PARAMETERS(...) \
  { __VA_ARGS__ }
#define TENSOR(word) GIVEN(word, OP_TENSOR)
#define GIVEN(word, of_kind) \
  { .name = word, .kind = of_kind }
#define DEFAULT(word, of_kind, value) \
  { .name = word, .kind = of_kind, .has_default = true, .default_value = value }

/* ---- table.c ---- */
int op_count(void);
const struct op *op_at(int i);
const struct op *op_find(const char *name); /* NULL when there is none */
const char *op_group(const char *name);     /* of its family in the help; NULL when there is no such row */

/* ---- call.c ---- */
/* Runs shape and forward, unrecorded: a new output, or NULL with message. values may be NULL when the op has none. */
struct tensor *op_run(const struct op *op, int input_count, struct tensor *const *input, const struct op_value *values);
/* The same, leaving the filled call for the tape: call->op, input, value, differentiable are set by the
   caller. On error nothing is left in output and saved. */
int op_call_forward(struct op_call *call);
/* What a function that makes a tensor ends with: *result = tensor, an error where it is NULL. */
int op_give(struct tensor *tensor, struct tensor **result);
/* The same if status is good; else the tensor is released. */
int op_give_if(int status, struct tensor *tensor, struct tensor **result);
/* The same, recorded while a gradient is made that is to be differentiated again: then the tape is op_recorder. */
typedef struct tensor *op_runner(const struct op *op, int input_count, struct tensor *const *input,
                                 const struct op_value *values);
struct tensor *op_apply(const struct op *op, int input_count, struct tensor *const *input,
                        const struct op_value *values);
extern op_runner *op_recorder; /* NULL: op_apply is op_run */
/* By name, for use inside vjps: 1 or 2 tensors and no values. */
struct tensor *op_run1(const char *name, struct tensor *x);
struct tensor *op_run2(const char *name, struct tensor *x, struct tensor *y);
/* A view or sum of t in the given shape, undoing broadcasting: what a vjp returns for an input that was
   broadcast. t itself retained when the shapes are equal. */
struct tensor *op_sum_to_shape(struct tensor *t, const struct shape *shape);
/* a += b in place, a contiguous and unshared. */
int op_accumulate(struct tensor *a, struct tensor *b);
/* The type that a call's values are computed in: real where any of its inputs is, or the row has no `integers`; else
   int32 where any is; else uint8. */
enum element_type op_common_type(const struct op_call *call);
/* Dimension from value (counted from 0, negative from the end: -1 is the last) to 0..rank-1. */
int op_resolve_dimension(int64_t given, int rank, int *dimension);
/* The same of the call's first value, a dimension of input 0; and whether it is another than the first. */
int op_dimension(const struct op_call *call, int *dimension);
bool op_later_dimension(const struct op_call *call);

/* Families; each array is ended by a row without a name. */
extern const struct op elementwise_ops[], function_ops[], reduce_ops[], softmax_ops[], matmul_ops[], attention_ops[],
    recurrent_ops[], move_ops[], arrange_ops[], index_ops[], sort_ops[], scan_ops[], solve_ops[], conv_ops[],
    image_ops[], pool_ops[], norm_ops[], loss_ops[], cross_entropy_ops[], random_ops[];

#endif
