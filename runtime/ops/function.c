/* Elementary functions, elementwise: exponentials, logarithms, roots, trigonometry. A row is two kernels, as in
   elementwise.c. */
#include "../base/vector_math.h"
#include "elementwise.h"

static void exp_values(const struct elements *e) {
  foreach (i, e) e->result[i] = vector_exp(e->x[i]);
}

static void gradient_times_output(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], e->gradient[i] * e->output[i]);
}

static void expm1_values(const struct elements *e) {
  foreach (i, e) e->result[i] = expm1(e->x[i]);
}

static void expm1_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], e->gradient[i] * (e->output[i] + 1));
}

static void log_values(const struct elements *e) {
  foreach (i, e) e->result[i] = log(e->x[i]);
}

static void gradient_over_x(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], e->gradient[i] / e->x[i]);
}

static void log1p_values(const struct elements *e) {
  foreach (i, e) e->result[i] = log1p(e->x[i]);
}

static void log1p_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], e->gradient[i] / (1 + e->x[i]));
}

static void sqrt_values(const struct elements *e) {
  foreach (i, e) e->result[i] = sqrt(e->x[i]);
}

static void sqrt_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], e->gradient[i] / (2 * e->output[i]));
}

static void rsqrt_values(const struct elements *e) {
  foreach (i, e) e->result[i] = 1 / sqrt(e->x[i]);
}

static void rsqrt_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], y = e->output[i];
    e->result[i] = unless_zero(g, g * y * y * y / -2);
  }
}

static void sin_values(const struct elements *e) {
  foreach (i, e) e->result[i] = sin(e->x[i]);
}

static void sin_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], e->gradient[i] * cos(e->x[i]));
}

static void cos_values(const struct elements *e) {
  foreach (i, e) e->result[i] = cos(e->x[i]);
}

static void cos_by_x(const struct elements *e) {
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], -e->gradient[i] * sin(e->x[i]));
}

static void erf_values(const struct elements *e) {
  foreach (i, e) e->result[i] = vector_erf(e->x[i]);
}

static void erf_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i];
    e->result[i] = unless_zero(g, g * (real)M_2_SQRTPI * vector_exp(-e->x[i] * e->x[i]));
  }
}

static void tan_values(const struct elements *e) {
  foreach (i, e) e->result[i] = tan(e->x[i]);
}

static void tan_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], y = e->output[i];
    e->result[i] = unless_zero(g, g * (1 + y * y));
  }
}

static void asin_values(const struct elements *e) {
  foreach (i, e) e->result[i] = asin(e->x[i]);
}

static void asin_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], x = e->x[i];
    e->result[i] = unless_zero(g, g / sqrt((1 - x) * (1 + x)));
  }
}

static void acos_values(const struct elements *e) {
  foreach (i, e) e->result[i] = acos(e->x[i]);
}

static void acos_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], x = e->x[i];
    e->result[i] = unless_zero(g, -g / sqrt((1 - x) * (1 + x)));
  }
}

static void atan_values(const struct elements *e) {
  foreach (i, e) e->result[i] = atan(e->x[i]);
}

static void atan_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], x = e->x[i];
    e->result[i] = unless_zero(g, g / (1 + x * x));
  }
}

static void sinh_values(const struct elements *e) {
  foreach (i, e) e->result[i] = sinh(e->x[i]);
}

static void sinh_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], x = e->x[i];
    e->result[i] = unless_zero(g, g * cosh(x));
  }
}

static void cosh_values(const struct elements *e) {
  foreach (i, e) e->result[i] = cosh(e->x[i]);
}

static void cosh_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], x = e->x[i];
    e->result[i] = unless_zero(g, g * sinh(x));
  }
}

static void asinh_values(const struct elements *e) {
  foreach (i, e) e->result[i] = asinh(e->x[i]);
}

static void asinh_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], x = e->x[i];
    e->result[i] = unless_zero(g, g / hypot(x, (real)1));
  }
}

static void acosh_values(const struct elements *e) {
  foreach (i, e) e->result[i] = acosh(e->x[i]);
}

static void acosh_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], x = e->x[i];
    e->result[i] = unless_zero(g, g / (sqrt(x - 1) * sqrt(x + 1)));
  }
}

static void atanh_values(const struct elements *e) {
  foreach (i, e) e->result[i] = atanh(e->x[i]);
}

static void atanh_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], x = e->x[i];
    e->result[i] = unless_zero(g, g / ((1 - x) * (1 + x)));
  }
}

static void atan2_values(const struct elements *e) {
  foreach (i, e) e->result[i] = atan2(e->x[i], e->y[i]);
}

/* y / (x² + y²), 0 at the origin. */
static void atan2_by_x(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], length = hypot(e->x[i], e->y[i]);
    e->result[i] = length == 0 ? 0 : unless_zero(g, g * (e->y[i] / length) / length);
  }
}

