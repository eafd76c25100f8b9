/* Normalisation: batch_norm over (N, C, …), and layer_norm, group_norm, rms_norm over rows.

   All are y = x̂ w + b with x̂ = (x − μ) r, r = 1/√(variance + ε), and share one derivative. For a change dx of
   the inputs, and means over the elements that μ and r are made from,
     dx̂ = r (dx − mean(dx) − x̂ mean(dx x̂)),
   which is symmetric, so that it is also the gradient. Without the centring (rms_norm) mean(dx) goes. */
#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "op.h"

/* A parameter per channel, or its default. */
static inline real norm_value(const real *values, int64_t i, real otherwise) { return values ? values[i] : otherwise; }

/* input i as a contiguous tensor in *holder, its values, or NULL for an absent one; *failed when there is no memory. */
static const real *norm_open(struct tensor *tensor, struct tensor **holder, bool *failed) {
  *holder = NULL;
  if (!tensor) return NULL;
  *holder = tensor_contiguous(tensor);
  if (!*holder) *failed = true;
  return *holder ? tensor_real(*holder) : NULL;
}

static int norm_check_parameter(const struct tensor *parameter, const char *name, int64_t count, const char *what) {
  if (!parameter) return STATUS_OK;
  if (parameter->shape.rank == 1 && parameter->shape.size[0] == count) return STATUS_OK;
  return status_error("%s has shape %s, it needs one value for each of %lld %s", name, shape_text(&parameter->shape),
                      (long long)count, what);
}

/* ---- batch_norm ---- */

enum { BATCH_X, BATCH_WEIGHT, BATCH_BIAS, BATCH_RUNNING_MEAN, BATCH_RUNNING_VARIANCE, BATCH_INPUTS };
enum { BATCH_TRAINING, BATCH_MOMENTUM, BATCH_EPSILON };

/* Images are cut into blocks that fit in a core's cache; every block leaves its own sums, added up in order. */
struct batch_layout {
  int64_t images, channels, area; /* (N, C, area) */
  int64_t images_per_block, blocks;
};

static struct batch_layout batch_layout_of(const struct shape *shape) {
  struct batch_layout layout = {.images = shape->size[0], .channels = shape->size[1], .area = 1};
  for (int i = 2; i < shape->rank; i++) layout.area *= shape->size[i];
  int64_t image = layout.channels * layout.area;
  layout.images_per_block = image ? 65536 / image : 1;
  if (layout.images_per_block < 1) layout.images_per_block = 1;
  layout.blocks = (layout.images + layout.images_per_block - 1) / layout.images_per_block;
  return layout;
}

static bool batch_is_large(const struct batch_layout *layout) {
  return layout->images * layout->channels * layout->area > PARALLEL_THRESHOLD;
}

static int batch_norm_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  *shape = call->input[BATCH_X]->shape;
  if (shape->rank < 2) return status_error("the input is (N, C, …), not %s", shape_text(shape));
  static const char *const names[] = {"x", "weight", "bias", "running_mean", "running_variance"};
  for (int i = BATCH_WEIGHT; i < BATCH_INPUTS; i++)
    STATUS_TRY(norm_check_parameter(call->input[i], names[i], shape->size[1], "channels"));
  for (int i = BATCH_RUNNING_MEAN; i < BATCH_INPUTS; i++) {
    if (!call->input[i] && !call->value[BATCH_TRAINING].list[0])
      return status_error("evaluation needs running_mean and running_variance");
    if (call->input[i] && call->value[BATCH_TRAINING].list[0] && !tensor_is_contiguous(call->input[i]))
      return status_error("%s is updated in place: it has to be contiguous", names[i]);
  }
  if (!call->input[BATCH_RUNNING_MEAN] != !call->input[BATCH_RUNNING_VARIANCE])
    return status_error("running_mean and running_variance go together");
  return STATUS_OK;
}

static bool batch_norm_rowwise(const struct op_call *call) { return !call->value[BATCH_TRAINING].list[0]; }

