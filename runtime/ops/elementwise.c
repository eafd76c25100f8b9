/* Elementwise ops: arithmetic, comparisons, activations (elementary functions: function.c). A row is at most three
   kernels: the values, and for each input the product of a gradient (or tangent) with the derivative by it. */
#include "../base/integer.h"
#include "../base/vector_math.h"
#include "elementwise_pair.h"

static const struct step_numbers no_numbers;

/* ---- two tensors ---- */

static void add_values(const struct elements *e) {
  foreach (i, e) e->result[i] = step_add(e->x[i], e->y[i], no_numbers);
}

static void sub_values(const struct elements *e) {
  foreach (i, e) e->result[i] = step_subtract(e->x[i], e->y[i], no_numbers);
}

static void mul_values(const struct elements *e) {
  foreach (i, e) e->result[i] = step_multiply(e->x[i], e->y[i], no_numbers);
}

static void div_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] / e->y[i];
}

static int64_t add_integers(struct integers e) { return e.x + e.y; }
static int64_t sub_integers(struct integers e) { return e.x - e.y; }
static int64_t mul_integers(struct integers e) { return e.x * e.y; }
static int64_t neg_integers(struct integers e) { return -e.x; }
static int64_t abs_integers(struct integers e) { return e.x < 0 ? -e.x : e.x; }
static int64_t sign_integers(struct integers e) { return (e.x > 0) - (e.x < 0); }
static int64_t same_integers(struct integers e) { return e.x; }
static int64_t square_integers(struct integers e) { return e.x * e.x; }
static int64_t maximum_integers(struct integers e) { return max(e.x, e.y); }
static int64_t minimum_integers(struct integers e) { return min(e.x, e.y); }
static int64_t where_integers(struct integers e) { return e.x != 0 ? e.y : e.z; }
static int64_t eq_integers(struct integers e) { return e.x == e.y; }
static int64_t ne_integers(struct integers e) { return e.x != e.y; }
static int64_t lt_integers(struct integers e) { return e.x < e.y; }
static int64_t le_integers(struct integers e) { return e.x <= e.y; }
static int64_t gt_integers(struct integers e) { return e.x > e.y; }
static int64_t ge_integers(struct integers e) { return e.x >= e.y; }
static int64_t and_integers(struct integers e) { return e.x != 0 && e.y != 0; }
static int64_t or_integers(struct integers e) { return e.x != 0 || e.y != 0; }

/* Downwards, as Lua's // and NumPy's. */
static int64_t floor_divide_integers(struct integers e) {
  if (e.y == 0) return INTEGER_NONE;
  return e.x / e.y - (e.x % e.y != 0 && (e.x < 0) != (e.y < 0));
}

static int64_t remainder_integers(struct integers e) {
  return e.y == 0 ? INTEGER_NONE : e.x - floor_divide_integers(e) * e.y;
}

/* By squaring, until no int32 holds it; no integer is to a power below 0. */
static int64_t raised(int64_t base, int64_t exponent) {
  int64_t result = 1;
  if (exponent < 0) return INTEGER_NONE;
  for (int64_t left = min(exponent, 64 + exponent % 2); left > 0; left--) {
    result *= base;
    if (result > UINT32_MAX || result < -(int64_t)UINT32_MAX) return result;
  }
  return result;
}

static int64_t pow_integers(struct integers e) { return raised(e.x, e.y); }

static int64_t clamp_integers(struct integers e) {
  double low = e.value[0].number, high = e.value[1].number, x = (double)e.x;
  return (int64_t)(x < low ? low : x > high ? high : x);
}

static void minus_gradient(const struct elements *e) {
  foreach (i, e) e->result[i] = -e->gradient[i];
}

static void gradient_times_x(const struct elements *e) {
  foreach (i, e) e->result[i] = step_chain(e->gradient[i], e->x[i], no_numbers);
}

static void chain_values(const struct elements *e) {
  foreach (i, e) e->result[i] = step_chain(e->x[i], e->y[i], no_numbers);
}

static void gradient_times_y(const struct elements *e) {
  foreach (i, e) e->result[i] = step_chain(e->gradient[i], e->y[i], no_numbers);
}

