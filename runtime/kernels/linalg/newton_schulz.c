/* Newton-Schulz: the nearest orthogonal matrix, nearly, by products alone. X := aX + (bXXᵀ + c(XXᵀ)²) X from X / ‖X‖
   drives all singular values to about 1 (0.7 to 1.2; the coefficients are chosen for the slope at 0). Source: Jordan,
   Jin, Boza, You, Cesista, Newhouse and Bernstein, "Muon: An optimizer for hidden layers in neural networks", 2024. */
#include <math.h>
#include <string.h>

#include "../../base/memory.h"
#include "../../base/vector.h"
#include "linalg.h"

static const real A = (real)3.4445, B = (real)-4.7750, C = (real)2.0315;

/* The lower triangle (n × n) onto the upper one. */
static void mirror(real *a, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < i; j++) a[j * n + i] = a[i * n + j];
}

int newton_schulz(real *x, int64_t m, int64_t n, int iterations) {
  if (m == 0 || n == 0) return STATUS_OK;
  bool tall = m > n; /* then XᵀX is the smaller square, and multiplies from the right */
  int64_t side = tall ? n : m;
  double norm = sqrt(vector_dot(x, x, m * n));
  vector_combine(x, (real)(1 / (norm + 1e-7)), x, 0, m * n);
  real *gram = memory_acquire((size_t)(2 * side * side + m * n) * sizeof *gram);
  if (!gram) return STATUS_ERROR;
  real *square = gram + side * side, *next = square + side * side;
  for (int i = 0; i < iterations; i++) {
    syrk(tall, side, tall ? m : n, 1, x, n, 0, gram, side);
    mirror(gram, side);
    memcpy(square, gram, (size_t)(side * side) * sizeof *gram);
    gemm(false, false, side, side, side, C, gram, side, gram, side, B, square, side);
    memcpy(next, x, (size_t)(m * n) * sizeof *next);
    if (tall)
      gemm(false, false, m, n, n, 1, x, n, square, n, A, next, n);
    else
      gemm(false, false, m, n, m, 1, square, m, x, n, A, next, n);
    memcpy(x, next, (size_t)(m * n) * sizeof *x);
  }
  memory_release(gram);
  return STATUS_OK;
}
