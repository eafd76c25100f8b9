/* Pooling over the last dimensions of images (N, C, H, W) and sequences (N, C, L), which are images of height 1: the
   largest value, or the mean, of each window. Maxima save where they were found, so that vjp and jvp are a scatter and
   a gather; means are linear, their windows the product of a list over rows and a list over columns. */
#include "../base/memory.h"
#include "../base/parallel.h"
#include "op.h"

/* ---- geometry ---- */

enum { POOL_KERNEL, POOL_STRIDE, POOL_PADDING, POOL_COUNT_PADDING }; /* places in call->value */

/* What a row pools over: 1 or 2 dimensions. */
static int pool_dimensions(const struct op_call *call) { return *(const int *)call->op->family; }

static int pool_check_images(const struct op_call *call) {
  const struct shape *shape = &call->input[0]->shape;
  bool images = pool_dimensions(call) == 2;
  if (shape->rank == (images ? 4 : 3)) return STATUS_OK;
  return status_error(
      images ? "images have four dimensions (N, C, H, W), not %s" : "sequences have three dimensions (N, C, L), not %s",
      shape_text(shape));
}

/* A shape as that of images. */
static struct shape pool_images(const struct shape *shape) {
  if (shape->rank == 4) return *shape;
  return shape_of(4, shape->size[0], shape->size[1], (int64_t)1, shape->size[2]);
}

struct pool_axis {
  int64_t kernel, stride, padding;
};

/* axis: 0 vertical, 1 horizontal. */
static struct pool_axis pool_axis_of(const struct op_call *call, int axis) {
  int at = axis + pool_dimensions(call) - 2;
  if (at < 0) return (struct pool_axis){1, 1, 0};
  int64_t kernel = call->value[POOL_KERNEL].list[at], stride = call->value[POOL_STRIDE].list[at];
  return (struct pool_axis){kernel, stride ? stride : kernel, call->value[POOL_PADDING].list[at]};
}

/* Windows of 2×2 side by side, the usual case. */
static bool pool_in_pairs(const struct pool_axis *y, const struct pool_axis *x) {
  return y->kernel == 2 && x->kernel == 2 && y->stride == 2 && x->stride == 2 && y->padding == 0 && x->padding == 0;
}

static int pool_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  STATUS_TRY(pool_check_images(call));
  *shape = call->input[0]->shape;
  int dimensions = pool_dimensions(call);
  for (int i = 0; i < dimensions; i++) {
    struct pool_axis a = pool_axis_of(call, i + 2 - dimensions);
    int64_t size = shape->size[2 + i];
    if (a.kernel < 1) return status_error("kernel is %lld, it is at least 1", (long long)a.kernel);
    if (a.stride < 1)
      return status_error("stride is %lld, it is at least 1 (or 0: as the kernel)", (long long)a.stride);
    if (a.padding < 0 || a.padding > a.kernel / 2)
      return status_error("padding is %lld, it lies between 0 and half the kernel (%lld)", (long long)a.padding,
                          (long long)(a.kernel / 2));
    if (size < 1 || a.kernel - 2 * a.padding > size)
      return status_error("a window of %lld does not fit in images %s with padding %lld", (long long)a.kernel,
                          shape_text(&call->input[0]->shape), (long long)a.padding);
    shape->size[2 + i] = (size - (a.kernel - 2 * a.padding)) / a.stride + 1;
  }
  return STATUS_OK;
}

/* ---- maxima ---- */

/* Windows of 2×2 side by side: an output row of width columns from input rows top and top + width_in. */
static void pool_maximum_pairs(real *restrict out, int32_t *restrict index, const real *restrict top, int32_t first,
                               int64_t width_in, int64_t width) {
  const real *below = top + width_in;
  int32_t step = (int32_t)width_in;
#pragma omp simd
  for (int64_t j = 0; j < width; j++) {
    int32_t at = first + 2 * (int32_t)j, place = at;
    real best = top[2 * j], value = top[2 * j + 1];
    bool take = value > best || value != value;
    best = take ? value : best, place = take ? at + 1 : place;
    value = below[2 * j], take = value > best || value != value;
    best = take ? value : best, place = take ? at + step : place;
    value = below[2 * j + 1], take = value > best || value != value;
    best = take ? value : best, place = take ? at + step + 1 : place;
    out[j] = best, index[j] = place;
  }
}