static void div_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], e->gradient[i] / e->y[i]);
}

static void div_by_y(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i];
    e->result[i] = unless_zero(g, -(g / e->y[i]) * (e->x[i] / e->y[i]));
  }
}

static void pow_values(const struct elements *e) {
  foreach (i, e) e->result[i] = pow(e->x[i], e->y[i]);
}

/* Where y is 0 the derivative is 0, of any base. */
static void pow_by_x(const struct elements *e) {
  foreach (i, e) {
    real base = e->y[i] == 0 ? 1 : e->x[i];
    e->result[i] = unless_zero(e->gradient[i], e->gradient[i] * e->y[i] * pow(base, e->y[i] - 1));
  }
}

/* 0 to a power that is not negative does not change with it: the same as for base 1. */
static void pow_by_y(const struct elements *e) {
  foreach (i, e) {
    real base = e->x[i] == 0 && e->y[i] >= 0 ? 1 : e->x[i];
    e->result[i] = unless_zero(e->gradient[i], e->gradient[i] * pow(base, e->y[i]) * log(base));
  }
}

/* The first comparison is false for a NaN in y, which then is the result. */
static void maximum_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] > e->y[i] || e->x[i] != e->x[i] ? e->x[i] : e->y[i];
}

static void minimum_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] < e->y[i] || e->x[i] != e->x[i] ? e->x[i] : e->y[i];
}

/* Equal elements share the gradient; where one is NaN both have it. */
static void gradient_where_greater(const struct elements *e) {
  foreach (i, e) {
    real share = e->x[i] < e->y[i] ? 0 : e->x[i] == e->y[i] ? (real)0.5 : 1;
    e->result[i] = e->gradient[i] * share;
  }
}

static void gradient_where_less(const struct elements *e) {
  foreach (i, e) {
    real share = e->x[i] > e->y[i] ? 0 : e->x[i] == e->y[i] ? (real)0.5 : 1;
    e->result[i] = e->gradient[i] * share;
  }
}

static void where_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] != 0 ? e->y[i] : e->z[i];
}

static void gradient_where_true(const struct elements *e) {
  foreach (i, e) {
    const real whole = e->gradient[i]; /* read in every case: only so is the loop turned into vectors */
    e->result[i] = e->x[i] != 0 ? whole : 0;
  }
}

static void gradient_where_false(const struct elements *e) {
  foreach (i, e) {
    const real whole = e->gradient[i];
    e->result[i] = e->x[i] != 0 ? 0 : whole;
  }
}

static const struct elementwise_rule where_rule = {.integers = where_integers,
                                                   .values = where_values,
                                                   .derivative = {NULL, gradient_where_true, gradient_where_false},
                                                   .chooses = true};

static void eq_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] == e->y[i] ? 1 : 0;
}

static void ne_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] != e->y[i] ? 1 : 0;
}

static void lt_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] < e->y[i] ? 1 : 0;
}

static void le_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] <= e->y[i] ? 1 : 0;
}

static void gt_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] > e->y[i] ? 1 : 0;
}

static void ge_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] >= e->y[i] ? 1 : 0;
}

static void logical_and_values(const struct elements *e) {
  foreach (i, e) e->result[i] = (e->x[i] != 0) & (e->y[i] != 0) ? 1 : 0;
}

static void logical_or_values(const struct elements *e) {
  foreach (i, e) e->result[i] = (e->x[i] != 0) | (e->y[i] != 0) ? 1 : 0;
}

static void logical_not_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] == 0 ? 1 : 0;
}

static void floor_divide_values(const struct elements *e) {
  foreach (i, e) e->result[i] = floor(e->x[i] / e->y[i]);
}

/* Of the sign of y, as Lua's %. */
static void remainder_values(const struct elements *e) {
  for (int64_t i = 0; i < e->count; i++) {
    real rest = fmod(e->x[i], e->y[i]);
    e->result[i] = rest != 0 && (rest < 0) != (e->y[i] < 0) ? rest + e->y[i] : rest;
  }
}

static void remainder_by_y(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], -e->gradient[i] * floor(e->x[i] / e->y[i]));
}

