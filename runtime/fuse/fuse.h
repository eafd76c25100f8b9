/* Fuse: a chain of elementwise ops as one op. A program is written step by step, each an elementwise row of the table
   over arguments, numbers and earlier steps; its own row then runs all of them block by block, in buffers that stay in
   the L1 cache, with the kernels of the steps' rows, cheap ones in pairs (elementwise_pair.h).
   fuse.c   programs, their rows       plan.c   what is to be run, forward and for derivatives
   run.c    running a plan over blocks */
#ifndef GLS_FUSE_H
#define GLS_FUSE_H

#include "../ops/elementwise_pair.h"

enum { FUSE_INPUTS = 16, FUSE_VALUES = 64, FUSE_PARAMETERS = 2 };

/* ---- plans: what is to be run for one block ----
   Places are the contiguous elements of a block: operands first, then numbers (buffers that hold one number), results,
   and other buffers; an instruction names them, or FUSE_NONE. */
enum { FUSE_NONE = -1, FUSE_INSTRUCTIONS = 8 * FUSE_VALUES };

struct fuse_instruction {
  elementwise_kernel *kernel;
  const struct op_value *value;
  struct elementwise_pair pair;
  int result, read[ELEMENTWISE_OPERANDS];
};

struct fuse_plan {
  int operands, numbers, results, buffers;
  double number[FUSE_VALUES];
  int count;
  struct fuse_instruction instruction[FUSE_INSTRUCTIONS];
};

/* ---- programs ---- */

/* An argument, a number, or a step. */
struct fuse_value {
  enum element_type type;
  const struct op *op; /* of a step */
  int argument[3];     /* its inputs: earlier values */
  int argument_count;
  struct op_value value[FUSE_PARAMETERS];
  double number;
};

struct fuse {
  struct op row;
  int references;
  int input_count, value_count, result; /* values: the inputs first */
  bool used[FUSE_INPUTS];               /* the result depends on it */
  struct fuse_value value[FUSE_VALUES];
  struct fuse_plan forward;
};

#define FUSE_ADVICE "a fused function has elementwise ops and numbers alone, the rest goes before or after it"

/* ---- fuse.c ---- */
/* A program of inputs of these types, with one reference; NULL with message. */
struct fuse *fuse_new(int input_count, const enum element_type *type);
/* Programs are counted: change is 1 or -1. The last one that goes takes the program with it. */
void fuse_use(struct fuse *fuse, int change);
/* Adds a number, or a step: *value names it. Errors: a row that is not elementwise, types, too many values. */
int fuse_number(struct fuse *fuse, double number, int *value);
int fuse_step(struct fuse *fuse, const struct op *op, int argument_count, const int *argument,
              const struct op_value *values, int *value);
/* Ends the program: its row, which lives as long as it, gives this value. NULL with message. */
const struct op *fuse_finish(struct fuse *fuse, int result);

/* ---- plan.c ---- */
static inline const struct elementwise_rule *fuse_rule(const struct fuse_value *step) { return step->op->family; }
/* Operands are the inputs; one result. Marks the inputs that are used. */
void fuse_plan_forward(struct fuse *fuse, struct fuse_plan *plan);
/* Operands: the inputs and the output's gradient. reached[i]: whether a derivative by needed input i exists; their
   gradients, of the output's shape, are the results, in order. */
void fuse_plan_backward(const struct fuse *fuse, const bool *needed, bool *reached, struct fuse_plan *plan);
/* Operands: the inputs, then the tangents of those that have one (given[i]), each in the place input_count + i. False,
   and no plan, when the result does not change with them. */
bool fuse_plan_tangent(const struct fuse *fuse, const bool *given, struct fuse_plan *plan);

/* ---- run.c ---- */
/* Over operands broadcast to the shape; result[r] is contiguous, of the shape. */
int fuse_run(const struct fuse_plan *plan, const struct shape *shape, struct tensor *const *operand,
             real *const *result);

#endif