static void atan2_by_y(const struct elements *e) {
  foreach (i, e) {
    real g = e->gradient[i], length = hypot(e->x[i], e->y[i]);
    e->result[i] = length == 0 ? 0 : unless_zero(g, -g * (e->x[i] / length) / length);
  }
}

/* ---- rows ---- */

static const char *const samples[] = {"4x5", "3x130", "2x3x41", "1", "1x1", "3x0", "scalar", NULL};
static const char *const large_samples[] = {"4x5", "131x140", "1", "0x3", "scalar", NULL};
static const char *const positive_samples[] = {"positive:4x5", "positive:3x130",  "positive:1",
                                               "positive:3x0", "positive:scalar", NULL};
static const char *const positive_pair_samples[] = {"4x5 positive:4x5", "4x5 positive:5", "5 positive:4x1",
                                                    "1 positive:1",     "3x0 positive:1", NULL};
static const char *const unit_samples[] = {"unit:4x5", "unit:3x70", "unit:1", "3x0", "unit:scalar", NULL};
static const char *const above_samples[] = {"above:4x5", "above:3x70", "above:1", "3x0", "above:scalar", NULL};

const struct op function_ops[] = {
    UNARY("exp", "e to the power x", large_samples, OP_SAVES_OUTPUT, exp_values, gradient_times_output, second_exp),
    UNARY("expm1", "exp(x) - 1, exact near 0", samples, OP_SAVES_OUTPUT, expm1_values, expm1_by_x, second_expm1),
    UNARY("log", "natural logarithm", positive_samples, OP_SAVES_INPUTS, log_values, gradient_over_x, second_log),
    UNARY("log1p", "log(1 + x), exact near 0", positive_samples, OP_SAVES_INPUTS, log1p_values, log1p_by_x,
          second_log1p),
    UNARY("sqrt", "square root", positive_samples, OP_SAVES_OUTPUT, sqrt_values, sqrt_by_x, second_sqrt),
    UNARY("rsqrt", "1 / sqrt(x)", positive_samples, OP_SAVES_OUTPUT, rsqrt_values, rsqrt_by_x, second_rsqrt),
    UNARY("sin", "sine, of radians", samples, OP_SAVES_INPUTS, sin_values, sin_by_x, second_sin),
    UNARY("cos", "cosine, of radians", samples, OP_SAVES_INPUTS, cos_values, cos_by_x, second_cos),
    UNARY("tan", "tangent, of radians", unit_samples, OP_SAVES_OUTPUT, tan_values, tan_by_x, second_tan),
    UNARY("asin", "angle from -π/2 to π/2 whose sine is x", unit_samples, OP_SAVES_INPUTS, asin_values, asin_by_x,
          second_asin),
    UNARY("acos", "angle from 0 to π whose cosine is x", unit_samples, OP_SAVES_INPUTS, acos_values, acos_by_x,
          second_acos),
    UNARY("atan", "angle from -π/2 to π/2 whose tangent is x", samples, OP_SAVES_INPUTS, atan_values, atan_by_x,
          second_atan),
    OP("atan2",
       "angle from -π to π of the point (y, x): atan(x / y) in the right quadrant, broadcast; derivative 0 at (0, 0)",
       positive_pair_samples, PARAMETERS(TENSOR("x"), TENSOR("y")), OP_ROWWISE | OP_SAVES_INPUTS, elementwise_shape,
       elementwise_forward, elementwise_vjp, elementwise_jvp, .batch_inputs = 3, .rowwise = elementwise_rowwise,
       .graph = atan2_graph,
       .family = &(const struct elementwise_rule){.values = atan2_values, .derivative = {atan2_by_x, atan2_by_y}}),
    UNARY("sinh", "hyperbolic sine", samples, OP_SAVES_INPUTS, sinh_values, sinh_by_x, second_sinh),
    UNARY("cosh", "hyperbolic cosine", samples, OP_SAVES_INPUTS, cosh_values, cosh_by_x, second_cosh),
    UNARY("asinh", "inverse hyperbolic sine", samples, OP_SAVES_INPUTS, asinh_values, asinh_by_x, second_asinh),
    UNARY("acosh", "inverse hyperbolic cosine, of x >= 1", above_samples, OP_SAVES_INPUTS, acosh_values, acosh_by_x,
          second_acosh),
    UNARY("atanh", "inverse hyperbolic tangent, of -1 < x < 1", unit_samples, OP_SAVES_INPUTS, atanh_values, atanh_by_x,
          second_atanh),
    UNARY("erf", "error function", samples, OP_SAVES_INPUTS, erf_values, erf_by_x, second_erf),
    {.name = NULL}};
