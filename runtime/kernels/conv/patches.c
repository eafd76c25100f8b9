/* Convolution, the plain forms: patches as rows of a matrix (the A of an affine layer), zero-padded planes, and the
   reference that the fast kernels are tested against. */
#include <string.h>

#include "../../base/parallel.h"
#include "conv.h"
#include "../../base/simd.h"

/* Rows are too short to be worth calls of memmove: the compiler is not to make such of loops. */
#pragma GCC optimize("no-tree-loop-distribute-patterns")

/* Channels between the one that is copied and the one that is fetched. */
enum { PATCH_AHEAD = 8 };

/* What a patch has within the image: `lines` of each channel, `columns` of each line, from points to the first. */
VECTOR_INLINE void conv_copy_patch(real *restrict to, const real *restrict from, const struct conv_geometry *geometry,
                                   int64_t lines, const int64_t columns, const int64_t step) {
  const struct conv_axis *y = &geometry->y, *z = &geometry->x;
  int64_t line = y->dilation * z->size, plane = y->size * z->size;
  for (int64_t c = 0; c < geometry->channels; c++, to += y->kernel * z->kernel, from += plane)
    for (int64_t i = 0; i < lines; i++) {
      __builtin_prefetch(from + PATCH_AHEAD * plane + i * line);
      for (int64_t j = 0; j < columns; j++) to[i * z->kernel + j] = from[i * line + j * step];
    }
}

/* Of a kernel at `start` those places that lie within the image: *begin to *end − 1. */
static void conv_inside(const struct conv_axis *axis, int64_t start, int64_t *begin, int64_t *end) {
  *begin = 0, *end = axis->kernel;
  while (*begin < *end && start + *begin * axis->dilation < 0) ++*begin;
  while (*begin < *end && start + (*end - 1) * axis->dilation >= axis->size) --*end;
}

void conv_patches(real *patches, const real *x, const struct conv_geometry *geometry, int64_t first, int64_t count) {
  const struct conv_axis *y = &geometry->y, *z = &geometry->x;
  int64_t width = geometry->channels * y->kernel * z->kernel;
  for (int64_t place = first; place < first + count; place++) {
    real *row = patches + (place - first) * width;
    int64_t top = place / z->places * y->stride - y->padding, left = place % z->places * z->stride - z->padding;
    int64_t begin_y, end_y, begin, end;
    conv_inside(y, top, &begin_y, &end_y);
    conv_inside(z, left, &begin, &end);
    int64_t lines = end_y - begin_y, columns = end - begin;
    if (lines < y->kernel || columns < z->kernel) memset(row, 0, (size_t)width * sizeof(real));
    const real *from = x + (top + begin_y * y->dilation) * z->size + left + begin * z->dilation;
    real *to = row + begin_y * z->kernel + begin;
    if (z->dilation == 1 && columns == 3)
      conv_copy_patch(to, from, geometry, lines, 3, 1);
    else if (z->dilation == 1 && columns == 5)
      conv_copy_patch(to, from, geometry, lines, 5, 1);
    else
      conv_copy_patch(to, from, geometry, lines, columns, z->dilation);
  }
}

void conv_naive_forward(real *output, const real *x, const real *weight, const real *bias,
                        const struct conv_geometry *geometry) {
  const struct conv_axis *y = &geometry->y, *z = &geometry->x;
  int64_t channels = geometry->channels, outputs = geometry->groups * geometry->outputs;
  for (int64_t n = 0; n < geometry->images; n++)
    for (int64_t o = 0; o < outputs; o++)
      for (int64_t i = 0; i < y->places; i++)
        for (int64_t j = 0; j < z->places; j++) {
          double sum = bias ? (double)bias[o] : 0;
          for (int64_t c = 0; c < channels; c++)
            for (int64_t ky = 0; ky < y->kernel; ky++)
              for (int64_t kx = 0; kx < z->kernel; kx++) {
                int64_t from_y = i * y->stride - y->padding + ky * y->dilation;
                int64_t from_x = j * z->stride - z->padding + kx * z->dilation;
                if (from_y < 0 || from_y >= y->size || from_x < 0 || from_x >= z->size) continue;
                int64_t plane = (n * geometry->groups + o / geometry->outputs) * channels + c;
                sum += (double)x[(plane * y->size + from_y) * z->size + from_x] *
                       (double)weight[((o * channels + c) * y->kernel + ky) * z->kernel + kx];
              }
          output[((n * outputs + o) * y->places + i) * z->places + j] = (real)sum;
        }
}