/* Of integers too the result is of reals. */
static int real_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  *type = TYPE_REAL;
  return elementwise_shape(call, shape, type);
}

/* ---- one tensor and numbers ---- */

static void affine_values(const struct elements *e) {
  const struct step_numbers n = {(real)e->value[0].number, (real)e->value[1].number};
  foreach (i, e) e->result[i] = step_affine(e->x[i], 0, n);
}

static void affine_by_x(const struct elements *e) {
  const struct step_numbers n = {(real)e->value[0].number, 0};
  foreach (i, e) e->result[i] = step_scale(e->gradient[i], 0, n);
}

static void square_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] * e->x[i];
}

static void square_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], 2 * e->x[i] * e->gradient[i]);
}

static void power_values(const struct elements *e) {
  const real exponent = (real)e->value[0].number;
  if (exponent == 2)
    square_values(e);
  else if (exponent == 3)
    foreach (i, e) e->result[i] = e->x[i] * e->x[i] * e->x[i];
  else
    foreach (i, e) e->result[i] = pow(e->x[i], exponent);
}

static void power_by_x(const struct elements *e) {
  const real exponent = (real)e->value[0].number;
  if (exponent == 2)
    square_by_x(e);
  else if (exponent == 3)
    foreach (i, e) e->result[i] = unless_zero(e->gradient[i], 3 * e->x[i] * e->x[i] * e->gradient[i]);
  else if (exponent == 0)
    foreach (i, e) e->result[i] = 0;
  else
    foreach (i, e) {
      real g = e->gradient[i];
      e->result[i] = unless_zero(g, exponent * pow(e->x[i], exponent - 1) * g);
    }
}

static void clamp_values(const struct elements *e) {
  const real low = (real)e->value[0].number, high = (real)e->value[1].number;
  foreach (i, e) {
    real raised = e->x[i] < low ? low : e->x[i];
    e->result[i] = raised > high ? high : raised;
  }
}

static void clamp_by_x(const struct elements *e) {
  const real low = (real)e->value[0].number, high = (real)e->value[1].number;
  foreach (i, e) {
    const real whole = e->gradient[i];
    e->result[i] = e->x[i] < low || e->x[i] > high ? 0 : whole;
  }
}

static int clamp_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  if (!(call->value[0].number <= call->value[1].number))
    return status_error("min %g is above max %g", call->value[0].number, call->value[1].number);
  for (int i = 0; i < 2 && *type != TYPE_REAL; i++)
    if (isfinite(call->value[i].number) && call->value[i].number != floor(call->value[i].number))
      return status_error("a bound of integers is %g: it is a whole number", call->value[i].number);
  return elementwise_shape(call, shape, type);
}

/* ---- one tensor ---- */

static void neg_values(const struct elements *e) {
  foreach (i, e) e->result[i] = -e->x[i];
}

static void reciprocal_values(const struct elements *e) {
  foreach (i, e) e->result[i] = 1 / e->x[i];
}

static void reciprocal_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], -e->gradient[i] * e->output[i] * e->output[i]);
}

static void abs_values(const struct elements *e) {
  foreach (i, e) e->result[i] = fabs(e->x[i]);
}

static void abs_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] > 0 ? e->gradient[i] : e->x[i] < 0 ? -e->gradient[i] : 0;
}

/* NaN stays NaN. */
static void sign_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] > 0 ? 1 : e->x[i] < 0 ? -1 : e->x[i];
}

static void floor_values(const struct elements *e) {
  foreach (i, e) e->result[i] = floor(e->x[i]);
}

static void ceil_values(const struct elements *e) {
  foreach (i, e) e->result[i] = ceil(e->x[i]);
}

static void round_values(const struct elements *e) {
  foreach (i, e) e->result[i] = rint(e->x[i]);
}

static void is_nan_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] != e->x[i] ? 1 : 0;
}

static void is_inf_values(const struct elements *e) {
  foreach (i, e) e->result[i] = fabs(e->x[i]) == INFINITY ? 1 : 0;
}

static void is_finite_values(const struct elements *e) {
  foreach (i, e) e->result[i] = e->x[i] - e->x[i] == 0 ? 1 : 0;
}

