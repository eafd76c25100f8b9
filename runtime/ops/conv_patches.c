/* Convolution, the plain forms: patches as rows of a matrix (the A of an affine layer), zero-padded planes, and the
   reference that the fast kernels are tested against. */
#include <string.h>

#include "../base/parallel.h"
#include "conv.h"
#include "simd.h"

/* Rows are too short to be worth calls of memmove: the compiler is not to make such of loops. */
#pragma GCC optimize("no-tree-loop-distribute-patterns")

void conv_patches(real *patches, const real *x, const struct conv_geometry *geometry, int64_t first, int64_t count) {
  const struct conv_axis *y = &geometry->y, *z = &geometry->x;
  int64_t width = geometry->channels * y->kernel * z->kernel;
  for (int64_t place = first; place < first + count; place++) {
    real *row = patches + (place - first) * width;
    int64_t top = place / z->places * y->stride - y->padding, left = place % z->places * z->stride - z->padding;
    for (int64_t c = 0; c < geometry->channels; c++)
      for (int64_t i = 0; i < y->kernel; i++) {
        int64_t from_y = top + i * y->dilation;
        const real *line = x + (c * y->size + from_y) * z->size;
        bool inside = from_y >= 0 && from_y < y->size;
        for (int64_t j = 0; j < z->kernel; j++) {
          int64_t from_x = left + j * z->dilation;
          *row++ = inside && from_x >= 0 && from_x < z->size ? line[from_x] : 0;
        }
      }
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

/* to = from */
static inline void conv_copy_row(real *restrict to, const real *restrict from, int64_t count) {
  int64_t j = 0;
  for (; j + VECTOR_LANES <= count; j += VECTOR_LANES)
    *(vector_unaligned *)(to + j) = *(const vector_unaligned *)(from + j);
  if (j + VECTOR_LANES / 2 <= count) {
    memcpy(to + j, from + j, VECTOR_BYTES / 2);
    j += VECTOR_LANES / 2;
  }
  for (; j < count; j++) to[j] = from[j];
}

/* even, odd = every other column. */
static inline void conv_deal_row(real *restrict even, real *restrict odd, const real *restrict from, int64_t count) {
#define CONV_DEAL(lane, first) (2 * (lane) + (first))
  const vector_order evens = VECTOR_ORDER(CONV_DEAL, 0), odds = VECTOR_ORDER(CONV_DEAL, 1);
#undef CONV_DEAL
  int64_t j = 0;
  for (; j + 2 * VECTOR_LANES <= count; j += 2 * VECTOR_LANES) {
    vector x = *(const vector_unaligned *)(from + j), y = *(const vector_unaligned *)(from + j + VECTOR_LANES);
    *(vector_unaligned *)(even + j / 2) = __builtin_shuffle(x, y, evens);
    *(vector_unaligned *)(odd + j / 2) = __builtin_shuffle(x, y, odds);
  }
  for (; j < count; j++) (j % 2 ? odd : even)[j / 2] = from[j];
}

void conv_pad(real *to, const struct conv_padded *padded, const real *x, int64_t channels, int64_t height,
              int64_t width, int64_t first, int64_t rows) {
  int64_t pitch = padded->pitch, split = padded->split, inside = parallel_minimum(width, pitch - padded->left);
  int64_t top = first < padded->top ? padded->top - first : 0, from = top + first - padded->top;
  int64_t count = parallel_minimum(rows - top, height - from);
  int64_t start = conv_padded_column(padded, padded->left), second = conv_padded_column(padded, padded->left + 1);
  x += from * width;
  to += top * pitch;
  for (int64_t c = 0; c < channels; c++, to += padded->plane, x += height * width)
    for (int64_t i = 0; i < count; i++) {
      const real *row = x + i * width;
      real *place = to + i * pitch;
      if (split == 1)
        conv_copy_row(place + start, row, inside);
      else if (split == 2)
        conv_deal_row(place + start, place + second, row, inside);
      else
        for (int64_t j = 0; j < inside; j++) place[conv_padded_column(padded, padded->left + j)] = row[j];
    }
}
