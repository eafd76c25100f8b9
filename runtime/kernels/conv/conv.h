/* Convolution of images on plain arrays: a geometry, the three products that are each other's derivatives, patches.
   conv.c       which back end makes a product, and when
   direct.c     forward and gradient of the data, any geometry
   weight.c     gradient of the weight, any geometry
   depthwise.c  gradient of the weight where every channel is a group of its own
   winograd.h   all three for kernels of 3×3 and 5×5 (its files are listed there)
   patches.c    the inputs under the kernel as rows of a matrix
   fold.c       the same as columns, of whole batches, and the adjoint
   back_end.h   what back ends share: padded planes (padding.c), prefetching */
#ifndef GLS_KERNELS_CONV_H
#define GLS_KERNELS_CONV_H

#include <stdint.h>

#include "../../base/real.h"
#include "../../base/status.h"

/* One of the two dimensions of the images. */
struct conv_axis {
  int64_t size;   /* of the input */
  int64_t places; /* of the output */
  int64_t kernel, stride, padding, dilation;
};

/* x: images × (groups · channels) × y.size × x.size; weight: (groups · outputs) × channels × y.kernel × x.kernel;
   output: images × (groups · outputs) × y.places × x.places. All contiguous. */
struct conv_geometry {
  int64_t images, groups;
  int64_t channels, outputs; /* of one group */
  struct conv_axis y, x;
};

/* They fail only when there is no memory. bias (one value a channel of the result) may be NULL. */
/* output = x * weight + bias */
int conv_forward(real *output, const real *x, const real *weight, const real *bias,
                 const struct conv_geometry *geometry);
/* dx = the adjoint of that in x, of gradient (output's shape), + bias: also the transposed convolution. */
int conv_data_gradient(real *dx, const real *gradient, const real *weight, const real *bias,
                       const struct conv_geometry *geometry);
/* dweight = the adjoint in weight */
int conv_weight_gradient(real *dweight, const real *gradient, const real *x, const struct conv_geometry *geometry);

/* patches (places × (channels · kernel)): the inputs under the kernel at places first to first + count − 1 of one
   image of one group, x its channels. */
void conv_patches(real *patches, const real *x, const struct conv_geometry *geometry, int64_t first, int64_t count);
/* columns (images × (channels · kernel) × places) = the inputs under the kernel, 0 beyond the images; and x = its
   adjoint, the sum over all that the columns hold of an input. */
void conv_unfold(real *columns, const real *x, const struct conv_geometry *geometry);
void conv_fold(real *x, const real *columns, const struct conv_geometry *geometry);

#endif