/* ---- activations ---- */

static void tanh_values(const struct elements *e) {
  foreach (i, e) e->result[i] = vector_tanh(e->x[i]);
}

static void tanh_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = step_tanh_slope(e->gradient[i], e->output[i], no_numbers);
}

static void sigmoid_values(const struct elements *e) {
  foreach (i, e) e->result[i] = 1 / (1 + vector_exp(-e->x[i]));
}

static void sigmoid_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], e->gradient[i] * e->output[i] * (1 - e->output[i]));
}

/* log(1 + eˣ) without overflow. */
static void softplus_values(const struct elements *e) {
  foreach (i, e) {
    real positive = e->x[i] < 0 ? 0 : e->x[i];
    e->result[i] = positive + log1p(vector_exp(-fabs(e->x[i])));
  }
}

static void softplus_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], -e->gradient[i] * expm1(-e->output[i]));
}

/* A NaN passes, in both directions. */
static void relu_values(const struct elements *e) {
  foreach (i, e) e->result[i] = step_relu(e->x[i], 0, no_numbers);
}

static void relu_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = step_relu_slope(e->output[i], e->gradient[i], no_numbers);
}

static void leaky_relu_values(const struct elements *e) {
  const real slope = (real)e->value[0].number;
  foreach (i, e) e->result[i] = e->x[i] <= 0 ? slope * e->x[i] : e->x[i];
}

static void leaky_relu_by_x(const struct elements *e) {
  const real slope = (real)e->value[0].number;
  foreach (i, e) e->result[i] = e->x[i] <= 0 ? slope * e->gradient[i] : e->gradient[i];
}

static void elu_values(const struct elements *e) {
  const real alpha = (real)e->value[0].number;
  foreach (i, e) {
    real positive = e->x[i] < 0 ? 0 : e->x[i], negative = e->x[i] < 0 ? e->x[i] : 0;
    e->result[i] = positive + alpha * expm1(negative);
  }
}

/* From the output, whose sign is the input's while alpha is positive. */
static void elu_by_x(const struct elements *e) {
  const real alpha = (real)e->value[0].number;
  foreach (i, e) {
    real g = e->gradient[i];
    e->result[i] = unless_zero(g, g * (e->output[i] > 0 ? 1 : e->output[i] + alpha));
  }
}

static int elu_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  if (!(call->value[0].number > 0)) return status_error("alpha is %g and must be positive", call->value[0].number);
  return elementwise_shape(call, shape, type);
}

/* Beyond ±FAR an activation is its limit's, as it is there: so that infinity is not multiplied by 0. */
enum { FAR = 1000 };

static inline real not_below(real x) { return x < -FAR ? -FAR : x; }
static inline real within_far(real x) { return x < -FAR ? -FAR : x > FAR ? FAR : x; }

/* x Φ(x), or its form by tanh: Hendrycks and Gimpel, "Gaussian error linear units", 2016. */
static void gelu_values(const struct elements *e) {
  const real root = (real)M_SQRT1_2, scale = (real)(M_2_SQRTPI * M_SQRT1_2), cubic = (real)0.044715;
  if (e->value[0].list[0])
    foreach (i, e) {
      real x = not_below(e->x[i]);
      e->result[i] = x / 2 * (1 + vector_tanh(scale * (x + cubic * x * x * x)));
    }
  else
    foreach (i, e) {
      real x = not_below(e->x[i]);
      e->result[i] = x / 2 * (1 + vector_erf(root * x));
    }
}

static void gelu_by_x(const struct elements *e) {
  const real root = (real)M_SQRT1_2, scale = (real)(M_2_SQRTPI * M_SQRT1_2), cubic = (real)0.044715;
  if (e->value[0].list[0])
    foreach (i, e) {
      real g = e->gradient[i], x = within_far(e->x[i]), t = vector_tanh(scale * (x + cubic * x * x * x));
      e->result[i] = unless_zero(g, g / 2 * (1 + t + x * (1 - t * t) * scale * (1 + 3 * cubic * x * x)));
    }
  else
    foreach (i, e) {
      real g = e->gradient[i], x = within_far(e->x[i]), density = scale / 2 * vector_exp(x * x / -2);
      e->result[i] = unless_zero(g, g * ((1 + vector_erf(root * x)) / 2 + x * density));
    }
}

