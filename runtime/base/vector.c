/* Vectors: dot product and linear combination. */
#include "vector.h"

#include "parallel.h"

enum { PIECES = 64 };

double vector_dot(const real *a, const real *b, int64_t count) {
  double partial[PIECES] = {0};
  int64_t length = ceil_div(count, PIECES);
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
  for (int piece = 0; piece < PIECES; piece++) {
    int64_t start = piece * length, end = min(count, start + length);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = start; i < end; i++) sum += (double)a[i] * (double)b[i];
    partial[piece] = sum;
  }
  double sum = 0;
  for (int piece = 0; piece < PIECES; piece++) sum += partial[piece];
  return sum;
}

void vector_combine(real *y, real scale_y, const real *x, real scale_x, int64_t count) {
  if (scale_y == 0) {
#pragma omp parallel for simd schedule(static) if (count > PARALLEL_THRESHOLD)
    for (int64_t i = 0; i < count; i++) y[i] = scale_x * x[i];
  } else {
#pragma omp parallel for simd schedule(static) if (count > PARALLEL_THRESHOLD)
    for (int64_t i = 0; i < count; i++) y[i] = scale_y * y[i] + scale_x * x[i];
  }
}