/* The same where nobody asks for the places. */
static void pool_largest_of_pairs(real *restrict out, const real *restrict top, int64_t width_in, int64_t width) {
  const real *below = top + width_in;
#pragma omp simd
  for (int64_t j = 0; j < width; j++) {
    real best = top[2 * j], value = top[2 * j + 1];
    best = value > best || value != value ? value : best;
    value = below[2 * j], best = value > best || value != value ? value : best;
    value = below[2 * j + 1], best = value > best || value != value ? value : best;
    out[j] = best;
  }
}

/* A plane of them; index may be NULL. Not inlined: beside the general windows the compiler runs out of registers. */
__attribute__((noinline)) static void pool_pairs(real *out, int32_t *index, const real *plane, int64_t rows,
                                                 int64_t columns, int64_t width) {
  for (int64_t i = 0; i < rows; i++) {
    const real *top = plane + 2 * i * width;
    if (index)
      pool_maximum_pairs(out + i * columns, index + i * columns, top, (int32_t)(2 * i * width), width, columns);
    else
      pool_largest_of_pairs(out + i * columns, top, width, columns);
  }
}

/* best, index (columns) = the larger of them and of one input of each window, that of window 0 at `offset` from the
   row's first, which is at `start` in the plane; windows beyond the row stay. The first of equals stays; a NaN wins, as
   it must show. */
static inline void pool_take(real *restrict best, int32_t *restrict index, const real *restrict plane, int64_t start,
                             int64_t offset, int64_t width, int64_t columns, const int64_t stride) {
  int64_t first = offset < 0 ? min(ceil_div(-offset, stride), columns) : 0;
  int64_t end = offset < width ? min(ceil_div(width - offset, stride), columns) : 0;
  const real *from = plane + start + offset;
#pragma omp simd
  for (int64_t j = first; j < end; j++) {
    int32_t place = (int32_t)(start + offset + j * stride);
    real value = stride == 1 ? from[j] : plane[place];
    bool take = value > best[j] || value != value;
    best[j] = take ? value : best[j], index[j] = take ? place : index[j];
  }
}

/* A row of windows over rows top to bottom − 1 of a plane, input by input of the window, its usual strides as
   constants. */
static void pool_maximum_row(real *best, int32_t *index, const real *plane, int64_t top, int64_t bottom, int64_t width,
                             const struct pool_axis *x, int64_t columns) {
  for (int64_t j = 0; j < columns; j++) {
    index[j] = (int32_t)(top * width + max(j * x->stride - x->padding, 0));
    best[j] = plane[index[j]];
  }
  for (int64_t y = top; y < bottom; y++)
    for (int64_t k = 0; k < x->kernel; k++) {
      if (x->stride == 1)
        pool_take(best, index, plane, y * width, k - x->padding, width, columns, 1);
      else if (x->stride == 2)
        pool_take(best, index, plane, y * width, k - x->padding, width, columns, 2);
      else
        pool_take(best, index, plane, y * width, k - x->padding, width, columns, x->stride);
    }
}

static int max_pool_forward(struct op_call *call) {
  const struct shape in = pool_images(&call->input[0]->shape), out = pool_images(&call->output->shape);
  int64_t height = in.size[2], width = in.size[3], rows = out.size[2], columns = out.size[3];
  int64_t planes = in.size[0] * in.size[1];
  if (height * width > INT32_MAX) return status_error("planes of %s are too large", shape_text(&call->input[0]->shape));
  const struct pool_axis vertical = pool_axis_of(call, 0), horizontal = pool_axis_of(call, 1);
  bool pairs = pool_in_pairs(&vertical, &horizontal);

  if (call->differentiable && !(call->saved[0] = tensor_new(TYPE_INT32, &call->output->shape))) return STATUS_ERROR;
  int32_t *place = call->saved[0] ? tensor_int32(call->saved[0]) : NULL;
  int32_t *unasked = place || pairs ? NULL : memory_acquire((size_t)(parallel_threads() * columns) * sizeof *unasked);
  struct tensor *x = place || pairs || unasked ? tensor_contiguous(call->input[0]) : NULL;
  if (!x) {
    memory_release(unasked);
    return STATUS_ERROR;
  }
  const real *from = tensor_real(x);
  real *to = tensor_real(call->output);
#pragma omp parallel for if (planes * height * width > PARALLEL_THRESHOLD)
  for (int64_t plane = 0; plane < planes; plane++) {
    const real *source = from + plane * height * width;
    real *target = to + plane * rows * columns;
    int32_t *index = place ? place + plane * rows * columns : NULL;
    if (pairs)
      pool_pairs(target, index, source, rows, columns, width);
    else
      for (int64_t i = 0; i < rows; i++) {
        int64_t top = i * vertical.stride - vertical.padding, bottom = min(top + vertical.kernel, height);
        pool_maximum_row(target + i * columns, index ? index + i * columns : unasked + omp_get_thread_num() * columns,
                         source, max(top, 0), bottom, width, &horizontal, columns);
      }
  }
  tensor_release(x);
  memory_release(unasked);
  return STATUS_OK;
}

