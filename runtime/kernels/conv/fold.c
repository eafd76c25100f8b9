/* Convolution: unfolding images into columns (im2col), one row of places for each channel and position of the kernel,
   and its adjoint, folding (col2im). */
#include <stdbool.h>

#include "../../base/parallel.h"
#include "conv.h"

/* Places first to end − 1 whose input under position k of the kernel is in the image; *offset: that of place 0. */
static void inside(int64_t *first, int64_t *end, int64_t *offset, const struct conv_axis *axis, int64_t k) {
  *offset = k * axis->dilation - axis->padding;
  *first = *offset < 0 ? min(ceil_div(-*offset, axis->stride), axis->places) : 0;
  *end = *offset < axis->size ? min(ceil_div(axis->size - *offset, axis->stride), axis->places) : 0;
  *end = max(*end, *first);
}

static void unfold_row(real *restrict to, const real *restrict plane, const struct conv_geometry *geometry, int64_t ky,
                       int64_t kx) {
  const struct conv_axis *y = &geometry->y, *x = &geometry->x;
  int64_t top, bottom, row, left, right, column;
  inside(&top, &bottom, &row, y, ky);
  inside(&left, &right, &column, x, kx);
  for (int64_t i = 0; i < y->places; i++, to += x->places) {
    bool within = i >= top && i < bottom;
    const real *from = plane + (i * y->stride + row) * x->size + column;
    for (int64_t j = 0; j < (within ? left : x->places); j++) to[j] = 0;
    if (!within) continue;
    if (x->stride == 1)
      for (int64_t j = left; j < right; j++) to[j] = from[j];
    else
      for (int64_t j = left; j < right; j++) to[j] = from[j * x->stride];
    for (int64_t j = right; j < x->places; j++) to[j] = 0;
  }
}

static void fold_row(real *restrict plane, const real *restrict from, const struct conv_geometry *geometry, int64_t ky,
                     int64_t kx) {
  const struct conv_axis *y = &geometry->y, *x = &geometry->x;
  int64_t top, bottom, row, left, right, column;
  inside(&top, &bottom, &row, y, ky);
  inside(&left, &right, &column, x, kx);
  for (int64_t i = top; i < bottom; i++) {
    real *to = plane + (i * y->stride + row) * x->size + column;
    const real *line = from + i * x->places;
    if (x->stride == 1)
      for (int64_t j = left; j < right; j++) to[j] += line[j];
    else
      for (int64_t j = left; j < right; j++) to[j * x->stride] += line[j];
  }
}

void conv_unfold(real *columns, const real *x, const struct conv_geometry *geometry) {
  int64_t planes = geometry->images * geometry->groups * geometry->channels, area = geometry->y.size * geometry->x.size;
  int64_t places = geometry->y.places * geometry->x.places, width = geometry->x.kernel;
  int64_t taps = geometry->y.kernel * width;
#pragma omp parallel for if (planes * taps * places > PARALLEL_THRESHOLD)
  for (int64_t plane = 0; plane < planes; plane++)
    for (int64_t tap = 0; tap < taps; tap++)
      unfold_row(columns + (plane * taps + tap) * places, x + plane * area, geometry, tap / width, tap % width);
}

void conv_fold(real *x, const real *columns, const struct conv_geometry *geometry) {
  int64_t planes = geometry->images * geometry->groups * geometry->channels, area = geometry->y.size * geometry->x.size;
  int64_t places = geometry->y.places * geometry->x.places, width = geometry->x.kernel;
  int64_t taps = geometry->y.kernel * width;
#pragma omp parallel for if (planes * taps * places > PARALLEL_THRESHOLD)
  for (int64_t plane = 0; plane < planes; plane++) {
    for (int64_t i = 0; i < area; i++) x[plane * area + i] = 0;
    for (int64_t tap = 0; tap < taps; tap++)
      fold_row(x + plane * area, columns + (plane * taps + tap) * places, geometry, tap / width, tap % width);
  }
}
