/* Winograd's minimal filtering by Toom and Cook's scheme, along one line: of 4 outputs and a kernel of 2, 3 or 5, with
   5, 6 or 8 products instead of 8, 12 or 20.
   A convolution is a product of polynomials; it is evaluated at the points (0,) ±a, ±b (, ±c) and infinity, where it is
   a product of numbers, and interpolated. In the form of Lavin and Gray ("Fast algorithms for convolutional neural
   networks", CVPR 2016), y = Aᵀ [(G g) ⊙ (Bᵀ d)]: the inputs d go through transform_data (Bᵀ), the kernel through
   transform_kernel (G), the products through transform_sums (Aᵀ). The gradient of the kernel is the adjoint, Gᵀ [(A dy)
   ⊙ (Bᵀ d)]: transform_gradient (A) and transform_kernel_sums (Gᵀ).

   The points decide the rounding (Barabasz, Anderson, Soodhalter and Gregg, "Error analysis and improving the accuracy
   of Winograd convolution for deep neural networks", ACM TOMS 46(4), 2020). Among short binary fractions ±3/8, ±5/4
   have the least of five points, 0, ±5/8, ±3/2 of six, half that of the usual 0, ±1, ±2, and 0, ±1/2, ±1, ±2 of eight. */
#ifndef GLS_KERNELS_CONV_TRANSFORM_H
#define GLS_KERNELS_CONV_TRANSFORM_H

#include "../../base/simd.h"

enum { TRANSFORM_OUTPUTS = 4, TRANSFORM_MOST_POINTS = 8, TRANSFORM_MOST_KERNEL = 5 };

/* Of `points` points, pair p is ±transform_point(points, p); `points` is a constant wherever these are called. Values
   of the pairs stand side by side (+, −), of 0 first (of five points it is none) and of infinity last. */
VECTOR_INLINE int transform_zero(int points) { return points % 2 == 0; }
VECTOR_INLINE int transform_pairs(int points) { return (points - 1) / 2; }
VECTOR_INLINE int transform_place(int points, int pair) { return transform_zero(points) + 2 * pair; }

VECTOR_INLINE real transform_point(int points, int pair) {
  if (points == 5) return pair == 0 ? (real)0.375 : (real)1.25;
  if (points == 6) return pair == 0 ? (real)0.625 : (real)1.5;
  return pair == 0 ? (real)0.5 : pair == 1 ? (real)1 : (real)2;
}

VECTOR_INLINE real transform_squared(int points, int pair, int without) {
  if (pair == without || pair >= transform_pairs(points)) return 0;
  return transform_point(points, pair) * transform_point(points, pair);
}

/* Elementary symmetric polynomial of the squares of all pairs but `without` (-1: none is left out). */
VECTOR_INLINE real transform_symmetric(int points, int without, int degree) {
  real a = transform_squared(points, 0, without), b = transform_squared(points, 1, without),
       c = transform_squared(points, 2, without);
  return degree == 0 ? 1 : degree == 1 ? a + b + c : degree == 2 ? a * b + a * c + b * c : a * b * c;
}

/* The factor of the kernel's values at a pair: 1 / Π (its point − another); without 0 the minus's has another sign. At
   0 with pair -1. */
VECTOR_INLINE real transform_scale(int points, int pair) {
  real product = pair < 0 ? 1 : 2 * transform_point(points, pair);
  if (pair >= 0 && transform_zero(points)) product *= transform_point(points, pair);
#pragma GCC unroll 3
  for (int other = 0; other < transform_pairs(points); other++)
    if (other != pair)
      product *= (pair < 0 ? 0 : transform_squared(points, pair, -1)) - transform_squared(points, other, -1);
  return 1 / product;
}

/* Π (x² − s) over the squares s of all pairs but `without`, its coefficients times from[0], from[2], … */
VECTOR_INLINE vector transform_roots(int points, int without, const vector *from) {
  const int degree = transform_pairs(points) - (without >= 0);
  vector sum = from[2 * degree];
#pragma GCC unroll 3
  for (int k = 1; k <= degree; k++) {
    real coefficient = transform_symmetric(points, without, k);
    sum += (k % 2 ? -coefficient : coefficient) * from[2 * (degree - k)];
  }
  return sum;
}

/* to (points) = Bᵀ from (points) */
VECTOR_INLINE void transform_data(int points, vector *to, const vector *from) {
  const int zero = transform_zero(points);
  if (zero) to[0] = transform_roots(points, -1, from);
#pragma GCC unroll 3
  for (int pair = 0; pair < transform_pairs(points); pair++) {
    vector high = transform_roots(points, pair, from + zero + 1), low = transform_roots(points, pair, from + zero);
    to[transform_place(points, pair)] = high + transform_point(points, pair) * low;
    to[transform_place(points, pair) + 1] = high - transform_point(points, pair) * low;
  }
  to[points - 1] = transform_roots(points, -1, from + zero);
}