/* Gradient of one pair of input rows from the row of 2×2 windows over it; every input is in one window. */
static void pool_scatter_pairs(real *restrict top, const real *restrict gradient, const int32_t *restrict index,
                               int32_t first, int64_t width_in, int64_t width) {
  real *restrict below = top + width_in;
  int32_t step = (int32_t)width_in;
#pragma omp simd
  for (int64_t j = 0; j < width; j++) {
    int32_t place = index[j] - first - 2 * (int32_t)j;
    top[2 * j] = place == 0 ? gradient[j] : 0;
    top[2 * j + 1] = place == 1 ? gradient[j] : 0;
    below[2 * j] = place == step ? gradient[j] : 0;
    below[2 * j + 1] = place == step + 1 ? gradient[j] : 0;
  }
}

static int max_pool_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                        struct tensor **result) {
  if (!needed[0]) return STATUS_OK;
  const struct shape in = pool_images(&call->input[0]->shape), out = pool_images(&gradient->shape);
  int64_t area = in.size[2] * in.size[3], count = out.size[2] * out.size[3], planes = in.size[0] * in.size[1];
  const struct pool_axis y = pool_axis_of(call, 0), x = pool_axis_of(call, 1);
  bool pairs = pool_in_pairs(&y, &x) && in.size[2] % 2 == 0 && in.size[3] % 2 == 0 && in.size[3] > 2;
  struct tensor *g = tensor_contiguous(gradient), *index = tensor_contiguous(call->saved[0]);
  struct tensor *dx = g && index ? tensor_new(TYPE_REAL, &call->input[0]->shape) : NULL;
  if (dx) {
    const real *from = tensor_real(g);
    const int32_t *place = tensor_int32(index);
    real *to = tensor_real(dx);
    int64_t width = in.size[3], columns = out.size[3];
#pragma omp parallel for if (planes * area > PARALLEL_THRESHOLD)
    for (int64_t plane = 0; plane < planes; plane++) {
      real *target = to + plane * area;
      if (pairs) {
        for (int64_t i = 0; i < out.size[2]; i++)
          pool_scatter_pairs(target + 2 * i * width, from + plane * count + i * columns,
                             place + plane * count + i * columns, (int32_t)(2 * i * width), width, columns);
        continue;
      }
      for (int64_t i = 0; i < area; i++) target[i] = 0;
      for (int64_t i = plane * count; i < (plane + 1) * count; i++) target[place[i]] += from[i];
    }
  }
  tensor_release(g);
  tensor_release(index);
  result[0] = dx;
  return dx ? STATUS_OK : STATUS_ERROR;
}

static int max_pool_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  const struct shape in = pool_images(&tangent[0]->shape), out = pool_images(&call->saved[0]->shape);
  int64_t area = in.size[2] * in.size[3], count = out.size[2] * out.size[3], channels = in.size[1];
  int64_t planes = in.size[0] * channels;
  struct tensor *dx = tensor_contiguous(tangent[0]), *index = tensor_contiguous(call->saved[0]);
  *result = dx && index ? tensor_new(TYPE_REAL, &call->saved[0]->shape) : NULL;
  if (*result) {
    const real *from = tensor_real(dx);
    const int32_t *place = tensor_int32(index);
    real *to = tensor_real(*result);
#pragma omp parallel for if (planes * count > PARALLEL_THRESHOLD)
    for (int64_t plane = 0; plane < planes; plane++) {
      int64_t image = plane / channels, saved = (call->row ? call->row[image] : image) * channels + plane % channels;
      for (int64_t i = 0; i < count; i++) to[plane * count + i] = from[plane * area + place[saved * count + i]];
    }
  }
  tensor_release(dx);
  tensor_release(index);
  return *result ? STATUS_OK : STATUS_ERROR;
}

