/* Normalisation over rows: layer_norm, group_norm, rms_norm; and the rows of all norms in the op table. */
#include <math.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "compose.h"
#include "norm.h"

int norm_check_parameter(const struct tensor *parameter, const char *name, int64_t count, const char *what) {
  if (!parameter) return STATUS_OK;
  if (parameter->shape.rank == 1 && parameter->shape.size[0] == count) return STATUS_OK;
  return status_error("%s has shape %s, it needs one value for each of %lld %s", name, shape_text(&parameter->shape),
                      (long long)count, what);
}

enum { ROW_X, ROW_WEIGHT, ROW_BIAS };

/* rows of channels × span elements; row r has channels (r mod cycle) · channels onwards, each over span elements. */
struct row_layout {
  int64_t rows, channels, span, cycle;
  bool centred;
  double epsilon;
};

enum { ROW_BLOCK = 64 }; /* rows whose parameter gradients share one partial sum */

/* What a row says of its norm. */
struct row_rule {
  bool centred, grouped;
  int epsilon; /* its place among the values */
};

static struct row_layout row_layout_of(const struct op_call *call) {
  const struct shape *shape = &call->input[ROW_X]->shape;
  int last = shape->rank - 1;
  const struct row_rule *rule = call->op->family;
  struct row_layout layout = {.rows = 1, .span = 1, .cycle = 1, .centred = rule->centred};
  layout.epsilon = call->value[rule->epsilon].number;
  if (rule->grouped) {
    layout.cycle = call->value[0].list[0];
    layout.channels = shape->size[1] / layout.cycle;
    layout.rows = shape->size[0] * layout.cycle;
    for (int i = 2; i < shape->rank; i++) layout.span *= shape->size[i];
  } else {
    layout.channels = shape->size[last];
    for (int i = 0; i < last; i++) layout.rows *= shape->size[i];
  }
  return layout;
}

static int row_norm_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  *shape = call->input[ROW_X]->shape;
  if (shape->rank < 1) return status_error("the input is (…, d), not a scalar");
  int64_t width = shape->size[shape->rank - 1];
  STATUS_TRY(norm_check_parameter(call->input[ROW_WEIGHT], "weight", width, "features"));
  if (call->input_count > ROW_BIAS) STATUS_TRY(norm_check_parameter(call->input[ROW_BIAS], "bias", width, "features"));
  return STATUS_OK;
}

static int group_norm_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  *shape = call->input[ROW_X]->shape;
  if (shape->rank < 2) return status_error("the input is (N, C, …), not %s", shape_text(shape));
  int64_t groups = call->value[0].list[0];
  if (groups < 1 || (groups > 1 && groups > shape->size[1]) || shape->size[1] % groups)
    return status_error("%lld groups do not divide the %lld channels of %s", (long long)groups,
                        (long long)shape->size[1], shape_text(shape));
  STATUS_TRY(norm_check_parameter(call->input[ROW_WEIGHT], "weight", shape->size[1], "channels"));
  STATUS_TRY(norm_check_parameter(call->input[ROW_BIAS], "bias", shape->size[1], "channels"));
  return STATUS_OK;
}

/* A vector is one row: its elements depend on each other. */
static bool row_norm_rowwise(const struct op_call *call) { return call->input[ROW_X]->shape.rank > 1; }

/* The saved statistics: one a row, their first size the batch's. */
static struct shape row_statistics_shape(const struct shape *shape, const struct row_layout *layout) {
  if (shape->rank == 1) return shape_of(1, (int64_t)1);
  int64_t batch = shape->size[0];
  return shape_of(2, batch, batch ? layout->rows / batch : 0);
}

/* Σ (x − mean)² and Σ (x − mean), where reals do not hold them. */
static void row_moments_wide(double *square, double *rest, const real *x, real mean, int64_t width) {
  *square = *rest = 0;
  for (int64_t i = 0; i < width; i++) {
    double distance = (double)x[i] - (double)mean;
    *square += distance * distance;
    *rest += distance;
  }
}

/* x̂ = (x − center) · inverse − offset: center is a real near the mean, offset what the mean differs from it by. */
struct row_statistics {
  real center, inverse, offset;
};

static struct row_statistics row_statistics_of(const struct op_call *call, int64_t row) {
  return (struct row_statistics){tensor_real(call->saved[0])[row], tensor_real(call->saved[1])[row],
                                 tensor_real(call->saved[2])[row]};
}

static struct row_statistics row_forward(real *y, const real *x, const real *weight, const real *bias,
                                         const struct row_layout *layout, int64_t row) {
  int64_t width = layout->channels * layout->span, span = layout->span;
  real sum = 0, square = 0, rest = 0, mean = 0;
  if (layout->centred) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += x[i];
    mean = sum / (real)width;
  }
  /* What rounding left in the mean is taken off it: where a row is nearly constant it would be all there is. */