static void silu_values(const struct elements *e) {
  foreach (i, e) {
    real x = not_below(e->x[i]);
    e->result[i] = x / (1 + vector_exp(-x));
  }
}

static void silu_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], x = within_far(e->x[i]), s = 1 / (1 + vector_exp(-x));
    e->result[i] = unless_zero(g, g * s * (1 + x * (1 - s)));
  }
}

/* ---- kernels that are steps ---- */

static const struct elementwise_step steps[] = {
    {add_values, STEP_ADD, ELEMENTWISE_X, ELEMENTWISE_Y},
    {sub_values, STEP_SUBTRACT, ELEMENTWISE_X, ELEMENTWISE_Y},
    {mul_values, STEP_MULTIPLY, ELEMENTWISE_X, ELEMENTWISE_Y},
    {gradient_times_x, STEP_CHAIN, ELEMENTWISE_GRADIENT, ELEMENTWISE_X},
    {gradient_times_y, STEP_CHAIN, ELEMENTWISE_GRADIENT, ELEMENTWISE_Y},
    {affine_values, STEP_AFFINE, ELEMENTWISE_X, -1},
    {affine_by_x, STEP_SCALE, ELEMENTWISE_GRADIENT, -1},
    {relu_values, STEP_RELU, ELEMENTWISE_X, -1},
    {relu_by_x, STEP_RELU_SLOPE, ELEMENTWISE_OUTPUT, ELEMENTWISE_GRADIENT},
    {tanh_by_x, STEP_TANH_SLOPE, ELEMENTWISE_GRADIENT, ELEMENTWISE_OUTPUT},
};

const struct elementwise_step *elementwise_step_of(elementwise_kernel *kernel) {
  for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
    if (steps[i].kernel == kernel) return &steps[i];
  return NULL;
}

/* ---- samples: short and long rows, more than one block, more than one thread, size 1, empty, scalar ---- */

static const char *const samples[] = {"4x5", "3x130", "2x3x41", "1", "1x1", "3x0", "scalar", NULL};
static const char *const distinct_samples[] = {"distinct:4x5", "distinct:3x130",  "distinct:1",
                                               "distinct:3x0", "distinct:scalar", NULL};
static const char *const positive_samples[] = {"positive:4x5", "positive:3x130",  "positive:1",
                                               "positive:3x0", "positive:scalar", NULL};
static const char *const pair_samples[] = {"4x5 4x5",      "4x5 5",         "5 4x1",   "131x140 140", "131x140 131x1",
                                           "3x100 scalar", "1 3x4",         "1x1 1x1", "3x0 1",       "2x3x70 3x1",
                                           "2x1x3 5x1",    "scalar scalar", NULL};
static const char *const positive_pair_samples[] = {"4x5 positive:4x5",
                                                    "4x5 positive:5",
                                                    "5 positive:4x1",
                                                    "3x100 positive:scalar",
                                                    "1 positive:1",
                                                    "3x0 positive:1",
                                                    NULL};
static const char *const distinct_pair_samples[] = {"distinct:4x5 distinct:4x5", "distinct:4x5 distinct:5",
                                                    "distinct:70 distinct:4x1",  "distinct:1 distinct:1",
                                                    "distinct:3x0 distinct:1",   NULL};
static const char *const pow_samples[] = {"positive:4x5 4x5", "positive:4x5 5", "positive:70 4x1",
                                          "positive:1 1",     "positive:3x0 1", NULL};
static const char *const where_samples[] = {
    "mask:4x5 4x5 4x5", "mask:5 4x5 scalar", "mask:4x1 4x70 70", "mask:3x4 1 1", "mask:1 1 1", "mask:3x0 3x0 1", NULL};
static const char *const affine_samples[] = {
    "4x5 scale=-2.5 shift=3", "4x5", "131x140 scale=2", "1 shift=1", "3x0 scale=2", "scalar scale=0", NULL};