/* ---- means ---- */

/* One output coordinate: the mean over inputs first to last - 1, divided by divisor. */
struct pool_window {
  int64_t first, last;
  real divisor;
};

static void pool_windows(struct pool_window *window, int64_t count, int64_t size, struct pool_axis axis,
                         bool count_padding) {
  for (int64_t i = 0; i < count; i++) {
    int64_t start = i * axis.stride - axis.padding, end = min(start + axis.kernel, size + axis.padding);
    window[i].first = max(start, 0);
    window[i].last = min(end, size);
    window[i].divisor = (real)(count_padding ? end - start : window[i].last - window[i].first);
  }
}

/* Windows that share the input out as evenly as may be; they overlap where count does not divide size. */
static void pool_adaptive_windows(struct pool_window *window, int64_t count, int64_t size) {
  for (int64_t i = 0; i < count; i++) {
    window[i].first = i * size / count;
    window[i].last = ceil_div((i + 1) * size, count);
    window[i].divisor = (real)(window[i].last - window[i].first);
  }
}

/* The windows of a call, rows then columns, in one block that the caller deletes; NULL with message. */
static struct pool_window *pool_mean_windows(const struct op_call *call, const struct shape *out, bool adaptive) {
  const struct shape in = pool_images(&call->input[0]->shape);
  struct pool_window *window = memory_new((size_t)(out->size[2] + out->size[3]), sizeof *window);
  if (!window) return NULL;
  for (int axis = 0; axis < 2; axis++) {
    struct pool_window *part = window + (axis ? out->size[2] : 0);
    int64_t count = out->size[2 + axis], size = in.size[2 + axis];
    if (adaptive)
      pool_adaptive_windows(part, count, size);
    else
      pool_windows(part, count, size, pool_axis_of(call, axis), call->value[POOL_COUNT_PADDING].list[0] != 0);
  }
  return window;
}

/* Scratch of width reals for each thread, which the caller releases. */
static real *pool_lines(int64_t width) { return memory_acquire((size_t)(parallel_threads() * width) * sizeof(real)); }

/* line (width) = the sum of the lines under a window. */
static void pool_sum_lines(real *restrict line, const real *plane, const struct pool_window *row, int64_t width) {
  for (int64_t k = 0; k < width; k++) line[k] = 0;
  for (int64_t y = row->first; y < row->last; y++) {
    const real *restrict from = plane + y * width;
#pragma omp simd
    for (int64_t k = 0; k < width; k++) line[k] += from[k];
  }
}

static bool pool_columns_are_pairs(const struct pool_window *column, int64_t columns) {
  bool pairs = true;
  for (int64_t j = 0; j < columns; j++) pairs = pairs && column[j].first == 2 * j && column[j].last == 2 * j + 2;
  return pairs;
}

/* The means of a row of windows. */
static void pool_sum_columns(real *restrict to, const real *restrict line, const struct pool_window *row,
                             const struct pool_window *column, int64_t columns, bool pairs) {
  if (pairs) {
#pragma omp simd
    for (int64_t j = 0; j < columns; j++) to[j] = line[2 * j] + line[2 * j + 1];
  } else {
    for (int64_t j = 0; j < columns; j++) {
      real sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t k = column[j].first; k < column[j].last; k++) sum += line[k];
      to[j] = sum;
    }
  }
  for (int64_t j = 0; j < columns; j++) to[j] /= row->divisor * column[j].divisor;
}

static int pool_mean(const struct op_call *call, struct tensor *source, struct tensor *destination, bool adaptive) {
  const struct shape in = pool_images(&source->shape), out = pool_images(&destination->shape);
  int64_t rows = out.size[2], columns = out.size[3], width = in.size[3], area = in.size[2] * width;
  int64_t planes = in.size[0] * in.size[1];
  struct pool_window *window = pool_mean_windows(call, &out, adaptive);
  real *lines = window ? pool_lines(width) : NULL;
  struct tensor *x = lines ? tensor_contiguous(source) : NULL;
  if (x) {
    const struct pool_window *column = window + rows;
    const real *from = tensor_real(x);
    real *to = tensor_real(destination);
    bool pairs = pool_columns_are_pairs(column, columns);
#pragma omp parallel for if (planes * area > PARALLEL_THRESHOLD)
    for (int64_t plane = 0; plane < planes; plane++)
      for (int64_t i = 0; i < rows; i++) {
        real *line = lines + omp_get_thread_num() * width;
        pool_sum_lines(line, from + plane * area, &window[i], width);
        pool_sum_columns(to + (plane * rows + i) * columns, line, &window[i], column, columns, pairs);
      }
  }
  memory_release(lines);
  memory_delete(window);
  tensor_release(x);
  return x ? STATUS_OK : STATUS_ERROR;
}

