/* Cells: one row of one time. Gates in PyTorch's order: of the LSTM input, forget, cell, output; of the GRU reset,
   update, new. */
#include <string.h>

#include "../../base/vector_math.h"
#include "recurrent.h"

static inline real sigmoid(real x) { return 1 / (1 + vector_exp(-x)); }

/* ---- LSTM: c = f c + i g, h = o tanh c; i, f, o sigmoids, g a tanh of x + u; kept: i, f, g, o ---- */

static void lstm_forward(real *restrict state, real *restrict kept, const real *restrict x, const real *restrict u,
                         const real *restrict before, int64_t n) {
  const real *restrict old = before + n;
#pragma omp simd
  for (int64_t k = 0; k < n; k++) {
    real i = sigmoid(x[k] + u[k]), f = sigmoid(x[n + k] + u[n + k]);
    real g = vector_tanh(x[2 * n + k] + u[2 * n + k]), o = sigmoid(x[3 * n + k] + u[3 * n + k]);
    real c = f * old[k] + i * g;
    kept[k] = i, kept[n + k] = f, kept[2 * n + k] = g, kept[3 * n + k] = o;
    state[n + k] = c;
    state[k] = o * vector_tanh(c);
  }
}

static void lstm_backward(real *restrict dx, real *restrict d, const real *restrict kept, const real *restrict state,
                          const real *restrict before, int64_t n) {
  const real *restrict old = before + n;
#pragma omp simd
  for (int64_t k = 0; k < n; k++) {
    real i = kept[k], f = kept[n + k], g = kept[2 * n + k], o = kept[3 * n + k], c = vector_tanh(state[n + k]);
    real dh = d[k], dc = d[n + k] + dh * o * (1 - c * c);
    dx[k] = dc * g * i * (1 - i);
    dx[n + k] = dc * old[k] * f * (1 - f);
    dx[2 * n + k] = dc * i * (1 - g * g);
    dx[3 * n + k] = dh * c * o * (1 - o);
    d[k] = 0;
    d[n + k] = dc * f;
  }
}

static void lstm_tangent(real *restrict t, const real *restrict tx, const real *restrict tu, const real *restrict kept,
                         const real *restrict state, const real *restrict before, int64_t n) {
  const real *restrict old = before + n;
#pragma omp simd
  for (int64_t k = 0; k < n; k++) {
    real i = kept[k], f = kept[n + k], g = kept[2 * n + k], o = kept[3 * n + k], c = vector_tanh(state[n + k]);
    real ti = (tx[k] + tu[k]) * i * (1 - i), tf = (tx[n + k] + tu[n + k]) * f * (1 - f);
    real tg = (tx[2 * n + k] + tu[2 * n + k]) * (1 - g * g), to = (tx[3 * n + k] + tu[3 * n + k]) * o * (1 - o);
    real tc = tf * old[k] + f * t[n + k] + ti * g + i * tg;
    t[n + k] = tc;
    t[k] = to * c + o * (1 - c * c) * tc;
  }
}

const struct recurrent_cell recurrent_lstm = {4, 2, lstm_forward, lstm_backward, NULL, lstm_tangent};

/* ---- GRU: h = (1 − z) n + z h; r, z sigmoids of x + u, n = tanh(x + r u); kept: r, z, n, u of n ---- */

static void gru_forward(real *restrict state, real *restrict kept, const real *restrict x, const real *restrict u,
                        const real *restrict before, int64_t n) {
#pragma omp simd
  for (int64_t k = 0; k < n; k++) {
    real r = sigmoid(x[k] + u[k]), z = sigmoid(x[n + k] + u[n + k]), m = u[2 * n + k];
    real new = vector_tanh(x[2 * n + k] + r * m);
    kept[k] = r, kept[n + k] = z, kept[2 * n + k] = new, kept[3 * n + k] = m;
    state[k] = new + z *(before[k] - new);
  }
}

static void gru_backward(real *restrict dx, real *restrict d, const real *restrict kept, const real *restrict state,
                         const real *restrict before, int64_t n) {
  (void)state;
#pragma omp simd
  for (int64_t k = 0; k < n; k++) {
    real r = kept[k], z = kept[n + k], new = kept[2 * n + k], m = kept[3 * n + k], dh = d[k];
    real dnew = dh * (1 - z) * (1 - new *new);
    dx[k] = dnew * m * r * (1 - r);
    dx[n + k] = dh * (before[k] - new) * z * (1 - z);
    dx[2 * n + k] = dnew;
    d[k] = dh * z;
  }
}

static void gru_inner(real *restrict du, const real *restrict dx, const real *restrict kept, int64_t n) {
  memcpy(du, dx, 2 * (size_t)n * sizeof(real));
#pragma omp simd
  for (int64_t k = 0; k < n; k++) du[2 * n + k] = dx[2 * n + k] * kept[k];
}

static void gru_tangent(real *restrict t, const real *restrict tx, const real *restrict tu, const real *restrict kept,
                        const real *restrict state, const real *restrict before, int64_t n) {
  (void)state;
#pragma omp simd
  for (int64_t k = 0; k < n; k++) {
    real r = kept[k], z = kept[n + k], new = kept[2 * n + k], m = kept[3 * n + k];
    real tr = (tx[k] + tu[k]) * r * (1 - r), tz = (tx[n + k] + tu[n + k]) * z * (1 - z);
    real tnew = (tx[2 * n + k] + tr * m + r * tu[2 * n + k]) * (1 - new *new);
    t[k] = tnew * (1 - z) + z * t[k] + tz * (before[k] - new);
  }
}

const struct recurrent_cell recurrent_gru = {3, 1, gru_forward, gru_backward, gru_inner, gru_tangent};
