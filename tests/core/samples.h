/* Samples: the inputs that a row of the op table names in its samples, made into tensors. */
#ifndef GLS_TESTS_CORE_SAMPLES_H
#define GLS_TESTS_CORE_SAMPLES_H

#include "../../runtime/ops/op.h"

enum { SAMPLE_MAX_INPUTS = 16 };

struct sample {
  const struct op *op;
  const char *text;
  uint64_t seed;
  int input_count;
  struct tensor *input[SAMPLE_MAX_INPUTS]; /* contiguous; NULL for an absent one */
  bool differentiable[SAMPLE_MAX_INPUTS];  /* the row promises a derivative by this input */
  bool updated[SAMPLE_MAX_INPUTS];         /* statistics that the op moves in place: never strided */
  struct op_value value[OP_MAX_PARAMETERS];
};

/* Fills the sample; false, with the reason in the core's message, when the text is not in the form that op.h says. */
bool sample_make(struct sample *sample, const struct op *op, const char *text, uint64_t seed);
void sample_release(struct sample *sample);

/* "without empty: why" or "without size 1: why": what the op has no sample for, instead of a sample. */
bool sample_is_remark(const char *text);

/* gradients.c: everything that holds for a row, over one sample of it. */
void check_row(const struct op *op, const char *text, uint64_t seed);

/* A new contiguous tensor of standard normal numbers. */
struct tensor *sample_normal(const struct shape *shape, uint64_t seed);

#endif
