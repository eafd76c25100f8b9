/* References: what the fast kernels compute, as it is written down, one loop per index; sums in double. */
#ifndef GLS_TESTS_REFERENCE_H
#define GLS_TESTS_REFERENCE_H

#include <stdbool.h>

#include "../../runtime/base/real.h"
#include "../../runtime/kernels/conv/conv.h"

/* ---- convolution: kernels/conv/conv.h ---- */
/* output = x * weight + bias; bias may be NULL. */
void conv_naive_forward(double *output, const real *x, const real *weight, const real *bias,
                        const struct conv_geometry *geometry);
/* dx = the gradient of the data + bias (one a channel); dweight = that of the weight. */
void conv_naive_gradients(double *dx, double *dweight, const real *gradient, const real *x, const real *weight,
                          const real *bias, const struct conv_geometry *geometry);

#endif
