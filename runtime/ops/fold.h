/* Fold: the engine of reductions (fold.c), for reduce.c and for vjps that sum. */
#ifndef GLS_OPS_FOLD_H
#define GLS_OPS_FOLD_H

#include "../tensor/tensor.h"

/* DISTANCES: x − shift; SQUARES: (x − shift)²; EQUAL: how many elements are shift (NaN is equal to NaN).
   NaN wins in HIGHEST and LOWEST. */
enum fold_kind { FOLD_SUM, FOLD_DISTANCES, FOLD_SQUARES, FOLD_EQUAL, FOLD_HIGHEST, FOLD_LOWEST };

struct fold_plan {
  bool reduced[TENSOR_MAX_RANK];
  int64_t count;     /* elements that make one result */
  struct shape kept; /* x's shape, with 1 where it is reduced */
};

/* result[o] = factor · kind over the elements of x that fold into o; results in the order of the kept dimensions.
   shift: one for each result, or NULL for zeros. The fold of nothing is 0, -inf for HIGHEST, inf for LOWEST. */
int fold(enum fold_kind kind, const struct tensor *x, const struct fold_plan *plan, const real *shift, double factor,
         real *result);

/* kind over n neighbours. Exact to the rounding of a few thousand reals: the caller adds up longer spans. */
double fold_span(enum fold_kind kind, const real *x, int64_t n, real shift);

/* What inner loops take at a time. */
enum { FOLD_CHUNK = 1024 };

/* Sums of neighbours are kept apart by lanes, in vectors wider than some processors' registers; functions that take or
   give them are inlined everywhere, so that how such are passed does not matter. */
#pragma GCC diagnostic ignored "-Wpsabi"
typedef real fold_lanes __attribute__((vector_size(64), aligned(sizeof(real)), may_alias));
enum { FOLD_LANES = sizeof(fold_lanes) / sizeof(real) };

/* What FOLD_LANES reals add to a SUM, DISTANCES or SQUARES; kind is a constant where this is inlined. */
static inline __attribute__((always_inline)) fold_lanes fold_lanes_at(enum fold_kind kind, const real *x, real shift) {
  fold_lanes part = *(const fold_lanes *)x;
  if (kind != FOLD_SUM) part -= shift;
  if (kind == FOLD_SQUARES) part *= part;
  return part;
}

static inline bool fold_same(real a, real b) { return a == b || (a != a && b != b); }

#endif