/* first[c] += Σ x, and with y second[c] += Σ x (y − shift[c]) over images start to end − 1. */
static void batch_sums(double *first, double *second, const real *x, const real *y, const real *shift,
                       const struct batch_layout *layout, int64_t start, int64_t end) {
  int64_t channels = layout->channels, area = layout->area;
  for (int64_t n = start; n < end; n++) {
    if (area == 1) {
      const real *a = x + n * channels, *b = y ? y + n * channels : NULL;
      for (int64_t c = 0; c < channels; c++) first[c] += (double)a[c];
      for (int64_t c = 0; b && c < channels; c++) second[c] += (double)(a[c] * (b[c] - shift[c]));
      continue;
    }
    for (int64_t c = 0; c < channels; c++) {
      const real *a = x + (n * channels + c) * area, *b = y ? y + (n * channels + c) * area : NULL;
      real sum = 0, product = 0;
      if (b) {
        real mean = shift[c];
#pragma omp simd reduction(+ : sum, product)
        for (int64_t i = 0; i < area; i++) sum += a[i], product += a[i] * (b[i] - mean);
        second[c] += (double)product;
      } else {
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < area; i++) sum += a[i];
      }
      first[c] += (double)sum;
    }
  }
}

/* mean[c] and square[c] = Σ (x − mean)² of images start to end − 1: two passes while they are in cache. */
static void batch_moments(double *mean, double *square, real *center, const real *x, const struct batch_layout *layout,
                          int64_t start, int64_t end) {
  int64_t channels = layout->channels, area = layout->area;
  double count = (double)((end - start) * area);
  memset(mean, 0, (size_t)channels * sizeof *mean);
  memset(square, 0, (size_t)channels * sizeof *square);
  batch_sums(mean, NULL, x, NULL, NULL, layout, start, end);
  for (int64_t c = 0; c < channels; c++) center[c] = (real)(mean[c] / count);
  for (int64_t n = start; n < end; n++) {
    if (area == 1) {
      const real *a = x + n * channels;
      for (int64_t c = 0; c < channels; c++) square[c] += (double)((a[c] - center[c]) * (a[c] - center[c]));
      continue;
    }
    for (int64_t c = 0; c < channels; c++) {
      const real *a = x + (n * channels + c) * area;
      real shift = center[c], sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < area; i++) sum += (a[i] - shift) * (a[i] - shift);
      square[c] += (double)sum;
    }
  }
  for (int64_t c = 0; c < channels; c++) {
    double rounding = mean[c] / count - (double)center[c]; /* the mean was rounded to center */
    mean[c] /= count;
    square[c] -= count * rounding * rounding;
  }
}

/* mean and variance (over count elements a channel) of the batch, blocks joined by Chan's formula. */
static int batch_statistics(double *mean, double *variance, const real *x, const struct batch_layout *layout) {
  int64_t channels = layout->channels, blocks = layout->blocks;
  size_t row = (size_t)channels * (2 * sizeof(double) + sizeof(real));
  char *scratch = memory_acquire((size_t)blocks * row);
  if (!scratch) return STATUS_ERROR;
  double *block_mean = (double *)scratch, *block_square = block_mean + blocks * channels;
  real *center = (real *)(block_square + blocks * channels);
#pragma omp parallel for if (batch_is_large(layout))
  for (int64_t b = 0; b < blocks; b++) {
    int64_t start = b * layout->images_per_block,
            end = parallel_minimum(start + layout->images_per_block, layout->images);
    batch_moments(block_mean + b * channels, block_square + b * channels, center + b * channels, x, layout, start, end);
  }
  for (int64_t c = 0; c < channels; c++) {
    double total = 0, average = 0, square = 0;
    for (int64_t b = 0; b < blocks; b++) {
      int64_t start = b * layout->images_per_block,
              end = parallel_minimum(start + layout->images_per_block, layout->images);
      double count = (double)((end - start) * layout->area), distance = block_mean[b * channels + c] - average;
      if (count == 0) continue;
      average += distance * count / (total + count);
      square += block_square[b * channels + c] + distance * distance * total * count / (total + count);
      total += count;
    }
    mean[c] = average;
    variance[c] = total > 0 ? square / total : 0;
  }
  memory_release(scratch);
  return STATUS_OK;
}

