/* References: the plain loops that fast kernels are held against. */
#include "reference.h"

/* ---- convolution ---- */

/* Which input tap `tap` of output `at` reads; false when it is padding. */
static bool conv_input(int64_t *input, int64_t at, int64_t tap, const struct conv_geometry *geometry) {
  const struct conv_axis *y = &geometry->y, *z = &geometry->x;
  int64_t channels = geometry->channels, outputs = geometry->groups * geometry->outputs;
  int64_t j = at % z->places, i = at / z->places % y->places, o = at / z->places / y->places % outputs;
  int64_t image = at / z->places / y->places / outputs, group = o / geometry->outputs;
  int64_t c = tap / (y->kernel * z->kernel), ky = tap / z->kernel % y->kernel, kx = tap % z->kernel;
  int64_t from_y = i * y->stride - y->padding + ky * y->dilation;
  int64_t from_x = j * z->stride - z->padding + kx * z->dilation;
  *input = (((image * geometry->groups + group) * channels + c) * y->size + from_y) * z->size + from_x;
  return from_y >= 0 && from_y < y->size && from_x >= 0 && from_x < z->size;
}

static int64_t conv_outputs(const struct conv_geometry *geometry) {
  return geometry->images * geometry->groups * geometry->outputs * geometry->y.places * geometry->x.places;
}

/* Of output `at` its channel. */
static int64_t conv_channel(int64_t at, const struct conv_geometry *geometry) {
  return at / (geometry->y.places * geometry->x.places) % (geometry->groups * geometry->outputs);
}

void conv_naive_forward(double *output, const real *x, const real *weight, const real *bias,
                        const struct conv_geometry *geometry) {
  int64_t taps = geometry->channels * geometry->y.kernel * geometry->x.kernel, input;
  for (int64_t at = 0; at < conv_outputs(geometry); at++) {
    int64_t channel = conv_channel(at, geometry);
    output[at] = bias ? (double)bias[channel] : 0;
    for (int64_t tap = 0; tap < taps; tap++)
      if (conv_input(&input, at, tap, geometry)) output[at] += (double)x[input] * (double)weight[channel * taps + tap];
  }
}

void conv_naive_gradients(double *dx, double *dweight, const real *gradient, const real *x, const real *weight,
                          const real *bias, const struct conv_geometry *geometry) {
  int64_t taps = geometry->channels * geometry->y.kernel * geometry->x.kernel, input;
  int64_t area = geometry->y.size * geometry->x.size, channels = geometry->groups * geometry->channels;
  for (int64_t i = 0; i < geometry->images * channels * area; i++) dx[i] = (double)bias[i / area % channels];
  for (int64_t i = 0; i < geometry->groups * geometry->outputs * taps; i++) dweight[i] = 0;
  for (int64_t at = 0; at < conv_outputs(geometry); at++)
    for (int64_t tap = 0; tap < taps; tap++) {
      int64_t parameter = conv_channel(at, geometry) * taps + tap;
      if (!conv_input(&input, at, tap, geometry)) continue;
      dx[input] += (double)gradient[at] * (double)weight[parameter];
      dweight[parameter] += (double)gradient[at] * (double)x[input];
    }
}

/* ---- products ---- */

void gemm_naive(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
                int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc) {
  for (int64_t i = 0; i < m; i++) {
    for (int64_t j = 0; j < n; j++) {
      double sum = 0;
      for (int64_t l = 0; l < k; l++)
        sum += (double)(transpose_a ? a[l * lda + i] : a[i * lda + l]) *
               (double)(transpose_b ? b[j * ldb + l] : b[l * ldb + j]);
      c[i * ldc + j] = (real)((double)alpha * sum + (beta == 0 ? 0 : (double)beta * (double)c[i * ldc + j]));
    }
  }
}