/* line (width) = what each place of a line is given by a row of windows. */
static void pool_share(real *restrict line, const real *restrict gradient, const struct pool_window *row,
                       const struct pool_window *column, int64_t columns, bool pairs, int64_t width) {
  for (int64_t k = 0; k < width; k++) line[k] = 0;
  for (int64_t j = 0; j < columns; j++) {
    real share = gradient[j] / (row->divisor * column[j].divisor);
    if (pairs)
      line[2 * j] = line[2 * j + 1] = share;
    else
      for (int64_t k = column[j].first; k < column[j].last; k++) line[k] += share;
  }
}

static int pool_mean_vjp(const struct op_call *call, struct tensor *gradient, struct tensor **result, bool adaptive) {
  const struct shape in = pool_images(&call->input[0]->shape), out = pool_images(&gradient->shape);
  int64_t rows = out.size[2], columns = out.size[3], width = in.size[3], area = in.size[2] * width;
  int64_t planes = in.size[0] * in.size[1];
  struct pool_window *window = pool_mean_windows(call, &out, adaptive);
  real *lines = window ? pool_lines(width) : NULL;
  struct tensor *g = lines ? tensor_contiguous(gradient) : NULL;
  struct tensor *dx = g ? tensor_new(TYPE_REAL, &call->input[0]->shape) : NULL;
  if (dx) {
    const struct pool_window *column = window + rows;
    const real *from = tensor_real(g);
    real *to = tensor_real(dx);
    bool pairs = pool_columns_are_pairs(column, columns);
#pragma omp parallel for if (planes * area > PARALLEL_THRESHOLD)
    for (int64_t plane = 0; plane < planes; plane++) {
      real *line = lines + omp_get_thread_num() * width, *target = to + plane * area;
      for (int64_t i = 0; i < area; i++) target[i] = 0;
      for (int64_t i = 0; i < rows; i++) {
        pool_share(line, from + (plane * rows + i) * columns, &window[i], column, columns, pairs, width);
        for (int64_t y = window[i].first; y < window[i].last; y++) {
          real *restrict row = target + y * width;
#pragma omp simd
          for (int64_t k = 0; k < width; k++) row[k] += line[k];
        }
      }
    }
  }
  memory_release(lines);
  memory_delete(window);
  tensor_release(g);
  result[0] = dx;
  return dx ? STATUS_OK : STATUS_ERROR;
}

static int pool_mean_jvp(const struct op_call *call, struct tensor *tangent, struct tensor **result, bool adaptive) {
  struct shape shape;
  enum element_type type = TYPE_REAL;
  STATUS_TRY(call->op->shape(call, &shape, &type));
  shape.size[0] = tangent->shape.size[0];
  struct tensor *mean = tensor_new(TYPE_REAL, &shape);
  if (!mean) return STATUS_ERROR;
  return op_give_if(pool_mean(call, tangent, mean, adaptive), mean, result);
}

static int average_pool_forward(struct op_call *call) { return pool_mean(call, call->input[0], call->output, false); }
static int average_pool_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                            struct tensor **result) {
  return needed[0] ? pool_mean_vjp(call, gradient, result, false) : STATUS_OK;
}
static int average_pool_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return pool_mean_jvp(call, tangent[0], result, false);
}

static int adaptive_pool_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  STATUS_TRY(pool_check_images(call));
  *shape = call->input[0]->shape;
  for (int axis = 0; axis < 2; axis++) {
    int64_t size = call->value[0].list[axis];
    if (size < 1) return status_error("sizes are at least 1, not %lld", (long long)size);
    if (shape->size[2 + axis] < 1)
      return status_error("images %s have no pixels to average", shape_text(&call->input[0]->shape));
    shape->size[2 + axis] = size;
  }
  return STATUS_OK;
}
static int adaptive_pool_forward(struct op_call *call) { return pool_mean(call, call->input[0], call->output, true); }
static int adaptive_pool_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                             struct tensor **result) {
  return needed[0] ? pool_mean_vjp(call, gradient, result, true) : STATUS_OK;
}
static int adaptive_pool_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return pool_mean_jvp(call, tangent[0], result, true);
}