/* y = scale[c] · x + slope[c] · other + offset[c]; other may be NULL. */
static void batch_affine(real *y, const real *x, const real *scale, const real *other, const real *slope,
                         const real *offset, const struct batch_layout *layout) {
  int64_t channels = layout->channels, area = layout->area;
#pragma omp parallel for if (batch_is_large(layout))
  for (int64_t b = 0; b < layout->blocks; b++) {
    int64_t start = b * layout->images_per_block,
            end = parallel_minimum(start + layout->images_per_block, layout->images);
    for (int64_t n = start; n < end; n++) {
      if (area == 1) {
        const real *a = x + n * channels, *o = other ? other + n * channels : NULL;
        real *to = y + n * channels;
        for (int64_t c = 0; c < channels; c++) to[c] = scale[c] * a[c] + offset[c] + (o ? slope[c] * o[c] : 0);
        continue;
      }
      for (int64_t c = 0; c < channels; c++) {
        int64_t at = (n * channels + c) * area;
        const real *a = x + at, *o = other ? other + at : NULL;
        real *to = y + at, factor = scale[c], shift = offset[c];
        if (o) {
          real inclination = slope[c];
#pragma omp simd
          for (int64_t i = 0; i < area; i++) to[i] = factor * a[i] + (inclination * o[i] + shift);
        } else {
#pragma omp simd
          for (int64_t i = 0; i < area; i++) to[i] = factor * a[i] + shift;
        }
      }
    }
  }
}

/* Running statistics, with PyTorch's unbiased variance. Nothing that is recorded reads them (the saved
   statistics stand in), so that a second forward pass before backward is no in-place error: the version
   of their storage stays. */
static void batch_update_running(const struct op_call *call, const double *mean, const double *variance, double count) {
  real *running_mean = tensor_real(call->input[BATCH_RUNNING_MEAN]);
  real *running_variance = tensor_real(call->input[BATCH_RUNNING_VARIANCE]);
  double momentum = call->value[BATCH_MOMENTUM].number, unbiased = count > 1 ? count / (count - 1) : 1;
  for (int64_t c = 0; c < call->output->shape.size[1]; c++) {
    running_mean[c] = (real)((1 - momentum) * (double)running_mean[c] + momentum * mean[c]);
    running_variance[c] = (real)((1 - momentum) * (double)running_variance[c] + momentum * unbiased * variance[c]);
  }
}

static int batch_norm_forward(struct op_call *call) {
  struct batch_layout layout = batch_layout_of(&call->output->shape);
  int64_t channels = layout.channels;
  bool training = call->value[BATCH_TRAINING].list[0] != 0, failed = false;
  struct tensor *holder[BATCH_INPUTS];
  const real *input[BATCH_INPUTS];
  for (int i = 0; i < BATCH_INPUTS; i++) input[i] = norm_open(call->input[i], &holder[i], &failed);
  /* (1, C), so that they are never taken for rows of a batch */
  struct shape shape = shape_of(2, (int64_t)1, channels);
  call->saved[0] = tensor_new(TYPE_REAL, &shape);
  call->saved[1] = tensor_new(TYPE_REAL, &shape);
  double *mean = memory_acquire((size_t)channels * 2 * (sizeof(double) + sizeof(real)));
  failed = failed || !call->saved[0] || !call->saved[1] || !mean;
  if (!failed) {
    double *variance = mean + channels;
    real *scale = (real *)(variance + channels), *offset = scale + channels;
    if (training) {
      failed = batch_statistics(mean, variance, input[BATCH_X], &layout) != STATUS_OK;
    } else {
      for (int64_t c = 0; c < channels; c++) {
        mean[c] = (double)input[BATCH_RUNNING_MEAN][c];
        variance[c] = (double)input[BATCH_RUNNING_VARIANCE][c];
      }
    }
    if (!failed) {
      real *center = tensor_real(call->saved[0]), *inverse = tensor_real(call->saved[1]);
      for (int64_t c = 0; c < channels; c++) {
        center[c] = (real)mean[c];
        inverse[c] = (real)(1 / sqrt(variance[c] + call->value[BATCH_EPSILON].number));
        scale[c] = inverse[c] * norm_value(input[BATCH_WEIGHT], c, 1);
        offset[c] = norm_value(input[BATCH_BIAS], c, 0) - center[c] * scale[c];
      }
      double count = (double)(layout.images * layout.area);
      if (training && input[BATCH_RUNNING_MEAN] && count > 0) batch_update_running(call, mean, variance, count);
      batch_affine(tensor_real(call->output), input[BATCH_X], scale, NULL, NULL, offset, &layout);
    }
  }
  memory_release(mean);
  for (int i = 0; i < BATCH_INPUTS; i++) tensor_release(holder[i]);
  return failed ? STATUS_ERROR : STATUS_OK;
}