#pragma omp simd reduction(+ : square, rest)
  for (int64_t i = 0; i < width; i++) square += (x[i] - mean) * (x[i] - mean), rest += x[i] - mean;
  double squares = (double)square, left = (double)rest;
  if (!(square < INFINITY)) row_moments_wide(&squares, &left, x, mean, width);
  left = layout->centred ? left / (double)width : 0;
  double variance = squares / (double)width - left * left;
  double scale = 1 / sqrt((variance < 0 ? 0 : variance) + layout->epsilon);
  const real factor = (real)scale, shift = (real)(left * scale);
  int64_t first = row % layout->cycle * layout->channels;
  if (span == 1) {
    const real *w = weight ? weight + first : NULL, *b = bias ? bias + first : NULL;
    for (int64_t i = 0; i < width; i++) y[i] = ((x[i] - mean) * factor - shift) * (w ? w[i] : 1) + (b ? b[i] : 0);
    return (struct row_statistics){mean, factor, shift};
  }
  for (int64_t c = 0; c < layout->channels; c++) {
    real w = norm_value(weight, first + c, 1), b = norm_value(bias, first + c, 0) - w * shift;
    w *= factor;
    for (int64_t i = c * span; i < (c + 1) * span; i++) y[i] = (x[i] - mean) * w + b;
  }
  return (struct row_statistics){mean, factor, shift};
}

static int row_norm_forward(struct op_call *call) {
  struct row_layout layout = row_layout_of(call);
  int64_t width = layout.channels * layout.span;
  bool failed = false;
  struct tensor *holder[3];
  const real *x = norm_open(call->input[ROW_X], &holder[0], &failed);
  const real *weight = norm_open(call->input[ROW_WEIGHT], &holder[1], &failed);
  const real *bias = norm_open(call->input_count > ROW_BIAS ? call->input[ROW_BIAS] : NULL, &holder[2], &failed);
  struct shape statistics = row_statistics_shape(&call->output->shape, &layout);
  for (int i = 0; i < 3; i++) failed = !(call->saved[i] = tensor_new(TYPE_REAL, &statistics)) || failed;
  if (!failed && width > 0) {
    real *y = tensor_real(call->output);
#pragma omp parallel for if (layout.rows * width > PARALLEL_THRESHOLD)
    for (int64_t r = 0; r < layout.rows; r++) {
      struct row_statistics s = row_forward(y + r * width, x + r * width, weight, bias, &layout, r);
      tensor_real(call->saved[0])[r] = s.center;
      tensor_real(call->saved[1])[r] = s.inverse;
      tensor_real(call->saved[2])[r] = s.offset;
    }
  }
  for (int i = 0; i < 3; i++) tensor_release(holder[i]);
  return failed ? STATUS_ERROR : STATUS_OK;
}

/* out = r (d − mean(d) − x̂ mean(d x̂)) for one row, where d is already multiplied by the weight; out may be d. */
static void row_derivative(real *out, const real *d, const real *x, struct row_statistics s,
                           const struct row_layout *layout) {
  int64_t width = layout->channels * layout->span;
  real sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
  for (int64_t i = 0; i < width; i++) sum += d[i], product += d[i] * (x[i] - s.center);
  real along = (s.inverse * product - s.offset * sum) / (real)width, slope = along * s.inverse;
  real base = (layout->centred ? sum / (real)width : 0) - along * s.offset;
#pragma omp simd
  for (int64_t i = 0; i < width; i++) out[i] = s.inverse * (d[i] - base - slope * (x[i] - s.center));
}

/* out[i] = d[i] · weight of i's channel. */
static void row_scale(real *out, const real *d, const real *weight, const struct row_layout *layout, int64_t row) {
  int64_t span = layout->span, channels = layout->channels, first = row % layout->cycle * channels;
  if (span == 1) {
    for (int64_t i = 0; i < channels; i++) out[i] = weight ? d[i] * weight[first + i] : d[i];
    return;
  }
  for (int64_t c = 0; c < channels; c++) {
    real w = norm_value(weight, first + c, 1);
    for (int64_t i = c * span; i < (c + 1) * span; i++) out[i] = d[i] * w;
  }
}

/* Adds a row's part to the gradients of weight and bias. */
static void row_parameter_gradients(real *weight, real *bias, const real *g, const real *x, struct row_statistics s,
                                    const struct row_layout *layout, int64_t row) {
  int64_t span = layout->span, channels = layout->channels, first = row % layout->cycle * channels;
  weight += first, bias += first;
  if (span == 1) {
#pragma omp simd
    for (int64_t i = 0; i < channels; i++) {
      weight[i] += g[i] * ((x[i] - s.center) * s.inverse - s.offset);
      bias[i] += g[i];
    }
    return;
  }
  for (int64_t c = 0; c < channels; c++) {
    real sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (int64_t i = c * span; i < (c + 1) * span; i++) sum += g[i], product += g[i] * (x[i] - s.center);
    weight[c] += product * s.inverse - sum * s.offset;
    bias[c] += sum;
  }
}

