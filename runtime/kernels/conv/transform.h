/* Winograd's minimal filtering by Toom and Cook's scheme, along one line: 4 outputs of a filter of 3 or 5 taps with 6
   or 8 products instead of 12 or 20.
   A convolution is a product of polynomials; it is evaluated at the points 0, ±a, ±b (, ±c) and infinity, where it is a
   product of numbers, and interpolated. In the form of Lavin and Gray ("Fast algorithms for convolutional neural
   networks", CVPR 2016), y = Aᵀ [(G g) ⊙ (Bᵀ d)]: input transform Bᵀ, filter transform G, output transform Aᵀ. The
   gradient of the filter is the adjoint, Gᵀ [(A dy) ⊙ (Bᵀ d)].

   The points decide the rounding (Barabasz, Anderson, Soodhalter and Gregg, "Error analysis and improving the accuracy
   of Winograd convolution for deep neural networks", ACM TOMS 46(4), 2020). Among short binary fractions ±5/8, ±3/2
   have the least of six points, half that of the usual ±1, ±2, and ±1/2, ±1, ±2 of eight. */
#ifndef GLS_KERNELS_CONV_TRANSFORM_H
#define GLS_KERNELS_CONV_TRANSFORM_H

#include <stdbool.h>

#include "../../base/simd.h"

enum { TRANSFORM_OUTPUTS = 4, TRANSFORM_MOST_POINTS = 8, TRANSFORM_MOST_TAPS = 5 };

/* Of `points` points, pair p is ±transform_point(points, p); `points` is a constant wherever these are called. Values
   stand in the order 0, +a, −a, +b, −b, …, infinity. */
VECTOR_INLINE int transform_pairs(int points) { return (points - 1) / 2; }

VECTOR_INLINE real transform_point(int points, int pair) {
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

/* The factor of the filter's values at a pair: 1 / Π (its point − another). At 0 with pair -1. */
VECTOR_INLINE real transform_scale(int points, int pair) {
  real product = pair < 0 ? 1 : 2 * transform_point(points, pair);
  if (pair >= 0) product *= transform_point(points, pair);
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
VECTOR_INLINE void transform_input(int points, vector *to, const vector *from) {
  to[0] = transform_roots(points, -1, from);
#pragma GCC unroll 3
  for (int pair = 0; pair < transform_pairs(points); pair++) {
    vector high = transform_roots(points, pair, from + 2), low = transform_roots(points, pair, from + 1);
    to[1 + 2 * pair] = high + transform_point(points, pair) * low;
    to[2 + 2 * pair] = high - transform_point(points, pair) * low;
  }
  to[points - 1] = transform_roots(points, -1, from + 1);
}

/* to (4) = Aᵀ from (points) */
VECTOR_INLINE void transform_output(int points, vector *to, const vector *from) {
  to[0] = from[0];
  to[3] = from[points - 1];
#pragma GCC unroll 3
  for (int pair = 0; pair < transform_pairs(points); pair++) {
    const real point = transform_point(points, pair), square = point * point;
    vector even = from[1 + 2 * pair] + from[2 + 2 * pair], odd = from[1 + 2 * pair] - from[2 + 2 * pair];
    to[0] += even;
    to[1] = pair == 0 ? point * odd : to[1] + point * odd;
    to[2] = pair == 0 ? square * even : to[2] + square * even;
    to[3] += point * square * odd;
  }
}

/* to (points) = A from (4) */
VECTOR_INLINE void transform_output_adjoint(int points, vector *to, const vector *from) {
  to[0] = from[0];
#pragma GCC unroll 3
  for (int pair = 0; pair < transform_pairs(points); pair++) {
    const real point = transform_point(points, pair), square = point * point;
    vector even = from[0] + square * from[2], odd = from[1] + square * from[3];
    to[1 + 2 * pair] = even + point * odd;
    to[2 + 2 * pair] = even - point * odd;
  }
  to[points - 1] = from[3];
}

/* to (points) = G from (taps = points − 3) */
VECTOR_INLINE void transform_filter(int points, vector *to, const vector *from) {
  const int taps = points - TRANSFORM_OUTPUTS + 1;
  to[0] = transform_scale(points, -1) * from[0];
#pragma GCC unroll 3
  for (int pair = 0; pair < transform_pairs(points); pair++) {
    const real point = transform_point(points, pair);
    vector part[2] = {{0}, {0}};
    real power = transform_scale(points, pair);
#pragma GCC unroll 5
    for (int k = 0; k < taps; k++, power *= point) part[k % 2] += power * from[k];
    to[1 + 2 * pair] = part[0] + part[1];
    to[2 + 2 * pair] = part[0] - part[1];
  }
  to[points - 1] = from[taps - 1];
}

/* to (taps = points − 3) = Gᵀ from (points) */
VECTOR_INLINE void transform_filter_adjoint(int points, vector *to, const vector *from) {
  const int taps = points - TRANSFORM_OUTPUTS + 1;
#pragma GCC unroll 5
  for (int k = 0; k < taps; k++) to[k] = (vector){0};
  to[0] = transform_scale(points, -1) * from[0];
  to[taps - 1] += from[points - 1];
#pragma GCC unroll 3
  for (int pair = 0; pair < transform_pairs(points); pair++) {
    const real point = transform_point(points, pair);
    vector part[2] = {from[1 + 2 * pair] + from[2 + 2 * pair], from[1 + 2 * pair] - from[2 + 2 * pair]};
    real power = transform_scale(points, pair);
#pragma GCC unroll 5
    for (int k = 0; k < taps; k++, power *= point) to[k] += power * part[k % 2];
  }
}

enum transform {
  TRANSFORM_INPUT,
  TRANSFORM_OUTPUT,
  TRANSFORM_OUTPUT_ADJOINT,
  TRANSFORM_FILTER,
  TRANSFORM_FILTER_ADJOINT
};

VECTOR_INLINE void transform_line(enum transform transform, int points, vector *to, const vector *from) {
  if (transform == TRANSFORM_INPUT) transform_input(points, to, from);
  if (transform == TRANSFORM_OUTPUT) transform_output(points, to, from);
  if (transform == TRANSFORM_OUTPUT_ADJOINT) transform_output_adjoint(points, to, from);
  if (transform == TRANSFORM_FILTER) transform_filter(points, to, from);
  if (transform == TRANSFORM_FILTER_ADJOINT) transform_filter_adjoint(points, to, from);
}

/* A square of vectors: vector (i, j) at data + i · row + j · column. */
struct transform_square {
  real *data;
  int64_t row, column; /* in reals */
};

/* to (outputs × outputs) = T from Tᵀ + plus, from: inputs × inputs */
VECTOR_INLINE void transform_sides(enum transform transform, const int points, const int outputs, const int inputs,
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

/* The two numbers of points in use as constants. */
VECTOR_INLINE void transform_both_ways(enum transform transform, int points, struct transform_square to,
                                       struct transform_square from, vector plus) {
  const bool output = transform == TRANSFORM_OUTPUT, filter = transform == TRANSFORM_FILTER;
  if (points == 6)
    transform_sides(transform, 6, output ? 4 : filter ? 6 : 3, filter ? 3 : 6, to, from, plus);
  else
    transform_sides(transform, 8, output ? 4 : filter ? 8 : 5, filter ? 5 : 8, to, from, plus);
}

#endif