/* sums[c] = Σ d, products[c] = Σ d x̂: the two sums that every derivative of batch_norm needs. */
static int batch_derivative_sums(double *sums, double *products, const real *d, const real *x, const real *center,
                                 const real *inverse, const struct batch_layout *layout) {
  int64_t channels = layout->channels, blocks = layout->blocks;
  double *partial = memory_acquire((size_t)(blocks * channels) * 2 * sizeof(double));
  if (!partial) return STATUS_ERROR;
  double *partial_product = partial + blocks * channels;
  memset(partial, 0, (size_t)(blocks * channels) * 2 * sizeof(double));
#pragma omp parallel for if (batch_is_large(layout))
  for (int64_t b = 0; b < blocks; b++) {
    int64_t start = b * layout->images_per_block,
            end = parallel_minimum(start + layout->images_per_block, layout->images);
    batch_sums(partial + b * channels, partial_product + b * channels, d, x, center, layout, start, end);
  }
  for (int64_t c = 0; c < channels; c++) {
    sums[c] = products[c] = 0;
    for (int64_t b = 0; b < blocks; b++) {
      sums[c] += partial[b * channels + c];
      products[c] += partial_product[b * channels + c];
    }
    products[c] *= (double)inverse[c];
  }
  memory_release(partial);
  return STATUS_OK;
}

/* out = weight · dx̂ for the change (or gradient) d; sums and products as above, or NULL where the statistics are
   constants; extra[c] is added, and x̂ · tilt[c] (either may be NULL). scratch: 3 C reals. */
static void batch_derivative(real *out, const real *d, const real *x, const double *sums, const double *products,
                             const real *center, const real *inverse, const real *weight, const real *tilt,
                             const real *extra, const struct batch_layout *layout, real *scratch) {
  int64_t channels = layout->channels;
  real *scale = scratch, *slope = scratch + channels, *offset = slope + channels;
  double count = (double)(layout->images * layout->area);
  for (int64_t c = 0; c < channels; c++) {
    scale[c] = inverse[c] * norm_value(weight, c, 1);
    slope[c] = norm_value(tilt, c, 0) * inverse[c];
    offset[c] = 0;
    if (sums) {
      slope[c] -= scale[c] * inverse[c] * (real)(products[c] / count);
      offset[c] = -scale[c] * (real)(sums[c] / count);
    }
    offset[c] += norm_value(extra, c, 0) - slope[c] * center[c];
  }
  bool flat = !sums && !tilt; /* then x is not read */
  batch_affine(out, d, scale, flat ? NULL : x, slope, offset, layout);
}