#define POOL_PARAMETERS(kind) \
  TENSOR("x"), GIVEN("kernel", kind), DEFAULT("stride", kind, 0), DEFAULT("padding", kind, 0)
#define POOL_DIMENSIONS(count) \
  .batch_inputs = 1, .family = &(const int) { count }

const struct op pool_ops[] = {
    OP("max_pool2d",
       "largest value of each window of images (N, C, H, W); stride 0 (the default): as the kernel. Of equal "
       "values the first has the gradient",
       SAMPLES("distinct:2x3x4x6 kernel=2", "distinct:2x2x5x7 kernel=3,2 stride=2,1",
               "distinct:1x2x6x5 kernel=3 stride=2 padding=1", "distinct:2x1x5x5 kernel=2", "distinct:1x1x1x1 kernel=1",
               "0x2x4x4 kernel=2", "distinct:2x2x4x2 kernel=2"),
       PARAMETERS(POOL_PARAMETERS(OP_PAIR)), OP_ROWWISE | OP_LISTED_ROWS | OP_LINEAR, pool_shape, max_pool_forward,
       max_pool_vjp, max_pool_jvp, POOL_DIMENSIONS(2)),
    OP("max_pool1d", "largest value of each window of sequences (N, C, L), as max_pool2d",
       SAMPLES("distinct:2x3x6 kernel=2", "distinct:2x2x7 kernel=3 stride=2 padding=1", "distinct:1x1x1 kernel=1",
               "0x2x4 kernel=2"),
       PARAMETERS(POOL_PARAMETERS(OP_INTEGER)), OP_ROWWISE | OP_LISTED_ROWS | OP_LINEAR, pool_shape, max_pool_forward,
       max_pool_vjp, max_pool_jvp, POOL_DIMENSIONS(1)),
    OP("avg_pool2d",
       "mean of each window of images (N, C, H, W); stride 0 (the default): as the kernel; count_padding: the "
       "zeros around count as values",
       SAMPLES("2x3x4x6 kernel=2", "2x2x5x7 kernel=3,2 stride=2,1", "1x2x6x5 kernel=3 stride=2 padding=1",
               "2x2x5x4 kernel=3 stride=2 padding=1 count_padding=0", "1x1x1x1 kernel=1", "0x2x4x4 kernel=2"),
       PARAMETERS(POOL_PARAMETERS(OP_PAIR), DEFAULT("count_padding", OP_FLAG, 1)), OP_ROWWISE | OP_LINEAR, pool_shape,
       average_pool_forward, average_pool_vjp, average_pool_jvp, POOL_DIMENSIONS(2)),
    OP("avg_pool1d", "mean of each window of sequences (N, C, L), as avg_pool2d",
       SAMPLES("2x3x6 kernel=2", "2x2x7 kernel=3 stride=2 padding=1", "2x2x7 kernel=3 padding=1 count_padding=0",
               "1x1x1 kernel=1", "0x2x4 kernel=2"),
       PARAMETERS(POOL_PARAMETERS(OP_INTEGER), DEFAULT("count_padding", OP_FLAG, 1)), OP_ROWWISE | OP_LINEAR,
       pool_shape, average_pool_forward, average_pool_vjp, average_pool_jvp, POOL_DIMENSIONS(1)),
    OP("adaptive_avg_pool2d", "images (N, C, H, W) averaged to the given height and width; 1 is the mean of each plane",
       SAMPLES("2x3x4x6 sizes=2,3", "2x2x7x5 sizes=3,2", "1x2x3x3 sizes=1", "1x1x2x2 sizes=3", "0x2x4x4 sizes=1"),
       PARAMETERS(TENSOR("x"), GIVEN("sizes", OP_PAIR)), OP_ROWWISE | OP_LINEAR, adaptive_pool_shape,
       adaptive_pool_forward, adaptive_pool_vjp, adaptive_pool_jvp, POOL_DIMENSIONS(2)),
    {.name = NULL}};