/* to (4) = Aᵀ from (points) */
VECTOR_INLINE void transform_sums(int points, vector *to, const vector *from) {
  to[0] = (vector){0};
  if (transform_zero(points)) to[0] = from[0];
  to[3] = from[points - 1];
#pragma GCC unroll 3
  for (int pair = 0; pair < transform_pairs(points); pair++) {
    const real point = transform_point(points, pair), square = point * point;
    const vector *at = from + transform_place(points, pair);
    vector even = at[0] + at[1], odd = at[0] - at[1];
    to[0] += even;
    to[1] = pair == 0 ? point * odd : to[1] + point * odd;
    to[2] = pair == 0 ? square * even : to[2] + square * even;
    to[3] += point * square * odd;
  }
}

/* to (points) = A from (4) */
VECTOR_INLINE void transform_gradient(int points, vector *to, const vector *from) {
  if (transform_zero(points)) to[0] = from[0];
#pragma GCC unroll 3
  for (int pair = 0; pair < transform_pairs(points); pair++) {
    const real point = transform_point(points, pair), square = point * point;
    vector even = from[0] + square * from[2], odd = from[1] + square * from[3];
    to[transform_place(points, pair)] = even + point * odd;
    to[transform_place(points, pair) + 1] = even - point * odd;
  }
  to[points - 1] = from[3];
}

/* to (points) = G from (size = points − 3) */
VECTOR_INLINE void transform_kernel(int points, vector *to, const vector *from) {
  const int size = points - TRANSFORM_OUTPUTS + 1, zero = transform_zero(points);
  if (zero) to[0] = transform_scale(points, -1) * from[0];
#pragma GCC unroll 3
  for (int pair = 0; pair < transform_pairs(points); pair++) {
    const real point = transform_point(points, pair);
    vector part[2] = {{0}, {0}};
    real power = transform_scale(points, pair);
#pragma GCC unroll 5
    for (int k = 0; k < size; k++, power *= point) part[k % 2] += power * from[k];
    to[transform_place(points, pair)] = part[0] + part[1];
    to[transform_place(points, pair) + 1] = zero ? part[0] - part[1] : part[1] - part[0];
  }
  to[points - 1] = from[size - 1];
}

/* to (size = points − 3) = Gᵀ from (points) */
VECTOR_INLINE void transform_kernel_sums(int points, vector *to, const vector *from) {
  const int size = points - TRANSFORM_OUTPUTS + 1, zero = transform_zero(points);
#pragma GCC unroll 5
  for (int k = 0; k < size; k++) to[k] = (vector){0};
  if (zero) to[0] = transform_scale(points, -1) * from[0];
  to[size - 1] += from[points - 1];
#pragma GCC unroll 3
  for (int pair = 0; pair < transform_pairs(points); pair++) {
    const real point = transform_point(points, pair);
    const vector *at = from + transform_place(points, pair);
    vector part[2];
    part[!zero] = at[0] + at[1], part[zero] = at[0] - at[1];
    real power = transform_scale(points, pair);
#pragma GCC unroll 5
    for (int k = 0; k < size; k++, power *= point) to[k] += power * part[k % 2];
  }
}

enum transform { TRANSFORM_DATA, TRANSFORM_SUMS, TRANSFORM_GRADIENT, TRANSFORM_KERNEL, TRANSFORM_KERNEL_SUMS };

VECTOR_INLINE void transform_line(enum transform transform, int points, vector *to, const vector *from) {
  if (transform == TRANSFORM_DATA) transform_data(points, to, from);
  if (transform == TRANSFORM_SUMS) transform_sums(points, to, from);
  if (transform == TRANSFORM_GRADIENT) transform_gradient(points, to, from);
  if (transform == TRANSFORM_KERNEL) transform_kernel(points, to, from);
  if (transform == TRANSFORM_KERNEL_SUMS) transform_kernel_sums(points, to, from);
}

/* A square of vectors: vector (i, j) at data + i · row + j · column. */
struct transform_square {
  real *data;
  int64_t row, column; /* in reals */
};

/* to (outputs × outputs) = T from Tᵀ + plus, from: inputs × inputs */
VECTOR_INLINE void transform_both_ways(enum transform transform, const int points, const int outputs, const int inputs,
                                       struct transform_square to, struct transform_square from, vector plus) {
  vector column[TRANSFORM_MOST_POINTS][TRANSFORM_MOST_POINTS], line[TRANSFORM_MOST_POINTS];
  for (int j = 0; j < inputs; j++) {
#pragma GCC unroll 8
    for (int i = 0; i < inputs; i++) line[i] = *(const vector *)(from.data + i * from.row + j * from.column);
    transform_line(transform, points, column[j], line);
  }
  for (int i = 0; i < outputs; i++) {
    vector result[TRANSFORM_MOST_POINTS];
#pragma GCC unroll 8
    for (int j = 0; j < inputs; j++) line[j] = column[j][i];
    transform_line(transform, points, result, line);
#pragma GCC unroll 8
    for (int j = 0; j < outputs; j++) *(vector *)(to.data + i * to.row + j * to.column) = result[j] + plus;
  }
}

#endif