static int batch_norm_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                          struct tensor **result) {
  const struct shape *shape = &call->input[BATCH_X]->shape;
  struct batch_layout layout = batch_layout_of(shape);
  int64_t channels = layout.channels;
  bool training = call->value[BATCH_TRAINING].list[0] != 0, failed = false;
  struct tensor *holder[3];
  const real *g = norm_open(gradient, &holder[0], &failed);
  const real *x = norm_open(call->input[BATCH_X], &holder[1], &failed);
  const real *weight = norm_open(call->input[BATCH_WEIGHT], &holder[2], &failed);
  const real *center = tensor_real(call->saved[0]), *inverse = tensor_real(call->saved[1]);
  double *sums = memory_acquire((size_t)channels * (2 * sizeof(double) + 3 * sizeof(real)));
  failed = failed || !sums;
  if (!failed) {
    double *products = sums + channels;
    real *scratch = (real *)(products + channels);
    failed = batch_derivative_sums(sums, products, g, x, center, inverse, &layout) != STATUS_OK;
    struct shape per_channel = shape_of(1, channels);
    for (int i = BATCH_WEIGHT; !failed && i <= BATCH_BIAS; i++) {
      if (!needed[i]) continue;
      result[i] = tensor_new(TYPE_REAL, &per_channel);
      failed = !result[i];
      for (int64_t c = 0; !failed && c < channels; c++)
        tensor_real(result[i])[c] = (real)(i == BATCH_BIAS ? sums[c] : products[c]);
    }
    if (!failed && needed[BATCH_X]) {
      result[BATCH_X] = tensor_new(TYPE_REAL, shape);
      failed = !result[BATCH_X];
      if (!failed)
        batch_derivative(tensor_real(result[BATCH_X]), g, x, training ? sums : NULL, products, center, inverse, weight,
                         NULL, NULL, &layout, scratch);
    }
  }
  memory_release(sums);
  for (int i = 0; i < 3; i++) tensor_release(holder[i]);
  return failed ? STATUS_ERROR : STATUS_OK;
}

static int batch_norm_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  const struct shape *shape = &call->input[BATCH_X]->shape;
  struct batch_layout layout = batch_layout_of(shape);
  int64_t channels = layout.channels;
  bool training = call->value[BATCH_TRAINING].list[0] != 0, failed = false;
  struct tensor *holder[5];
  const real *x = norm_open(call->input[BATCH_X], &holder[0], &failed);
  const real *weight = norm_open(call->input[BATCH_WEIGHT], &holder[1], &failed);
  const real *dx = norm_open(tangent[BATCH_X], &holder[2], &failed);
  const real *tilt = norm_open(tangent[BATCH_WEIGHT], &holder[3], &failed);
  const real *extra = norm_open(tangent[BATCH_BIAS], &holder[4], &failed);
  const real *center = tensor_real(call->saved[0]), *inverse = tensor_real(call->saved[1]);
  double *sums = memory_acquire((size_t)channels * (2 * sizeof(double) + 3 * sizeof(real)));
  *result = tensor_new(TYPE_REAL, shape);
  failed = failed || !sums || !*result;
  if (!failed) {
    double *products = sums + channels;
    real *scratch = (real *)(products + channels), *out = tensor_real(*result);
    if (dx && training) failed = batch_derivative_sums(sums, products, dx, x, center, inverse, &layout) != STATUS_OK;
    if (!failed && dx) {
      batch_derivative(out, dx, x, training ? sums : NULL, products, center, inverse, weight, tilt, extra, &layout,
                       scratch);
    } else if (!failed) { /* x̂ · tilt + extra */
      for (int64_t c = 0; c < channels; c++) {
        scratch[c] = norm_value(tilt, c, 0) * inverse[c];
        scratch[channels + c] = norm_value(extra, c, 0) - scratch[c] * center[c];
      }
      batch_affine(out, x, scratch, NULL, NULL, scratch + channels, &layout);
    }
  }
  memory_release(sums);
  for (int i = 0; i < 5; i++) tensor_release(holder[i]);
  if (!failed) return STATUS_OK;
  tensor_release(*result);
  *result = NULL;
  return STATUS_ERROR;
}

/* ---- layer_norm, group_norm, rms_norm: statistics over rows of consecutive elements ---- */

enum { ROW_X, ROW_WEIGHT, ROW_BIAS };