static const char *const power_samples[] = {"positive:4x5 exponent=1.7",
                                            "4x5 exponent=2",
                                            "4x5 exponent=3",
                                            "positive:3x70 exponent=-1",
                                            "4x5 exponent=0",
                                            "positive:1 exponent=0.5",
                                            "positive:3x0 exponent=0.5",
                                            NULL};
static const char *const clamp_samples[] = {"distinct:4x5 min=-0.77 max=0.78", "distinct:3x70 min=0.03",
                                            "distinct:1 max=0.07", "3x0 min=0", NULL};
static const char *const leaky_samples[] = {
    "distinct:4x5", "distinct:3x70 slope=0.2", "distinct:4x5 slope=-1", "distinct:1", "3x0", NULL};
static const char *const elu_samples[] = {"distinct:4x5", "distinct:3x70 alpha=0.3", "distinct:1", "3x0", NULL};
static const char *const gelu_samples[] = {"4x5", "4x5 tanh=1", "3x70", "1", "1 tanh=1", "3x0", NULL};

/* ---- rows ---- */

/* Forms of rows; UNARY is in elementwise.h. Their last kernel is that of integers. */
#define BINARY(word, text, tried, saves, values_kernel, by_x, by_y, is_linear, on_integers, ...)                 \
  OP(word, text, tried, PARAMETERS(TENSOR("x"), TENSOR("y")), OP_ROWWISE | (saves), elementwise_shape,           \
     elementwise_forward, elementwise_vjp, elementwise_jvp, .integers = elementwise_integers, .batch_inputs = 3, \
     .rowwise = elementwise_rowwise,                                                                             \
     .family =                                                                                                   \
         &(const struct elementwise_rule){                                                                       \
             .values = values_kernel, .derivative = {by_x, by_y}, .integers = on_integers, .linear = is_linear}, \
     __VA_ARGS__)
#define UNARY_TOO(word, text, tried, saves, values_kernel, by_x, second_by_x, on_integers)                       \
  OP(word, text, tried, PARAMETERS(TENSOR("x")), OP_ROWWISE | OP_LISTED_ROWS | (saves), elementwise_shape,       \
     elementwise_forward, elementwise_vjp, elementwise_jvp, .integers = elementwise_integers, .batch_inputs = 1, \
     .second = second_by_x,                                                                                      \
     .family =                                                                                                   \
         &(const struct elementwise_rule){.values = values_kernel, .derivative = {by_x}, .integers = on_integers})
#define STEPS(word, text, values_kernel, on_integers)                                                                \
  OP(word, text "; derivative 0: not recorded", distinct_samples, PARAMETERS(TENSOR("x")), OP_ROWWISE | OP_CONSTANT, \
     elementwise_shape, elementwise_forward, NULL, NULL, .integers = elementwise_integers, .batch_inputs = 1,        \
     .family = &(const struct elementwise_rule){.values = values_kernel, .integers = on_integers})
#define COMPARISON(word, text, values_kernel, on_integers)                                                    \
  OP(word, text, pair_samples, PARAMETERS(TENSOR("x"), TENSOR("y")), OP_ROWWISE | OP_NO_GRADIENT, real_shape, \
     elementwise_forward, NULL, NULL, .integers = elementwise_integers, .batch_inputs = 3,                    \
     .family = &(const struct elementwise_rule){.values = values_kernel, .integers = on_integers})
#define TEST(word, text, values_kernel)                                                                          \
  OP(word, text, samples, PARAMETERS(GIVEN("x", OP_ANY_TENSOR)), OP_ROWWISE | OP_NO_GRADIENT, elementwise_shape, \
     elementwise_forward, NULL, NULL, .batch_inputs = 1,                                                         \
     .family = &(const struct elementwise_rule){.values = values_kernel})

const struct op elementwise_chain = BINARY("chain", "gradient · slope", NULL, OP_SAVES_INPUTS, chain_values,
                                           gradient_times_y, gradient_times_x, false, NULL, .graph = mul_graph);

