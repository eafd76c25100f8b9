/* References: what the fast kernels compute, as it is written down, one loop per index; sums in double. */
#ifndef GLS_TESTS_REFERENCE_H
#define GLS_TESTS_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "../../runtime/base/real.h"
#include "../../runtime/kernels/conv/conv.h"

/* ---- convolution: kernels/conv/conv.h ---- */
/* output = x * weight + bias; bias may be NULL. */
void conv_naive_forward(double *output, const real *x, const real *weight, const real *bias,
                        const struct conv_geometry *geometry);
/* dx = the gradient of the data + bias (one a channel); dweight = that of the weight. */
void conv_naive_gradients(double *dx, double *dweight, const real *gradient, const real *x, const real *weight,
                          const real *bias, const struct conv_geometry *geometry);

/* ---- products: kernels/linalg/gemm.c ---- */
/* As gemm. */
void gemm_naive(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
                int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc);

#endif