/* rows of channels × span elements; row r has channels (r mod cycle) · channels onwards, each over span elements. */
struct row_layout {
  int64_t rows, channels, span, cycle;
  bool centred;
  double epsilon;
};

enum { ROW_BLOCK = 64 }; /* rows whose parameter gradients share one partial sum */

static struct row_layout row_layout_of(const struct op_call *call) {
  const struct shape *shape = &call->input[ROW_X]->shape;
  int last = shape->rank - 1;
  bool groups = strcmp(call->op->name, "group_norm") == 0;
  struct row_layout layout = {.rows = 1, .span = 1, .cycle = 1, .centred = strcmp(call->op->name, "rms_norm") != 0};
  layout.epsilon = call->value[groups ? 1 : 0].number;
  if (groups) {
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
  if (groups < 1 || shape->size[1] % groups)
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

static void row_forward(real *y, real *center, real *inverse, const real *x, const real *weight, const real *bias,
                        const struct row_layout *layout, int64_t row) {
  int64_t width = layout->channels * layout->span, span = layout->span;
  real sum = 0, square = 0, mean = 0;
  if (layout->centred) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += x[i];
    mean = sum / (real)width;
  }
#pragma omp simd reduction(+ : square)
  for (int64_t i = 0; i < width; i++) square += (x[i] - mean) * (x[i] - mean);
  real scale = (real)(1 / sqrt((double)square / (double)width + layout->epsilon));
  *center = mean, *inverse = scale;
  int64_t first = row % layout->cycle * layout->channels;
  if (span == 1) {
    const real *w = weight ? weight + first : NULL, *b = bias ? bias + first : NULL;
    for (int64_t i = 0; i < width; i++) y[i] = (x[i] - mean) * scale * (w ? w[i] : 1) + (b ? b[i] : 0);
    return;
  }
  for (int64_t c = 0; c < layout->channels; c++) {
    real w = norm_value(weight, first + c, 1) * scale, b = norm_value(bias, first + c, 0);
    for (int64_t i = c * span; i < (c + 1) * span; i++) y[i] = (x[i] - mean) * w + b;
  }
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
  call->saved[0] = tensor_new(TYPE_REAL, &statistics);
  call->saved[1] = tensor_new(TYPE_REAL, &statistics);
  failed = failed || !call->saved[0] || !call->saved[1];
  if (!failed && width > 0) {
    real *y = tensor_real(call->output), *center = tensor_real(call->saved[0]), *inverse = tensor_real(call->saved[1]);
#pragma omp parallel for if (layout.rows * width > PARALLEL_THRESHOLD)
    for (int64_t r = 0; r < layout.rows; r++)
      row_forward(y + r * width, center + r, inverse + r, x + r * width, weight, bias, &layout, r);
  }
  for (int i = 0; i < 3; i++) tensor_release(holder[i]);
  return failed ? STATUS_ERROR : STATUS_OK;
}

/* out = r (d − mean(d) − x̂ mean(d x̂)) for one row, where d is already multiplied by the weight; out may be d. */
static void row_derivative(real *out, const real *d, const real *x, real center, real inverse,
                           const struct row_layout *layout) {
  int64_t width = layout->channels * layout->span;
  real sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
  for (int64_t i = 0; i < width; i++) sum += d[i], product += d[i] * (x[i] - center);
  real mean = layout->centred ? sum / (real)width : 0, slope = inverse * inverse * product / (real)width;
#pragma omp simd
  for (int64_t i = 0; i < width; i++) out[i] = inverse * (d[i] - mean - slope * (x[i] - center));
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
static void row_parameter_gradients(real *weight, real *bias, const real *g, const real *x, real center, real inverse,
                                    const struct row_layout *layout, int64_t row) {
  int64_t span = layout->span, channels = layout->channels, first = row % layout->cycle * channels;
  weight += first, bias += first;
  if (span == 1) {
#pragma omp simd
    for (int64_t i = 0; i < channels; i++) {
      weight[i] += g[i] * ((x[i] - center) * inverse);
      bias[i] += g[i];
    }
    return;
  }
  for (int64_t c = 0; c < channels; c++) {
    real sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (int64_t i = c * span; i < (c + 1) * span; i++) sum += g[i], product += g[i] * (x[i] - center);
    weight[c] += product * inverse;
    bias[c] += sum;
  }
}

static int row_norm_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                        struct tensor **result) {
  struct row_layout layout = row_layout_of(call);
  int64_t width = layout.channels * layout.span, parameters = layout.channels * layout.cycle;
  int64_t blocks = (layout.rows + ROW_BLOCK - 1) / ROW_BLOCK;
  bool failed = false, has_bias = call->input_count > ROW_BIAS;
  bool want_parameters = needed[ROW_WEIGHT] || (has_bias && needed[ROW_BIAS]);
  struct tensor *holder[3];
  const real *g = norm_open(gradient, &holder[0], &failed);
  const real *x = norm_open(call->input[ROW_X], &holder[1], &failed);
  const real *weight = norm_open(call->input[ROW_WEIGHT], &holder[2], &failed);
  const real *center = tensor_real(call->saved[0]), *inverse = tensor_real(call->saved[1]);
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
      for (int64_t r = b * ROW_BLOCK; r < parallel_minimum((b + 1) * ROW_BLOCK, layout.rows); r++) {
        int64_t at = r * width;
        if (dx) {
          row_scale(dx + at, g + at, weight, &layout, r);
          row_derivative(dx + at, dx + at, x + at, center[r], inverse[r], &layout);
        }
        if (sums) row_parameter_gradients(sums, sums + parameters, g + at, x + at, center[r], inverse[r], &layout, r);
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
                        const real *weight, real center, real inverse, const struct row_layout *layout, int64_t row) {
  int64_t span = layout->span, channels = layout->channels, first = row % layout->cycle * channels;
  if (dx) {
    row_derivative(out, dx, x, center, inverse, layout);
    row_scale(out, out, weight, layout, row);
  } else {
    for (int64_t i = 0; i < channels * span; i++) out[i] = 0;
  }
  if (!tilt && !extra) return;
  for (int64_t c = 0; c < channels; c++) {
    real t = norm_value(tilt, first + c, 0) * inverse, e = norm_value(extra, first + c, 0);
    for (int64_t i = c * span; i < (c + 1) * span; i++) out[i] += (x[i] - center) * t + e;
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
  const real *center = tensor_real(call->saved[0]), *inverse = tensor_real(call->saved[1]);
  *result = failed ? NULL : tensor_new(TYPE_REAL, &call->input[ROW_X]->shape);
  if (*result) {
    real *out = tensor_real(*result);
#pragma omp parallel for if (layout.rows * width > PARALLEL_THRESHOLD)
    for (int64_t r = 0; r < layout.rows; r++)
      row_tangent(out + r * width, dx ? dx + r * width : NULL, tilt, extra, x + r * width, weight, center[r],
                  inverse[r], &layout, r);
  }
  for (int i = 0; i < 5; i++) tensor_release(holder[i]);
  return *result ? STATUS_OK : STATUS_ERROR;
}

const struct op norm_ops[] = {
    {.name = "batch_norm",
     .parameter = {{.name = "x", .kind = OP_TENSOR},
                   {.name = "weight", .kind = OP_OPTIONAL_TENSOR},
                   {.name = "bias", .kind = OP_OPTIONAL_TENSOR},
                   {.name = "running_mean", .kind = OP_OPTIONAL_TENSOR},
                   {.name = "running_variance", .kind = OP_OPTIONAL_TENSOR},
                   {.name = "training", .kind = OP_FLAG},
                   {.name = "momentum", .kind = OP_NUMBER, .has_default = true, .default_value = 0.1},
                   {.name = "epsilon", .kind = OP_NUMBER, .has_default = true, .default_value = 1e-5}},
     .flags = OP_SAVES_INPUTS,
     .batch_inputs = 1,
     .rowwise = batch_norm_rowwise,
     .shape = batch_norm_shape,
     .forward = batch_norm_forward,
     .vjp = batch_norm_vjp,
     .jvp = batch_norm_jvp,
     .doc = "x (N, C, …) normalised per channel: in training by the batch's mean and variance, which also move the "
            "running statistics (momentum; unbiased variance), else by the running ones; then times weight plus bias "
            "(Ioffe and Szegedy 2015)",
     .samples = (const char *const[]){"4x3x2x3 3 3 3 positive:3 training=1", "5x4 4 4 - - training=1",
                                      "4x3x5 - - - - training=1", "3x2x2x2 2 2 2 positive:2 training=0",
                                      "3x4 4 - 4 positive:4 training=0 epsilon=0.1",
                                      "2x1x3 1 1 1 positive:1 training=1", "1x2x4 2 2 - - training=1",
                                      "0x2x3 2 2 2 positive:2 training=1", "0x2 2 2 2 positive:2 training=0", NULL}},
    {.name = "layer_norm",
     .parameter = {{.name = "x", .kind = OP_TENSOR},
                   {.name = "weight", .kind = OP_OPTIONAL_TENSOR},
                   {.name = "bias", .kind = OP_OPTIONAL_TENSOR},
                   {.name = "epsilon", .kind = OP_NUMBER, .has_default = true, .default_value = 1e-5}},
     .flags = OP_SAVES_INPUTS,
     .batch_inputs = 1,
     .rowwise = row_norm_rowwise,
     .shape = row_norm_shape,
     .forward = row_norm_forward,
     .vjp = row_norm_vjp,
     .jvp = row_norm_jvp,
     .doc = "x (…, d) with mean 0 and variance 1 over the last dimension, times weight (d) plus bias (d) (Ba et al. "
            "2016)",
     .samples = (const char *const[]){"3x5 5 5", "2x3x4 4 -", "2x4 - -", "6 6 6", "1x4 4 4", "2x1 1 1", "0x4 4 4",
                                      "70x3 3 3", NULL}},
    {.name = "group_norm",
     .parameter = {{.name = "x", .kind = OP_TENSOR},
                   {.name = "weight", .kind = OP_OPTIONAL_TENSOR},
                   {.name = "bias", .kind = OP_OPTIONAL_TENSOR},
                   {.name = "groups", .kind = OP_INTEGER},
                   {.name = "epsilon", .kind = OP_NUMBER, .has_default = true, .default_value = 1e-5}},
     .flags = OP_SAVES_INPUTS,
     .batch_inputs = 1,
     .rowwise = row_norm_rowwise,
     .shape = group_norm_shape,
     .forward = row_norm_forward,
     .vjp = row_norm_vjp,
     .jvp = row_norm_jvp,
     .doc = "x (N, C, …) with mean 0 and variance 1 over each image's groups of channels, times weight (C) plus bias "
            "(C) (Wu and He 2018)",
     .samples = (const char *const[]){"2x4x2x3 4 4 groups=2", "3x6 6 - groups=3", "2x4x3 - - groups=1",
                                      "2x3x2 3 3 groups=3", "0x4x2x2 4 4 groups=2", "1x2x2x1 2 2 groups=1", NULL}},
    {.name = "rms_norm",
     .parameter = {{.name = "x", .kind = OP_TENSOR},
                   {.name = "weight", .kind = OP_OPTIONAL_TENSOR},
                   {.name = "epsilon", .kind = OP_NUMBER, .has_default = true, .default_value = 1e-5}},
     .flags = OP_SAVES_INPUTS,
     .batch_inputs = 1,
     .rowwise = row_norm_rowwise,
     .shape = row_norm_shape,
     .forward = row_norm_forward,
     .vjp = row_norm_vjp,
     .jvp = row_norm_jvp,
     .doc = "x (…, d) over the root of its mean square along the last dimension, times weight (d) (Zhang and Sennrich "
            "2019)",
     .samples = (const char *const[]){"3x5 5", "2x3x4 4", "2x4 -", "6 6", "2x1 1", "0x4 4", NULL}},
    {.name = NULL}};
