/* Second derivatives of elementwise rows, as formulas of what the rows save (x, or the output y), and the gradients of
   those of two arguments. */
#include <math.h>

#include "elementwise.h"

typedef struct tensor *term;

static term x_of(const struct op_call *call) { return call->input[0]; }
static term y_of(const struct op_call *call) { return call->output; }

/* ---- powers: factor · x to a power ---- */

static term scaled_power(struct formula *f, term x, double factor, double exponent) {
  return term_affine(f, factor == 0 ? x : term_power(f, x, exponent), factor, 0);
}

term second_power(struct formula *f, const struct op_call *call) {
  double n = call->value[0].number;
  return scaled_power(f, x_of(call), n * (n - 1), n - 2);
}

term second_square(struct formula *f, const struct op_call *call) { return term_affine(f, x_of(call), 0, 2); }
term second_reciprocal(struct formula *f, const struct op_call *call) { return scaled_power(f, y_of(call), 2, 3); }
term second_sqrt(struct formula *f, const struct op_call *call) { return scaled_power(f, y_of(call), -0.25, -3); }
term second_rsqrt(struct formula *f, const struct op_call *call) { return scaled_power(f, y_of(call), 0.75, 5); }
term second_log(struct formula *f, const struct op_call *call) { return scaled_power(f, x_of(call), -1, -2); }

term second_log1p(struct formula *f, const struct op_call *call) {
  return scaled_power(f, term_affine(f, x_of(call), 1, 1), -1, -2);
}

/* ---- exponentials ---- */

term second_exp(struct formula *f, const struct op_call *call) { return term_affine(f, y_of(call), 1, 0); }
term second_expm1(struct formula *f, const struct op_call *call) { return term_affine(f, y_of(call), 1, 1); }

/* 2 y³ − 2 y */
term second_tanh(struct formula *f, const struct op_call *call) {
  return term_mul(f, y_of(call), term_affine(f, term_of(f, "square", y_of(call)), 2, -2));
}

/* s (1 − s) (1 − 2 s) of the sigmoid s */
static term sigmoid_slope(struct formula *f, term s) { return term_mul(f, s, term_affine(f, s, -1, 1)); }

term second_sigmoid(struct formula *f, const struct op_call *call) {
  return term_mul(f, sigmoid_slope(f, y_of(call)), term_affine(f, y_of(call), -2, 1));
}

/* The slope is s = 1 − e^−y; its own is s e^−y. */
term second_softplus(struct formula *f, const struct op_call *call) {
  term minus = term_affine(f, y_of(call), -1, 0);
  return term_mul(f, term_affine(f, term_of(f, "expm1", minus), -1, 0), term_of(f, "exp", minus));
}

/* y + alpha where y is not positive. */
term second_elu(struct formula *f, const struct op_call *call) {
  return term_mul(f, term_of_two(f, "le", y_of(call), term_number(f, 0)),
                  term_affine(f, y_of(call), 1, call->value[0].number));
}

/* ---- activations: beyond ±FAR they are straight, as their kernels have it ---- */

enum { FAR = 1000 };

/* Exact: φ(x) (2 − x²), φ the normal density. By t = tanh u, u = s (x + c x³): (1 − t²) (u′ + x u″ / 2 − x t u′²). */
term second_gelu(struct formula *f, const struct op_call *call) {
  term x = term_clamp(f, x_of(call), -FAR, FAR), square = term_of(f, "square", x);
  if (!call->value[0].list[0]) {
    term density = term_affine(f, term_of(f, "exp", term_affine(f, square, -0.5, 0)), M_2_SQRTPI * M_SQRT1_2 / 2, 0);
    return term_mul(f, density, term_affine(f, square, -1, 2));
  }
  const double s = M_2_SQRTPI * M_SQRT1_2, c = 0.044715;
  term t = term_of(f, "tanh", term_mul(f, x, term_affine(f, square, s * c, s)));
  term slope = term_affine(f, square, 3 * s * c, s); /* u′; x u″ / 2 = 3 s c x² */
  term bend = term_affine(f, square, 6 * s * c, s);
  term turn = term_mul(f, term_mul(f, x, t), term_of(f, "square", slope));
  return term_mul(f, term_affine(f, term_of(f, "square", t), -1, 1), term_sub(f, bend, turn));
}

/* s (1 − s) (2 + x (1 − 2 s)), s the sigmoid */
term second_silu(struct formula *f, const struct op_call *call) {
  term x = term_clamp(f, x_of(call), -FAR, FAR), s = term_of(f, "sigmoid", x);
  term factor = term_affine(f, term_mul(f, x, term_affine(f, s, -2, 1)), 1, 2);
  return term_mul(f, sigmoid_slope(f, s), factor);
}

/* −4/√π x exp(−x²) */
term second_erf(struct formula *f, const struct op_call *call) {
  term x = term_clamp(f, x_of(call), -FAR, FAR);
  term density = term_of(f, "exp", term_affine(f, term_of(f, "square", x), -1, 0));
  return term_mul(f, term_affine(f, x, -2 * M_2_SQRTPI, 0), density);
}

