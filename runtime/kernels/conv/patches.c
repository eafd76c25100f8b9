/* Convolution: patches (the inputs under the kernel) as rows of a matrix, the A of an affine layer. The products
   themselves are not made of them: patches and gemm take 1.3 to 4 times direct.c's time in every conv2d row of
   tests/bench (128×32×16×16, 32 of 3×3, forward: 3.0 times). */
#include <string.h>

#include "../../base/simd.h"
#include "conv.h"

/* Rows are too short for calls of memmove, which GCC would make of the loops. */
#pragma GCC optimize("no-tree-loop-distribute-patterns")

enum { PREFETCH_CHANNELS = 8 }; /* between the one that is copied and the one that is prefetched */

/* What a patch has within the image: `lines` of each channel, `columns` of each line, from points to the first. */
VECTOR_INLINE void patch_copy(real *restrict to, const real *restrict from, const struct conv_geometry *geometry,
                              int64_t lines, const int64_t columns, const int64_t step) {
  const struct conv_axis *y = &geometry->y, *z = &geometry->x;
  int64_t line = y->dilation * z->size, plane = y->size * z->size;
  for (int64_t c = 0; c < geometry->channels; c++, to += y->kernel * z->kernel, from += plane)
    for (int64_t i = 0; i < lines; i++) {
      __builtin_prefetch(from + PREFETCH_CHANNELS * plane + i * line);
      for (int64_t j = 0; j < columns; j++) to[i * z->kernel + j] = from[i * line + j * step];
    }
}

/* Of a kernel at `start` those places that lie within the image: *begin to *end − 1. */
static void patch_inside(const struct conv_axis *axis, int64_t start, int64_t *begin, int64_t *end) {
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
    patch_inside(y, top, &begin_y, &end_y);
    patch_inside(z, left, &begin, &end);
    int64_t lines = end_y - begin_y, columns = end - begin;
    if (lines < y->kernel || columns < z->kernel) memset(row, 0, (size_t)width * sizeof(real));
    const real *from = x + (top + begin_y * y->dilation) * z->size + left + begin * z->dilation;
    real *to = row + begin_y * z->kernel + begin;
    if (z->dilation == 1 && columns == 3)
      patch_copy(to, from, geometry, lines, 3, 1);
    else if (z->dilation == 1 && columns == 5)
      patch_copy(to, from, geometry, lines, 5, 1);
    else
      patch_copy(to, from, geometry, lines, columns, z->dilation);
  }
}