const struct op elementwise_ops[] = {
    BINARY("add", "x + y, broadcast", pair_samples, OP_LINEAR, add_values, elementwise_same, elementwise_same, true,
           add_integers),
    BINARY("sub", "x - y, broadcast", pair_samples, OP_LINEAR, sub_values, elementwise_same, minus_gradient, true,
           sub_integers),
    BINARY("mul", "x y element by element, broadcast", pair_samples, OP_SAVES_INPUTS, mul_values, gradient_times_y,
           gradient_times_x, false, mul_integers, .graph = mul_graph),
    OP("div", "x / y element by element, broadcast; of integers too in reals", positive_pair_samples,
       PARAMETERS(TENSOR("x"), TENSOR("y")), OP_ROWWISE | OP_SAVES_INPUTS, real_shape, elementwise_forward,
       elementwise_vjp, elementwise_jvp, .integers = elementwise_forward, .batch_inputs = 3,
       .rowwise = elementwise_rowwise, .graph = div_graph,
       .family = &(const struct elementwise_rule){.values = div_values, .derivative = {div_by_x, div_by_y}}),
    OP("floor_divide", "floor(x / y), broadcast (x // y); derivative 0: not recorded", positive_pair_samples,
       PARAMETERS(TENSOR("x"), TENSOR("y")), OP_ROWWISE | OP_CONSTANT, elementwise_shape, elementwise_forward, NULL,
       NULL, .integers = elementwise_integers, .batch_inputs = 3, .rowwise = elementwise_rowwise,
       .family = &(const struct elementwise_rule){.values = floor_divide_values, .integers = floor_divide_integers}),
    BINARY("remainder", "x - floor(x / y) y, of the sign of y, broadcast (x % y)", positive_pair_samples,
           OP_SAVES_INPUTS | OP_LINEAR, remainder_values, elementwise_same, remainder_by_y, false, remainder_integers),
    BINARY("pow", "x to the power y element by element, broadcast", pow_samples, OP_SAVES_INPUTS, pow_values, pow_by_x,
           pow_by_y, false, pow_integers, .graph = pow_graph),
    BINARY("maximum", "the greater of x and y, broadcast; equal elements share the gradient, NaN wins",
           distinct_pair_samples, OP_SAVES_INPUTS | OP_LINEAR, maximum_values, gradient_where_greater,
           gradient_where_less, false, maximum_integers),
    BINARY("minimum", "the smaller of x and y, broadcast; equal elements share the gradient, NaN wins",
           distinct_pair_samples, OP_SAVES_INPUTS | OP_LINEAR, minimum_values, gradient_where_less,
           gradient_where_greater, false, minimum_integers),
    OP("where",
       "x where the condition is not zero, else y; all three broadcast. What was not chosen has gradient 0, which "
       "stays "
       "0 through functions whose slope there is infinite or NaN; the condition has none",
       where_samples, PARAMETERS(GIVEN("condition", OP_ANY_TENSOR), TENSOR("x"), TENSOR("y")), OP_ROWWISE | OP_LINEAR,
       elementwise_shape, where_forward, where_vjp, where_jvp, .integers = elementwise_integers, .batch_inputs = 7,
       .family = &where_rule),
    COMPARISON("eq", "1 where x = y, else 0; broadcast", eq_values, eq_integers),
    COMPARISON("ne", "1 where x and y differ, else 0; broadcast", ne_values, ne_integers),
    COMPARISON("lt", "1 where x < y, else 0; broadcast", lt_values, lt_integers),
    COMPARISON("le", "1 where x <= y, else 0; broadcast", le_values, le_integers),
    COMPARISON("gt", "1 where x > y, else 0; broadcast", gt_values, gt_integers),
    COMPARISON("ge", "1 where x >= y, else 0; broadcast", ge_values, ge_integers),
    COMPARISON("logical_and", "1 where neither x nor y is 0, else 0; broadcast", logical_and_values, and_integers),
    COMPARISON("logical_or", "1 where x or y is not 0, else 0; broadcast", logical_or_values, or_integers),
    TEST("logical_not", "1 where x is 0, else 0", logical_not_values),
    TEST("is_nan", "1 where x is NaN, else 0", is_nan_values),
    TEST("is_inf", "1 where x is infinite, of either sign, else 0", is_inf_values),
    TEST("is_finite", "1 where x is neither infinite nor NaN, else 0", is_finite_values),
    UNARY("affine", "scale x + shift, for numbers scale and shift", affine_samples, OP_LINEAR, affine_values,
          affine_by_x, NULL, DEFAULT("scale", OP_NUMBER, 1), DEFAULT("shift", OP_NUMBER, 0)),
    UNARY("power", "x to the power of a number", power_samples, OP_SAVES_INPUTS, power_values, power_by_x, second_power,
          GIVEN("exponent", OP_NUMBER)),
    OP("clamp", "x, not below min and not above max; gradient whole at the bounds, 0 outside", clamp_samples,
       PARAMETERS(TENSOR("x"), DEFAULT("min", OP_NUMBER, -INFINITY), DEFAULT("max", OP_NUMBER, INFINITY)),
       OP_ROWWISE | OP_LISTED_ROWS | OP_SAVES_INPUTS | OP_LINEAR, clamp_shape, elementwise_forward, elementwise_vjp,
       elementwise_jvp, .integers = elementwise_integers, .batch_inputs = 1,
       .family =
           &(const struct elementwise_rule){
               .values = clamp_values, .integers = clamp_integers, .derivative = {clamp_by_x}}),
    UNARY_TOO("neg", "-x", samples, OP_LINEAR, neg_values, minus_gradient, NULL, neg_integers),
    UNARY_TOO("abs", "|x|; derivative 0 at 0", distinct_samples, OP_SAVES_INPUTS | OP_LINEAR, abs_values, abs_by_x,
              NULL, abs_integers),
    UNARY_TOO("square", "x x", samples, OP_SAVES_INPUTS, square_values, square_by_x, second_square, square_integers),
    UNARY("reciprocal", "1 / x", positive_samples, OP_SAVES_OUTPUT, reciprocal_values, reciprocal_by_x,
          second_reciprocal),
    STEPS("sign", "-1, 0 or 1", sign_values, sign_integers),
    STEPS("floor", "the greatest integer not above x", floor_values, same_integers),
    STEPS("ceil", "the smallest integer not below x", ceil_values, same_integers),
    STEPS("round", "the nearest integer, halves to even", round_values, same_integers),
    UNARY("tanh", "hyperbolic tangent", samples, OP_SAVES_OUTPUT, tanh_values, tanh_by_x, second_tanh),
    UNARY("sigmoid", "1 / (1 + exp(-x))", samples, OP_SAVES_OUTPUT, sigmoid_values, sigmoid_by_x, second_sigmoid),
    UNARY("softplus", "log(1 + exp(x)), without overflow", samples, OP_SAVES_OUTPUT, softplus_values, softplus_by_x,
          second_softplus),
    UNARY("relu", "x where positive, else 0; derivative 0 at 0", distinct_samples, OP_SAVES_OUTPUT | OP_LINEAR,
          relu_values, relu_by_x, NULL),
    UNARY("leaky_relu", "x where positive, else slope x", leaky_samples, OP_SAVES_INPUTS | OP_LINEAR, leaky_relu_values,
          leaky_relu_by_x, NULL, DEFAULT("slope", OP_NUMBER, 0.01)),
    OP("elu", "x where positive, else alpha (exp(x) - 1) (Clevert et al., 2016)", elu_samples,
       PARAMETERS(TENSOR("x"), DEFAULT("alpha", OP_NUMBER, 1)), OP_ROWWISE | OP_LISTED_ROWS | OP_SAVES_OUTPUT,
       elu_shape, elementwise_forward, elementwise_vjp, elementwise_jvp, .batch_inputs = 1, .second = second_elu,
       .family = &(const struct elementwise_rule){.values = elu_values, .derivative = {elu_by_x}}),
    UNARY("gelu", "x times the normal distribution function of x, by tanh when asked", gelu_samples, OP_SAVES_INPUTS,
          gelu_values, gelu_by_x, second_gelu, DEFAULT("tanh", OP_FLAG, 0)),
    UNARY("silu", "x sigmoid(x) (Elfwing et al., 2018)", samples, OP_SAVES_INPUTS, silu_values, silu_by_x, second_silu),
    {.name = NULL}};
