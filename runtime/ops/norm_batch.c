/* batch_norm over (N, C, …): statistics of each channel over the images and their places. */
#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "fold.h"
#include "norm.h"

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
  layout.blocks = ceil_div(layout.images, layout.images_per_block);
  return layout;
}

static bool batch_is_large(const struct batch_layout *layout) {
  return layout->images * layout->channels * layout->area > PARALLEL_THRESHOLD;
}

int batch_norm_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
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

bool batch_norm_rowwise(const struct op_call *call) { return !call->value[BATCH_TRAINING].list[0]; }

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

/* total += what fold_lanes_at adds, of one channel of one image. What is left at the end goes to the first lane. */
static inline __attribute__((always_inline)) void add_places(enum fold_kind kind, fold_lanes *total, const real *x,
                                                             int64_t count, real shift) {
  fold_lanes sum[4] = {*total, {0}, {0}, {0}};
  int64_t i = 0;
  for (; i + 4 * FOLD_LANES <= count; i += 4 * FOLD_LANES)
#pragma GCC unroll 4
    for (int l = 0; l < 4; l++) sum[l] += fold_lanes_at(kind, x + i + l * FOLD_LANES, shift);
  for (; i + FOLD_LANES <= count; i += FOLD_LANES) sum[0] += fold_lanes_at(kind, x + i, shift);
  for (; i < count; i++) sum[0][0] += (x[i] - shift) * (kind == FOLD_SQUARES ? x[i] - shift : 1);
  *total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* result[c] = Σ (x − shift[c]), or (x − shift[c])², of images start to end − 1. Lanes are kept apart until the end, for
   a channel's places are few. */
static void batch_totals(enum fold_kind kind, double *result, fold_lanes *total, const real *x, const real *shift,
                         const struct batch_layout *layout, int64_t start, int64_t end) {
  int64_t channels = layout->channels, area = layout->area;
  memset(result, 0, (size_t)channels * sizeof *result);
  if (area == 1) {
    for (int64_t n = start; n < end; n++) {
      const real *a = x + n * channels;
      for (int64_t c = 0; kind == FOLD_DISTANCES && c < channels; c++) result[c] += (double)(a[c] - shift[c]);
      for (int64_t c = 0; kind == FOLD_SQUARES && c < channels; c++)
        result[c] += (double)((a[c] - shift[c]) * (a[c] - shift[c]));
    }
    return;
  }
  memset(total, 0, (size_t)channels * sizeof *total);
  for (int64_t n = start; n < end; n++)
    for (int64_t c = 0; c < channels; c++) {
      const real *a = x + (n * channels + c) * area;
      if (kind == FOLD_SQUARES)
        add_places(FOLD_SQUARES, &total[c], a, area, shift[c]);
      else
        add_places(FOLD_DISTANCES, &total[c], a, area, shift[c]);
    }
  for (int64_t c = 0; c < channels; c++)
    for (int l = 0; l < FOLD_LANES; l++) result[c] += (double)total[c][l];
}

/* mean[c] and square[c] = Σ (x − mean)² of images start to end − 1: two passes while they are in cache, the first over
   distances to one of the elements, which far from zero lose nothing. */
static void batch_moments(double *mean, double *square, real *center, fold_lanes *total, const real *x,
                          const struct batch_layout *layout, int64_t start, int64_t end) {
  int64_t channels = layout->channels;
  double count = (double)((end - start) * layout->area);
  for (int64_t c = 0; c < channels; c++) center[c] = count > 0 ? x[(start * channels + c) * layout->area] : 0;
  batch_totals(FOLD_DISTANCES, mean, total, x, center, layout, start, end);
  for (int64_t c = 0; c < channels; c++) {
    mean[c] = (double)center[c] + mean[c] / count;
    center[c] = (real)mean[c];
  }
  batch_totals(FOLD_SQUARES, square, total, x, center, layout, start, end);
  for (int64_t c = 0; c < channels; c++) {
    double rounding = mean[c] - (double)center[c]; /* the mean was rounded to center */
    square[c] -= count * rounding * rounding;
  }
}

/* mean and variance (over count elements a channel) of the batch, blocks joined by Chan's formula. */
static int batch_statistics(double *mean, double *variance, const real *x, const struct batch_layout *layout) {
  int64_t channels = layout->channels, blocks = layout->blocks;
  size_t row = (size_t)channels * (sizeof(fold_lanes) + 2 * sizeof(double) + sizeof(real));
  char *scratch = memory_acquire((size_t)blocks * row);
  if (!scratch) return STATUS_ERROR;
  fold_lanes *total = (fold_lanes *)scratch;
  double *block_mean = (double *)(total + blocks * channels), *block_square = block_mean + blocks * channels;
  real *center = (real *)(block_square + blocks * channels);
#pragma omp parallel for if (batch_is_large(layout))
  for (int64_t b = 0; b < blocks; b++) {
    int64_t start = b * layout->images_per_block, end = min(start + layout->images_per_block, layout->images);
    batch_moments(block_mean + b * channels, block_square + b * channels, center + b * channels, total + b * channels,
                  x, layout, start, end);
  }
  for (int64_t c = 0; c < channels; c++) {
    double total = 0, average = 0, square = 0;
    for (int64_t b = 0; b < blocks; b++) {
      int64_t start = b * layout->images_per_block, end = min(start + layout->images_per_block, layout->images);
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

/* What makes every derivative of a channel affine in d and x: y = scale · d + slope · (x − center) + offset. */
struct batch_coefficients {
  real *scale, *slope, *offset;
  const real *center;
};

/* y over the places of one channel of one image; d or x is NULL where it has no part. */
static void affine_places(real *y, const real *d, real scale, const real *x, real slope, real center, real offset,
                          int64_t count) {
  if (d && x) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] = scale * d[i] + (slope * (x[i] - center) + offset);
  } else if (x) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] = slope * (x[i] - center) + offset;
  } else {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] = scale * d[i] + offset;
  }
}

