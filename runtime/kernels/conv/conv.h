/* Convolution of images: its geometry, and the kernels that conv.c puts together.
   conv.c          the op: shapes, derivatives, factors
   conv_patches.c  the patches under the kernel as rows of a matrix, and the reference: plain loops
   conv_direct.c   forward and data gradient
   conv_weight.c   gradient of the weight             conv_depthwise.c  the same of channels that are groups
   conv_winograd.h all three with fewer products, where the kernel is 3×3 or 5×5 (conv_transform.h) */
#ifndef GLS_KERNELS_CONV_H
#define GLS_KERNELS_CONV_H

#include <stdbool.h>

#include "../../base/parallel.h"
#include "../../base/real.h"
#include "../../base/status.h"

/* One of the two dimensions of the images. */
struct conv_axis {
  int64_t size;   /* of the input */
  int64_t places; /* of the output */
  int64_t kernel, stride, padding, dilation;
};

/* Rows or columns of the padded input that the kernel sees. */
static inline int64_t conv_axis_extent(const struct conv_axis *axis) {
  return (axis->places - 1) * axis->stride + (axis->kernel - 1) * axis->dilation + 1;
}

/* x: images × (groups · channels) × y.size × x.size; weight: (groups · outputs) × channels × y.kernel × x.kernel;
   output: images × (groups · outputs) × y.places × x.places. All contiguous. */
struct conv_geometry {
  int64_t images, groups;
  int64_t channels, outputs; /* of one group */
  struct conv_axis y, x;
};

/* Images zero-padded into a core's cache: every channel becomes rows × pitch, whose first row and column are those
   of the image at (-top, -left). With split > 1 a row is cut up by columns' remainder by split, into parts, so that
   every split-th column lies side by side. */
struct conv_padded {
  int64_t top, left, rows, pitch;
  int64_t split, part; /* pitch = split · part */
  int64_t plane;       /* reals from channel to channel: rows · pitch */
};

/* Where a row keeps its column, counted with the zeros on the left. */
static inline int64_t conv_padded_column(const struct conv_padded *padded, int64_t column) {
  return column % padded->split * padded->part + column / padded->split;
}

/* Two stretches of memory that the next image will need, brought into the second cache a piece at a time, between
   tiles. */
struct conv_ahead {
  struct {
    const char *at;
    int64_t left, step; /* bytes; step in whole lines */
    bool written;
  } part[2];
};

static inline void conv_ahead_set(struct conv_ahead *ahead, int part, const real *at, int64_t count, int64_t pieces,
                                  bool written) {
  int64_t bytes = count * (int64_t)sizeof(real);
  ahead->part[part].at = (const char *)at;
  ahead->part[part].left = bytes;
  ahead->part[part].step = bytes / (pieces < 1 ? 1 : pieces) / 64 * 64 + 64;
  ahead->part[part].written = written;
}

static inline void conv_look_ahead(struct conv_ahead *ahead) {
  for (int part = 0; part < 2; part++) {
    const char *at = ahead->part[part].at;
    int64_t count = min(ahead->part[part].left, ahead->part[part].step);
    if (ahead->part[part].written)
      for (int64_t i = 0; i < count; i += 64) __builtin_prefetch(at + i, 1, 2);
    else
      for (int64_t i = 0; i < count; i += 64) __builtin_prefetch(at + i, 0, 2);
    ahead->part[part].at += count, ahead->part[part].left -= count;
  }
}

/* ---- conv_patches.c ---- */
/* patches (places × (channels · kernel)): the inputs under the kernel at places first to first + count - 1 of one
   image of one group, x its channels. */
void conv_patches(real *patches, const real *x, const struct conv_geometry *geometry, int64_t first, int64_t count);
/* The reference: output = x * weight + bias; bias may be NULL. */
void conv_naive_forward(real *output, const real *x, const real *weight, const real *bias,
                        const struct conv_geometry *geometry);
/* to = rows first to first + rows − 1 of the padded planes of x; the zeros around the images are already there. */
void conv_pad(real *to, const struct conv_padded *padded, const real *x, int64_t channels, int64_t height,
              int64_t width, int64_t first, int64_t rows);

/* One term of a sum of convolutions. */
struct conv_part {
  const real *x, *weight;
};

/* The fast kernels fail only when there is no memory. */

/* ---- conv.c: by the kernels that serve best ---- */
/* output = Σ x * weight over the parts (1 or 2), + bias; bias may be NULL. */
int conv_forward(real *output, const struct conv_part *part, int parts, const real *bias,
                 const struct conv_geometry *geometry);
int conv_data_gradient(real *dx, const real *gradient, const real *weight, const struct conv_geometry *geometry);
int conv_weight_gradient(real *dweight, const real *gradient, const real *x, const struct conv_geometry *geometry);

/* ---- conv_direct.c ---- */
int conv_direct_forward(real *output, const struct conv_part *part, int parts, const real *bias,
                        const struct conv_geometry *geometry);
int conv_direct_data_gradient(real *dx, const real *gradient, const real *weight, const struct conv_geometry *geometry);

/* ---- conv_weight.c ---- */
int conv_direct_weight_gradient(real *dweight, const real *gradient, const real *x,
                                const struct conv_geometry *geometry);

/* ---- conv_depthwise.c ---- */
/* Whether every channel is a group with one output, in steps of 1 along the rows. */
bool conv_depthwise_serves(const struct conv_geometry *geometry);
int conv_depthwise_weight_gradient(real *dweight, const real *gradient, const real *x,
                                   const struct conv_geometry *geometry);

/* ---- conv_winograd.h ---- */
/* Whether it is made for this geometry, and gains by it, forward and for the gradient of the weight, or of the data. */
bool conv_winograd_serves(const struct conv_geometry *geometry);
bool conv_winograd_serves_data_gradient(const struct conv_geometry *geometry);
int conv_winograd_forward(real *output, const struct conv_part *part, int parts, const real *bias,
                          const struct conv_geometry *geometry);
int conv_winograd_data_gradient(real *dx, const real *gradient, const real *weight,
                                const struct conv_geometry *geometry);
int conv_winograd_weight_gradient(real *dweight, const real *gradient, const real *x,
                                  const struct conv_geometry *geometry);

#endif
