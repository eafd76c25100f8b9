/* SIMD: vectors of as many reals as one register holds, for kernels that keep their sums in registers
   (GCC's vector extensions: the same source for any instruction set). A file that includes this contracts
   a · b + c into one fused operation where the processor has it. */
#ifndef GLS_BASE_SIMD_H
#define GLS_BASE_SIMD_H

#include <stdint.h>
#include <tgmath.h>

#include "real.h"

#if defined(__AVX512F__) && !defined(GLS_DOUBLE)
#include <float.h>
#include <immintrin.h>
#endif

#pragma GCC optimize("fp-contract=fast")

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

/* Sums held at once, so that with operands beside them they fill the registers (32 with AVX-512, else 16): a power of
   two, and the most. */
#if defined(__AVX512F__)
enum { VECTOR_SUMS = 16, VECTOR_MOST_SUMS = 24 };
#else
enum { VECTOR_SUMS = 8, VECTOR_MOST_SUMS = 12 };
#endif

enum { VECTOR_LANES = VECTOR_BYTES / sizeof(real) };

#define VECTOR_INLINE static inline __attribute__((always_inline))

typedef real vector __attribute__((vector_size(VECTOR_BYTES), may_alias));
/* The same at any address. */
typedef real vector_unaligned __attribute__((vector_size(VECTOR_BYTES), may_alias, aligned(sizeof(real))));

#ifdef GLS_DOUBLE
typedef int64_t vector_order __attribute__((vector_size(VECTOR_BYTES)));
#else
typedef int32_t vector_order __attribute__((vector_size(VECTOR_BYTES)));
#endif

/* Square roots within a unit in the last place; in AVX-512's form, infinity, subnormals and zero are clamped to the
   nearest normal number. Zen 4's unit for roots takes two dozen cycles for a vector, this a few. */
VECTOR_INLINE vector vector_sqrt(vector x) {
#if VECTOR_BYTES == 64 && !defined(GLS_DOUBLE)
  x = (vector)_mm512_max_ps(_mm512_set1_ps(FLT_MIN), (__m512)x); /* NaN stays */
  x = (vector)_mm512_min_ps(_mm512_set1_ps(FLT_MAX), (__m512)x);
  vector inverse = (vector)_mm512_rsqrt14_ps((__m512)x), root = x * inverse;
  return root + (x - root * root) * (inverse * 0.5f); /* Newton's step */
#else
  for (int i = 0; i < VECTOR_LANES; i++) x[i] = sqrt(x[i]);
  return x;
#endif
}

/* Between −bound and bound; NaN stays. */
VECTOR_INLINE vector vector_clamp(vector x, real bound) {
#if VECTOR_BYTES == 64 && !defined(GLS_DOUBLE)
  x = (vector)_mm512_max_ps(_mm512_set1_ps(-bound), (__m512)x);
  return (vector)_mm512_min_ps(_mm512_set1_ps(bound), (__m512)x);
#else
  for (int i = 0; i < VECTOR_LANES; i++) x[i] = x[i] > bound ? bound : x[i] < -bound ? -bound : x[i];
  return x;
#endif
}

/* Lanes of a pair (x, y) whose blocks of `bit` lanes are exchanged: x keeps its even blocks and takes y's, y the
   odd. */
#define VECTOR_LOW(lane, bit) ((lane) & (bit) ? VECTOR_LANES + (lane) - (bit) : (lane))
#define VECTOR_HIGH(lane, bit) ((lane) & (bit) ? VECTOR_LANES + (lane) : (lane) + (bit))
#define VECTOR_ORDER2(order, first, bit) order(first, bit), order((first) + 1, bit)
#define VECTOR_ORDER4(order, first, bit) VECTOR_ORDER2(order, first, bit), VECTOR_ORDER2(order, (first) + 2, bit)
#define VECTOR_ORDER8(order, first, bit) VECTOR_ORDER4(order, first, bit), VECTOR_ORDER4(order, (first) + 4, bit)
#define VECTOR_ORDER16(order, first, bit) VECTOR_ORDER8(order, first, bit), VECTOR_ORDER8(order, (first) + 8, bit)

#if VECTOR_BYTES == 64 && !defined(GLS_DOUBLE)
#define VECTOR_ORDER(order, bit) \
  { VECTOR_ORDER16(order, 0, bit) }
#elif VECTOR_BYTES == 64 || (VECTOR_BYTES == 32 && !defined(GLS_DOUBLE))
#define VECTOR_ORDER(order, bit) \
  { VECTOR_ORDER8(order, 0, bit) }
#elif VECTOR_BYTES == 32 || !defined(GLS_DOUBLE)
#define VECTOR_ORDER(order, bit) \
  { VECTOR_ORDER4(order, 0, bit) }
#else
#define VECTOR_ORDER(order, bit) \
  { VECTOR_ORDER2(order, 0, bit) }
#endif

/* A square of VECTOR_LANES vectors becomes its transpose, by exchanging ever smaller blocks. */
VECTOR_INLINE void vector_exchange(vector *rows, int bit, vector_order low, vector_order high) {
#pragma GCC unroll 16
  for (int i = 0; i < VECTOR_LANES; i++) {
    if (i & bit) continue;
    vector x = rows[i], y = rows[i + bit];
    rows[i] = __builtin_shuffle(x, y, low);
    rows[i + bit] = __builtin_shuffle(x, y, high);
  }
}

VECTOR_INLINE void vector_transpose(vector *rows) {
#define VECTOR_STAGE(bit) \
  vector_exchange(rows, bit, (vector_order)VECTOR_ORDER(VECTOR_LOW, bit), (vector_order)VECTOR_ORDER(VECTOR_HIGH, bit))
  if (VECTOR_LANES > 8) VECTOR_STAGE(8);
  if (VECTOR_LANES > 4) VECTOR_STAGE(4);
  if (VECTOR_LANES > 2) VECTOR_STAGE(2);
  VECTOR_STAGE(1);
#undef VECTOR_STAGE
}

/* to (columns × rows, to_pitch apart) = transpose of from (rows × columns, from_pitch apart). */
VECTOR_INLINE void vector_transpose_matrix(real *to, int64_t to_pitch, const real *from, int64_t from_pitch,
                                           int64_t rows, int64_t columns) {
  int64_t whole_rows = rows - rows % VECTOR_LANES, whole_columns = columns - columns % VECTOR_LANES;
  for (int64_t i = 0; i < whole_rows; i += VECTOR_LANES)
    for (int64_t j = 0; j < whole_columns; j += VECTOR_LANES) {
      vector square[VECTOR_LANES];
#pragma GCC unroll 16
      for (int64_t k = 0; k < VECTOR_LANES; k++)
        square[k] = *(const vector_unaligned *)(from + (i + k) * from_pitch + j);
      vector_transpose(square);
#pragma GCC unroll 16
      for (int64_t k = 0; k < VECTOR_LANES; k++) *(vector_unaligned *)(to + (j + k) * to_pitch + i) = square[k];
    }
  for (int64_t j = whole_columns; j < columns; j++)
    for (int64_t i = 0; i < whole_rows; i++) to[j * to_pitch + i] = from[i * from_pitch + j];
  for (int64_t i = whole_rows; i < rows; i++)
    for (int64_t j = 0; j < columns; j++) to[j * to_pitch + i] = from[i * from_pitch + j];
}

#endif
