/* Steps: the ops that cost no more than reading and writing their elements do, for one element. The kernels of their
   rows are made of them, and elementwise_pair, which does two in one pass. */
#ifndef GLS_OPS_ELEMENTWISE_PAIR_H
#define GLS_OPS_ELEMENTWISE_PAIR_H

#include "elementwise.h"

struct step_numbers {
  real scale, shift;
};

static inline real step_add(real a, real b, struct step_numbers n) {
  (void)n;
  return a + b;
}

static inline real step_subtract(real a, real b, struct step_numbers n) {
  (void)n;
  return a - b;
}

static inline real step_multiply(real a, real b, struct step_numbers n) {
  (void)n;
  return a * b;
}

/* A product with a gradient (elementwise.h, unless_zero). */
static inline real step_chain(real gradient, real slope, struct step_numbers n) {
  (void)n;
  return unless_zero(gradient, gradient * slope);
}

static inline real step_affine(real a, real b, struct step_numbers n) {
  (void)b;
  return n.scale * a + n.shift;
}

static inline real step_scale(real a, real b, struct step_numbers n) {
  (void)b;
  return n.scale * a;
}

/* A NaN passes. */
static inline real step_relu(real a, real b, struct step_numbers n) {
  (void)b;
  (void)n;
  return a <= 0 ? 0 : a;
}

/* The gradient where relu's output is positive; b is read in every case: only so is the loop turned into vectors. */
static inline real step_relu_slope(real output, real gradient, struct step_numbers n) {
  (void)n;
  return output <= 0 ? 0 : gradient;
}

static inline real step_tanh_slope(real gradient, real output, struct step_numbers n) {
  (void)n;
  return unless_zero(gradient, gradient * (1 - output * output));
}

/* The same by name. SUBTRACT_FROM is b - a. */
enum step_kind {
  STEP_NONE,
  STEP_ADD,
  STEP_SUBTRACT,
  STEP_SUBTRACT_FROM,
  STEP_MULTIPLY,
  STEP_CHAIN,
  STEP_AFFINE,
  STEP_SCALE,
  STEP_RELU,
  STEP_RELU_SLOPE,
  STEP_TANH_SLOPE
};

/* Two steps, the second with the first's result as its a; then relu, as after a scale and shift. */
struct elementwise_pair {
  enum step_kind first, second;
  bool relu;
  const struct op_value *first_value, *second_value;
};

/* A kernel that is a step of the operands in places a and b (elementwise.h). */
struct elementwise_step {
  elementwise_kernel *kernel;
  enum step_kind kind;
  int a, b; /* b: -1 where there is none */
};

/* ---- elementwise.c ---- */
/* NULL where the kernel is not a step. */
const struct elementwise_step *elementwise_step_of(elementwise_kernel *kernel);

/* ---- elementwise_pair.c ---- */
/* Whether a step can be the first; all but STEP_NONE can be the second. Whether relu can follow the second. */
bool step_goes_first(enum step_kind kind);
bool step_takes_relu(enum step_kind second);
/* The kernel of pairs: result = second(first(x, y), z), or relu of it, as elements->pair says; y and z are there. */
elementwise_kernel elementwise_pair_values;

#endif