static int row_norm_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                        struct tensor **result) {
  struct row_layout layout = row_layout_of(call);
  int64_t width = layout.channels * layout.span, parameters = layout.channels * layout.cycle;
  int64_t blocks = ceil_div(layout.rows, ROW_BLOCK);
  bool failed = false, has_bias = call->input_count > ROW_BIAS;
  bool want_parameters = needed[ROW_WEIGHT] || (has_bias && needed[ROW_BIAS]);
  struct tensor *holder[3];
  const real *g = norm_open(gradient, &holder[0], &failed);
  const real *x = norm_open(call->input[ROW_X], &holder[1], &failed);
  const real *weight = norm_open(call->input[ROW_WEIGHT], &holder[2], &failed);
  struct shape per_channel = shape_of(1, parameters);
  if (needed[ROW_X]) failed = failed || !(result[ROW_X] = tensor_new(TYPE_REAL, &call->input[ROW_X]->shape));
  for (int i = ROW_WEIGHT; i < call->input_count; i++)
    if (needed[i]) failed = failed || !(result[i] = tensor_new(TYPE_REAL, &per_channel));
  /* a block's sums: of the weight's gradient, then the bias's */
  real *partial = want_parameters ? memory_acquire((size_t)(blocks * 2 * parameters) * sizeof(real)) : NULL;
  failed = failed || (want_parameters && !partial);
  if (!failed) {
    real *dx = needed[ROW_X] ? tensor_real(result[ROW_X]) : NULL;
#pragma omp parallel for if (layout.rows * width > PARALLEL_THRESHOLD)
    for (int64_t b = 0; b < blocks; b++) {
      real *sums = partial ? partial + b * 2 * parameters : NULL;
      for (int64_t i = 0; sums && i < 2 * parameters; i++) sums[i] = 0;
      for (int64_t r = b * ROW_BLOCK; r < min((b + 1) * ROW_BLOCK, layout.rows); r++) {
        int64_t at = r * width;
        if (dx) {
          row_scale(dx + at, g + at, weight, &layout, r);
          row_derivative(dx + at, dx + at, x + at, row_statistics_of(call, r), &layout);
        }
        if (sums)
          row_parameter_gradients(sums, sums + parameters, g + at, x + at, row_statistics_of(call, r), &layout, r);
      }
    }
    for (int i = ROW_WEIGHT; i < call->input_count; i++) {
      if (!needed[i]) continue;
      real *out = tensor_real(result[i]);
      const real *from = partial + (i == ROW_BIAS ? parameters : 0);
      for (int64_t k = 0; k < parameters; k++) out[k] = 0;
      for (int64_t b = 0; b < blocks; b++)
        for (int64_t k = 0; k < parameters; k++) out[k] += from[b * 2 * parameters + k];
    }
  }
  memory_release(partial);
  for (int i = 0; i < 3; i++) tensor_release(holder[i]);
  return failed ? STATUS_ERROR : STATUS_OK;
}

/* out = weight · dx̂ + x̂ · tilt + extra for one row, any of dx, tilt, extra absent. */
static void row_tangent(real *out, const real *dx, const real *tilt, const real *extra, const real *x,
                        const real *weight, struct row_statistics s, const struct row_layout *layout, int64_t row) {
  int64_t span = layout->span, channels = layout->channels, first = row % layout->cycle * channels;
  if (dx) {
    row_derivative(out, dx, x, s, layout);
    row_scale(out, out, weight, layout, row);
  } else {
    for (int64_t i = 0; i < channels * span; i++) out[i] = 0;
  }
  if (!tilt && !extra) return;
  for (int64_t c = 0; c < channels; c++) {
    real t = norm_value(tilt, first + c, 0), e = norm_value(extra, first + c, 0) - t * s.offset;
    t *= s.inverse;
    for (int64_t i = c * span; i < (c + 1) * span; i++) out[i] += (x[i] - s.center) * t + e;
  }
}

