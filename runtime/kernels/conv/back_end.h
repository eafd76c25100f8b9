/* Back ends of convolution: their functions, and what they share. */
#ifndef GLS_KERNELS_CONV_BACK_END_H
#define GLS_KERNELS_CONV_BACK_END_H

#include <stdbool.h>

#include "../../base/integer.h"
#include "conv.h"

/* ---- direct.c, weight.c: any geometry ---- */
int conv_direct_forward(real *output, const real *x, const real *weight, const real *bias,
                        const struct conv_geometry *geometry);
int conv_direct_data_gradient(real *dx, const real *gradient, const real *weight, const real *bias,
                              const struct conv_geometry *geometry);
int conv_direct_weight_gradient(real *dweight, const real *gradient, const real *x,
                                const struct conv_geometry *geometry);

/* ---- depthwise.c: one channel and one output a group, stride 1 along rows ---- */
int conv_depthwise_weight_gradient(real *dweight, const real *gradient, const real *x,
                                   const struct conv_geometry *geometry);

/* ---- winograd.h: kernels of 3×3 and 5×5, stride 1, no dilation ---- */
int conv_winograd_forward(real *output, const real *x, const real *weight, const real *bias,
                          const struct conv_geometry *geometry);
int conv_winograd_data_gradient(real *dx, const real *gradient, const real *weight, const real *bias,
                                const struct conv_geometry *geometry);
int conv_winograd_weight_gradient(real *dweight, const real *gradient, const real *x,
                                  const struct conv_geometry *geometry);

/* ---- padding.c ---- */
/* Rows or columns of the padded input that the kernel sees. */
static inline int64_t conv_axis_extent(const struct conv_axis *axis) {
  return (axis->places - 1) * axis->stride + (axis->kernel - 1) * axis->dilation + 1;
}

/* Images zero-padded into the core's cache: every channel becomes rows × pitch, whose first row and column are those
   of the image at (-top, -left). With split > 1 a row is cut up by columns' remainder by split, into parts, so that
   every split-th column lies side by side. */
struct conv_padded {
  int64_t top, left, rows, pitch;
  int64_t split, part; /* pitch = split · part */
  int64_t plane;       /* reals from channel to channel: rows · pitch */
};

/* Planes as the geometry pads them, columns in their order. */
struct conv_padded conv_padded_of(const struct conv_geometry *geometry);

/* Where a row keeps its column, counted with the zeros on the left. */
static inline int64_t conv_padded_column(const struct conv_padded *padded, int64_t column) {
  return column % padded->split * padded->part + column / padded->split;
}

/* to = rows first to first + rows − 1 of the padded planes of x; the zeros around the images are already there. */
void conv_pad(real *to, const struct conv_padded *padded, const real *x, int64_t channels, int64_t height,
              int64_t width, int64_t first, int64_t rows);

/* ---- prefetching ---- */
enum { CONV_CACHE_LINE = 64 };

/* Two ranges of memory that the next image needs, prefetched into the L2 cache in steps between micro-tiles. */
struct conv_prefetch {
  struct {
    const char *at;
    int64_t left, step; /* bytes; step in whole lines */
    bool written;
  } range[2];
};

static inline void conv_prefetch_set(struct conv_prefetch *prefetch, int range, const real *at, int64_t count,
                                     int64_t steps, bool written) {
  int64_t bytes = count * (int64_t)sizeof(real);
  prefetch->range[range].at = (const char *)at;
  prefetch->range[range].left = bytes;
  prefetch->range[range].step = bytes / max(steps, 1) / CONV_CACHE_LINE * CONV_CACHE_LINE + CONV_CACHE_LINE;
  prefetch->range[range].written = written;
}

static inline void conv_prefetch_step(struct conv_prefetch *prefetch) {
  for (int range = 0; range < 2; range++) {
    const char *at = prefetch->range[range].at;
    int64_t count = min(prefetch->range[range].left, prefetch->range[range].step);
    if (prefetch->range[range].written)
      for (int64_t i = 0; i < count; i += CONV_CACHE_LINE) __builtin_prefetch(at + i, 1, 2);
    else
      for (int64_t i = 0; i < count; i += CONV_CACHE_LINE) __builtin_prefetch(at + i, 0, 2);
    prefetch->range[range].at += count, prefetch->range[range].left -= count;
  }
}

#endif
