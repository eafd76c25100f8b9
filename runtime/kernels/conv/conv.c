/* Convolution: every product is made by the first back end of the table that serves it. */
#include <stddef.h>

#include "../../base/profile.h"
#include "back_end.h"

enum conv_product { CONV_FORWARD, CONV_DATA_GRADIENT, CONV_WEIGHT_GRADIENT };

enum { WINOGRAD_SIDE = 4, WINOGRAD_LARGEST = 1024 }; /* of an output tile; of an image, for its buffers' sake */

/* Winograd's transforms cost by the channel, what they save grows with the product of channels and outputs. */
static bool winograd_serves(const struct conv_geometry *geometry, enum conv_product product) {
  const struct conv_axis *y = &geometry->y, *x = &geometry->x;
  int64_t kernel = y->kernel, side = WINOGRAD_SIDE + kernel - 1;
  if (geometry->images == 0 || x->kernel != kernel || (kernel != 3 && kernel != 5)) return false;
  if (y->stride != 1 || x->stride != 1 || y->dilation != 1 || x->dilation != 1) return false;
  if (x->places > WINOGRAD_LARGEST || x->size > WINOGRAD_LARGEST) return false;
  if (min(geometry->channels, geometry->outputs) < (kernel == 3 ? 16 : 8)) return false;
  /* Multiplications, of those of the plain sum; the last tiles of rows and columns reach beyond the result. */
  bool gradient = product == CONV_DATA_GRADIENT;
  int64_t rows = gradient ? y->size : y->places, columns = gradient ? x->size : x->places;
  double tiles = (double)(ceil_div(rows, WINOGRAD_SIDE) * ceil_div(columns, WINOGRAD_SIDE));
  return tiles * (double)(side * side) < 0.6 * (double)(rows * columns * kernel * kernel);
}

static bool depthwise_serves(const struct conv_geometry *geometry, enum conv_product product) {
  return product == CONV_WEIGHT_GRADIENT && geometry->channels == 1 && geometry->outputs == 1 &&
         geometry->x.stride == 1;
}

static bool direct_serves(const struct conv_geometry *geometry, enum conv_product product) {
  (void)geometry, (void)product;
  return true;
}

static const struct back_end {
  bool (*serves)(const struct conv_geometry *geometry, enum conv_product product);
  int (*forward)(real *output, const real *x, const real *weight, const real *bias,
                 const struct conv_geometry *geometry);
  int (*data_gradient)(real *dx, const real *gradient, const real *weight, const real *bias,
                       const struct conv_geometry *geometry);
  int (*weight_gradient)(real *dweight, const real *gradient, const real *x, const struct conv_geometry *geometry);
} back_ends[] = {
    {winograd_serves, conv_winograd_forward, conv_winograd_data_gradient, conv_winograd_weight_gradient},
    {depthwise_serves, NULL, NULL, conv_depthwise_weight_gradient},
    {direct_serves, conv_direct_forward, conv_direct_data_gradient, conv_direct_weight_gradient},
};

static const struct back_end *choose(const struct conv_geometry *geometry, enum conv_product product) {
  const struct back_end *back_end = back_ends;
  while (!back_end->serves(geometry, product)) back_end++;
  return back_end;
}

/* The operations of the plain sum, whatever the back end: Winograd's are fewer. */
static void count(const struct conv_geometry *geometry) {
  const struct conv_axis *y = &geometry->y, *x = &geometry->x;
  double channels = (double)(geometry->groups * geometry->channels);
  double outputs = (double)(geometry->groups * geometry->outputs), images = (double)geometry->images;
  double kernel = (double)geometry->channels * (double)(y->kernel * x->kernel);
  double places = images * outputs * (double)(y->places * x->places);
  profile_count(2 * places * kernel,
                (images * channels * (double)(y->size * x->size) + places + outputs * kernel) * (double)sizeof(real));
}

int conv_forward(real *output, const real *x, const real *weight, const real *bias,
                 const struct conv_geometry *geometry) {
  count(geometry);
  return choose(geometry, CONV_FORWARD)->forward(output, x, weight, bias, geometry);
}

int conv_data_gradient(real *dx, const real *gradient, const real *weight, const real *bias,
                       const struct conv_geometry *geometry) {
  count(geometry);
  return choose(geometry, CONV_DATA_GRADIENT)->data_gradient(dx, gradient, weight, bias, geometry);
}

int conv_weight_gradient(real *dweight, const real *gradient, const real *x, const struct conv_geometry *geometry) {
  count(geometry);
  return choose(geometry, CONV_WEIGHT_GRADIENT)->weight_gradient(dweight, gradient, x, geometry);
}