static int row_norm_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct row_layout layout = row_layout_of(call);
  int64_t width = layout.channels * layout.span;
  bool failed = false;
  struct tensor *holder[5];
  const real *x = norm_open(call->input[ROW_X], &holder[0], &failed);
  const real *weight = norm_open(call->input[ROW_WEIGHT], &holder[1], &failed);
  const real *dx = norm_open(tangent[ROW_X], &holder[2], &failed);
  const real *tilt = norm_open(tangent[ROW_WEIGHT], &holder[3], &failed);
  const real *extra = norm_open(call->input_count > ROW_BIAS ? tangent[ROW_BIAS] : NULL, &holder[4], &failed);
  *result = failed ? NULL : tensor_new(TYPE_REAL, &call->input[ROW_X]->shape);
  if (*result) {
    real *out = tensor_real(*result);
#pragma omp parallel for if (layout.rows * width > PARALLEL_THRESHOLD)
    for (int64_t r = 0; r < layout.rows; r++)
      row_tangent(out + r * width, dx ? dx + r * width : NULL, tilt, extra, x + r * width, weight,
                  row_statistics_of(call, r), &layout, r);
  }
  for (int i = 0; i < 5; i++) tensor_release(holder[i]);
  return *result ? STATUS_OK : STATUS_ERROR;
}

static const struct row_rule layer_rule = {.centred = true, .epsilon = 0};
static const struct row_rule group_rule = {.centred = true, .grouped = true, .epsilon = 1};
static const struct row_rule rms_rule = {.centred = false, .epsilon = 0};

/* A form for norms of rows: further parameters after the weight. */
#define EPSILON DEFAULT("epsilon", OP_NUMBER, 1e-5)
#define ROW_NORM(word, text, tried, shape_run, rule, graph_run, composed_run, ...)                                  \
  OP(word, text, tried, PARAMETERS(TENSOR("x"), GIVEN("weight", OP_OPTIONAL_TENSOR), __VA_ARGS__), OP_SAVES_INPUTS, \
     shape_run, row_norm_forward, row_norm_vjp, row_norm_jvp, .batch_inputs = 1, .rowwise = row_norm_rowwise,       \
     .graph = graph_run, .composed = composed_run, .family = rule)

const struct op norm_ops[] = {
    OP("batch_norm",
       "x (N, C, …) normalised per channel: in training by the batch's mean and variance, which also move the "
       "running statistics (momentum; unbiased variance), else by the running ones; then times weight plus bias "
       "(Ioffe and Szegedy 2015)",
       SAMPLES("4x3x2x3 3 3 3 positive:3 training=1", "5x4 4 4 - - training=1", "4x3x5 - - - - training=1",
               "3x2x2x2 2 2 2 positive:2 training=0", "3x4 4 - 4 positive:4 training=0 epsilon=0.1",
               "2x1x3 1 1 1 positive:1 training=1", "1x2x4 2 2 - - training=1", "0x2x3 2 2 2 positive:2 training=1",
               "0x2 2 2 2 positive:2 training=0"),
       PARAMETERS(TENSOR("x"), GIVEN("weight", OP_OPTIONAL_TENSOR), GIVEN("bias", OP_OPTIONAL_TENSOR),
                  GIVEN("running_mean", OP_OPTIONAL_TENSOR), GIVEN("running_variance", OP_OPTIONAL_TENSOR),
                  GIVEN("training", OP_FLAG), DEFAULT("momentum", OP_NUMBER, 0.1), EPSILON),
       OP_SAVES_INPUTS, batch_norm_shape, batch_norm_forward, batch_norm_vjp, batch_norm_jvp, .batch_inputs = 1,
       .rowwise = batch_norm_rowwise, .graph = batch_norm_graph),
    ROW_NORM("layer_norm",
             "x (…, d) with mean 0 and variance 1 over the last dimension, times weight (d) plus bias (d) (Ba et al. "
             "2016)",
             SAMPLES("3x5 5 5", "2x3x4 4 -", "2x4 - -", "6 6 6", "1x4 4 4", "2x1 1 1", "0x4 4 4", "70x3 3 3"),
             row_norm_shape, &layer_rule, layer_norm_graph, NULL, GIVEN("bias", OP_OPTIONAL_TENSOR), EPSILON),
    ROW_NORM("group_norm",
             "x (N, C, …) with mean 0 and variance 1 over each image's groups of channels, times weight (C) plus bias "
             "(C) (Wu and He 2018)",
             SAMPLES("2x4x2x3 4 4 groups=2", "3x6 6 - groups=3", "2x4x3 - - groups=1", "2x3x2 3 3 groups=3",
                     "0x4x2x2 4 4 groups=2", "1x2x2x1 2 2 groups=1"),
             group_norm_shape, &group_rule, NULL, group_norm_composed, GIVEN("bias", OP_OPTIONAL_TENSOR),
             GIVEN("groups", OP_INTEGER), EPSILON),
    ROW_NORM("rms_norm",
             "x (…, d) over the root of its mean square along the last dimension, times weight (d) (Zhang and Sennrich "
             "2019); of width 1 the derivative is what rounding leaves of 1 - 1",
             SAMPLES("3x5 5", "2x3x4 4", "2x4 -", "6 6", "2x1 1", "0x4 4"), row_norm_shape, &rms_rule, rms_norm_graph,
             NULL, EPSILON),
    {.name = NULL}};