/* ---- trigonometry ---- */

term second_sin(struct formula *f, const struct op_call *call) {
  return term_affine(f, term_of(f, "sin", x_of(call)), -1, 0);
}

term second_cos(struct formula *f, const struct op_call *call) {
  return term_affine(f, term_of(f, "cos", x_of(call)), -1, 0);
}

term second_sinh(struct formula *f, const struct op_call *call) { return term_of(f, "sinh", x_of(call)); }
term second_cosh(struct formula *f, const struct op_call *call) { return term_of(f, "cosh", x_of(call)); }

term second_tan(struct formula *f, const struct op_call *call) {
  return term_mul(f, y_of(call), term_affine(f, term_of(f, "square", y_of(call)), 2, 2));
}

/* factor · x · (shift + scale x²) to a power: the second derivatives of the inverse functions */
static term inverse_second(struct formula *f, term x, double factor, double scale, double shift, double exponent) {
  term base = term_affine(f, term_of(f, "square", x), scale, shift);
  return term_mul(f, term_affine(f, x, factor, 0), term_power(f, base, exponent));
}

term second_asin(struct formula *f, const struct op_call *call) {
  return inverse_second(f, x_of(call), 1, -1, 1, -1.5);
}

term second_acos(struct formula *f, const struct op_call *call) {
  return inverse_second(f, x_of(call), -1, -1, 1, -1.5);
}

term second_atan(struct formula *f, const struct op_call *call) { return inverse_second(f, x_of(call), -2, 1, 1, -2); }

term second_asinh(struct formula *f, const struct op_call *call) {
  return inverse_second(f, x_of(call), -1, 1, 1, -1.5);
}

term second_acosh(struct formula *f, const struct op_call *call) {
  return inverse_second(f, x_of(call), -1, 1, -1, -1.5);
}

term second_atanh(struct formula *f, const struct op_call *call) { return inverse_second(f, x_of(call), 2, -1, 1, -2); }

/* ---- two arguments ---- */

/* Ends the formula of the gradients full[i], of the output's shape, summed to those of the inputs; NULL where there is
   none to give. */
static int give_both(struct formula *f, const struct op_call *call, term const *full, const bool *needed,
                     struct tensor **result) {
  int status = STATUS_OK;
  for (int i = 0; i < 2 && status == STATUS_OK; i++)
    if (needed[i]) status = formula_give(term_sum_to(f, full[i], &call->input[i]->shape), &result[i]);
  formula_end(f, NULL);
  return status;
}

int mul_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct formula f = {0};
  term full[2] = {NULL};
  for (int i = 0; i < 2; i++)
    if (needed[i]) full[i] = term_chain(&f, gradient, call->input[1 - i]);
  return give_both(&f, call, full, needed, result);
}

/* g / y and −g x / y² */
int div_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct formula f = {0};
  term inverse = term_of(&f, "reciprocal", call->input[1]), full[2] = {NULL};
  if (needed[0]) full[0] = term_chain(&f, gradient, inverse);
  if (needed[1]) {
    term slope = term_mul(&f, call->input[0], term_of(&f, "square", inverse));
    full[1] = term_chain(&f, gradient, term_affine(&f, slope, -1, 0));
  }
  return give_both(&f, call, full, needed, result);
}

/* g y x^(y−1) and g x^y log x, both with base 1 where the row's kernels have it. */
int pow_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct formula f = {0};
  term x = call->input[0], y = call->input[1], zero = term_number(&f, 0), one = term_number(&f, 1), full[2] = {NULL};
  if (needed[0]) {
    term base = term_of_three(&f, "where", y, x, one);
    full[0] = term_chain(&f, gradient, term_mul(&f, y, term_of_two(&f, "pow", base, term_affine(&f, y, 1, -1))));
  }
  if (needed[1]) {
    term nothing = term_of_two(&f, "logical_and", term_of_two(&f, "eq", x, zero), term_of_two(&f, "ge", y, zero));
    term base = term_of_three(&f, "where", nothing, one, x);
    full[1] = term_chain(&f, gradient, term_mul(&f, term_of_two(&f, "pow", base, y), term_of(&f, "log", base)));
  }
  return give_both(&f, call, full, needed, result);
}

/* g y / (x² + y²) and −g x / (x² + y²), 0 at the origin: there the sum counts as 1. */
int atan2_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct formula f = {0};
  term x = call->input[0], y = call->input[1], full[2] = {NULL};
  term square = term_add(&f, term_of(&f, "square", x), term_of(&f, "square", y));
  term inverse = term_of(&f, "reciprocal", term_of_three(&f, "where", square, square, term_number(&f, 1)));
  if (needed[0]) full[0] = term_chain(&f, gradient, term_mul(&f, y, inverse));
  if (needed[1]) full[1] = term_chain(&f, gradient, term_mul(&f, term_affine(&f, x, -1, 0), inverse));
  return give_both(&f, call, full, needed, result);
}