/* to = rows of a plane, count of them, each `vectors` whole vectors and some numbers long. */
VECTOR_INLINE void conv_copy_rows(real *restrict to, int64_t pitch, const real *restrict from, int64_t width,
                                  int64_t count, const int64_t vectors, const int64_t rest) {
  for (; count > 0; count--, to += pitch, from += width) {
    int64_t j = 0;
    for (; j < vectors * VECTOR_LANES; j += VECTOR_LANES)
      *(vector_unaligned *)(to + j) = *(const vector_unaligned *)(from + j);
    for (int64_t k = j; k < j + rest; k++) to[k] = from[k];
  }
}

/* even, odd = every other column of the same. */
VECTOR_INLINE void conv_deal_rows(real *restrict even, real *restrict odd, int64_t pitch, const real *restrict from,
                                  int64_t width, int64_t count, const int64_t pairs, const int64_t rest) {
#define CONV_DEAL(lane, first) (2 * (lane) + (first))
  const vector_order evens = VECTOR_ORDER(CONV_DEAL, 0), odds = VECTOR_ORDER(CONV_DEAL, 1);
#undef CONV_DEAL
  for (; count > 0; count--, even += pitch, odd += pitch, from += width) {
    int64_t j = 0;
    for (; j < pairs * VECTOR_LANES; j += VECTOR_LANES) {
      vector x = *(const vector_unaligned *)(from + 2 * j);
      vector y = *(const vector_unaligned *)(from + 2 * j + VECTOR_LANES);
      *(vector_unaligned *)(even + j) = __builtin_shuffle(x, y, evens);
      *(vector_unaligned *)(odd + j) = __builtin_shuffle(x, y, odds);
    }
    for (int64_t k = 0; k < rest; k++) (k % 2 ? odd : even)[j + k / 2] = from[2 * j + k];
  }
}

/* Rows of a plane into their places, whatever is between. The usual lengths as constants. */
static void conv_place_rows(real *to, const struct conv_padded *padded, const real *from, int64_t width, int64_t count,
                            int64_t inside) {
  int64_t pitch = padded->pitch;
  real *start = to + conv_padded_column(padded, padded->left);
  real *second = to + conv_padded_column(padded, padded->left + 1);
  if (padded->split == 1) {
    int64_t vectors = inside / VECTOR_LANES, rest = inside % VECTOR_LANES;
    if (rest == 0 && vectors == 1)
      conv_copy_rows(start, pitch, from, width, count, 1, 0);
    else if (rest == 0 && vectors == 2)
      conv_copy_rows(start, pitch, from, width, count, 2, 0);
    else
      conv_copy_rows(start, pitch, from, width, count, vectors, rest);
  } else if (padded->split == 2) {
    int64_t pairs = inside / (2 * VECTOR_LANES), rest = inside % (2 * VECTOR_LANES);
    if (rest == 0 && pairs == 1)
      conv_deal_rows(start, second, pitch, from, width, count, 1, 0);
    else
      conv_deal_rows(start, second, pitch, from, width, count, pairs, rest);
  } else {
    for (int64_t first = 0; first < min(padded->split, inside); first++) {
      real *part = to + conv_padded_column(padded, padded->left + first);
      for (int64_t i = 0; i < count; i++)
        for (int64_t j = first, k = 0; j < inside; j += padded->split, k++) part[i * pitch + k] = from[i * width + j];
    }
  }
}

void conv_pad(real *to, const struct conv_padded *padded, const real *x, int64_t channels, int64_t height,
              int64_t width, int64_t first, int64_t rows) {
  int64_t pitch = padded->pitch, inside = min(width, pitch - padded->left);
  int64_t top = first < padded->top ? padded->top - first : 0, from = top + first - padded->top;
  int64_t count = min(rows - top, height - from);
  x += from * width;
  to += top * pitch;
  for (int64_t c = 0; c < channels; c++, to += padded->plane, x += height * width)
    conv_place_rows(to, padded, x, width, count, inside);
}