static void batch_affine(real *y, const real *d, const real *x, const struct batch_coefficients *k,
                         const struct batch_layout *layout) {
  int64_t channels = layout->channels, area = layout->area;
#pragma omp parallel for if (batch_is_large(layout))
  for (int64_t b = 0; b < layout->blocks; b++) {
    int64_t start = b * layout->images_per_block, end = min(start + layout->images_per_block, layout->images);
    for (int64_t n = start; n < end; n++) {
      if (area == 1) {
        for (int64_t c = 0, at = n * channels; c < channels; c++, at++)
          y[at] = (d ? k->scale[c] * d[at] : 0) + ((x ? k->slope[c] * (x[at] - k->center[c]) : 0) + k->offset[c]);
        continue;
      }
      for (int64_t c = 0; c < channels; c++) {
        int64_t at = (n * channels + c) * area;
        affine_places(y + at, d ? d + at : NULL, d ? k->scale[c] : 0, x ? x + at : NULL, x ? k->slope[c] : 0,
                      k->center[c], k->offset[c], area);
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

int batch_norm_forward(struct op_call *call) {
  struct batch_layout layout = batch_layout_of(&call->output->shape);
  int64_t channels = layout.channels;
  bool training = call->value[BATCH_TRAINING].list[0] != 0, failed = false;
  struct tensor *holder[BATCH_INPUTS];
  const real *input[BATCH_INPUTS];
  for (int i = 0; i < BATCH_INPUTS; i++) input[i] = norm_open(call->input[i], &holder[i], &failed);
  /* (1, C), so that they are never taken for rows of a batch */
  struct shape shape = shape_of(2, (int64_t)1, channels);
  for (int i = 0; i < 3; i++) failed = !(call->saved[i] = tensor_new(TYPE_REAL, &shape)) || failed;
  double *mean = memory_acquire((size_t)channels * 2 * (sizeof(double) + sizeof(real)));
  failed = failed || !mean;
  if (!failed) {
    double *variance = mean + channels;
    real *slope = (real *)(variance + channels), *offset = slope + channels;
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
      real *rest = tensor_real(call->saved[2]);
      for (int64_t c = 0; c < channels; c++) {
        real weight = norm_value(input[BATCH_WEIGHT], c, 1);
        double factor = 1 / sqrt(variance[c] + call->value[BATCH_EPSILON].number);
        center[c] = (real)mean[c], inverse[c] = (real)factor;
        rest[c] = (real)((mean[c] - (double)center[c]) * factor);
        slope[c] = inverse[c] * weight;
        offset[c] = norm_value(input[BATCH_BIAS], c, 0) - rest[c] * weight;
      }
      double count = (double)(layout.images * layout.area);
      if (training && input[BATCH_RUNNING_MEAN] && count > 0) batch_update_running(call, mean, variance, count);
      batch_affine(tensor_real(call->output), NULL, input[BATCH_X],
                   &(struct batch_coefficients){NULL, slope, offset, center}, &layout);
    }
  }
  memory_release(mean);
  for (int i = 0; i < BATCH_INPUTS; i++) tensor_release(holder[i]);
  return failed ? STATUS_ERROR : STATUS_OK;
}

/* sums[c] = Σ d, products[c] = Σ d x̂: the two sums that every derivative of batch_norm needs. */
static int batch_derivative_sums(double *sums, double *products, const real *d, const real *x,
                                 const struct op_call *call, const struct batch_layout *layout) {
  const real *center = tensor_real(call->saved[0]), *inverse = tensor_real(call->saved[1]);
  const real *rest = tensor_real(call->saved[2]);
  int64_t channels = layout->channels, blocks = layout->blocks;
  double *partial = memory_acquire((size_t)(blocks * channels) * 2 * sizeof(double));
  if (!partial) return STATUS_ERROR;
  double *partial_product = partial + blocks * channels;
  memset(partial, 0, (size_t)(blocks * channels) * 2 * sizeof(double));
#pragma omp parallel for if (batch_is_large(layout))
  for (int64_t b = 0; b < blocks; b++) {
    int64_t start = b * layout->images_per_block, end = min(start + layout->images_per_block, layout->images);
    batch_sums(partial + b * channels, partial_product + b * channels, d, x, center, layout, start, end);
  }
  for (int64_t c = 0; c < channels; c++) {
    sums[c] = products[c] = 0;
    for (int64_t b = 0; b < blocks; b++) {
      sums[c] += partial[b * channels + c];
      products[c] += partial_product[b * channels + c];
    }
    products[c] = products[c] * (double)inverse[c] - sums[c] * (double)rest[c];
  }
  memory_release(partial);
  return STATUS_OK;
}

/* out = weight · dx̂ for the change (or gradient) d; sums and products as above, or NULL where the statistics are
   constants; extra[c] is added, and x̂ · tilt[c] (either may be NULL). d NULL: no change. scratch: 3 C reals. */
static void batch_derivative(real *out, const real *d, const real *x, const double *sums, const double *products,
                             const struct op_call *call, const real *weight, const real *tilt, const real *extra,
                             const struct batch_layout *layout, real *scratch) {
  const real *inverse = tensor_real(call->saved[1]), *rest = tensor_real(call->saved[2]);
  int64_t channels = layout->channels;
  struct batch_coefficients k = {scratch, scratch + channels, scratch + 2 * channels, tensor_real(call->saved[0])};
  double count = (double)(layout->images * layout->area);
  for (int64_t c = 0; c < channels; c++) {
    real along = norm_value(tilt, c, 0); /* of x̂ */
    k.scale[c] = d ? inverse[c] * norm_value(weight, c, 1) : 0;
    k.offset[c] = 0;
    if (sums) {
      along -= k.scale[c] * (real)(products[c] / count);
      k.offset[c] = -k.scale[c] * (real)(sums[c] / count);
    }
    k.slope[c] = along * inverse[c];
    k.offset[c] += norm_value(extra, c, 0) - along * rest[c];
  }
  bool flat = !sums && !tilt; /* then x is not read */
  batch_affine(out, d, flat && d ? NULL : x, &k, layout);
}

int batch_norm_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  const struct shape *shape = &call->input[BATCH_X]->shape;
  struct batch_layout layout = batch_layout_of(shape);
  int64_t channels = layout.channels;
  bool training = call->value[BATCH_TRAINING].list[0] != 0, failed = false;
  struct tensor *holder[3];
  const real *g = norm_open(gradient, &holder[0], &failed);
  const real *x = norm_open(call->input[BATCH_X], &holder[1], &failed);
  const real *weight = norm_open(call->input[BATCH_WEIGHT], &holder[2], &failed);
  double *sums = memory_acquire((size_t)channels * (2 * sizeof(double) + 3 * sizeof(real)));
  failed = failed || !sums;
  if (!failed) {
    double *products = sums + channels;
    real *scratch = (real *)(products + channels);
    failed = batch_derivative_sums(sums, products, g, x, call, &layout) != STATUS_OK;
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
        batch_derivative(tensor_real(result[BATCH_X]), g, x, training ? sums : NULL, products, call, weight, NULL, NULL,
                         &layout, scratch);
    }
  }
  memory_release(sums);
  for (int i = 0; i < 3; i++) tensor_release(holder[i]);
  return failed ? STATUS_ERROR : STATUS_OK;
}

int batch_norm_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
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
  double *sums = memory_acquire((size_t)channels * (2 * sizeof(double) + 3 * sizeof(real)));
  *result = tensor_new(TYPE_REAL, shape);
  failed = failed || !sums || !*result;
  if (!failed) {
    double *products = sums + channels;
    real *scratch = (real *)(products + channels), *out = tensor_real(*result);
    if (dx && training) failed = batch_derivative_sums(sums, products, dx, x, call, &layout) != STATUS_OK;
    if (!failed)
      batch_derivative(out, dx, x, dx && training ? sums : NULL, products, call, weight, tilt, extra, &layout, scratch);
  }
  memory_release(sums);
  for (int i = 0; i < 5; i++) tensor_release(holder[i]);
  if (!failed) return STATUS_OK;
  tensor_release(*result);
  *result = NULL;
  return STATUS_ERROR;
}
