/* Loss: what losses (loss.c, cross_entropy.c) share. Sums are taken block by block, blocks of fixed size, so that they
   do not depend on the number of threads. The mean of nothing is NaN, as elsewhere. */
#ifndef GLS_OPS_LOSS_H
#define GLS_OPS_LOSS_H

#include <stdint.h>

#include "../base/memory.h"
#include "../base/real.h"

enum { LOSS_BLOCK = 2048 };

/* Sum of the blocks' sums, in their order; gives partial back. */
static inline double loss_total(double *partial, int64_t blocks) {
  double total = 0;
  for (int64_t i = 0; i < blocks; i++) total += partial[i];
  memory_release(partial);
  return total;
}

static inline real loss_dot(const real *a, const real *b, int64_t count) {
  real sum = 0;
#pragma omp simd simdlen(16) reduction(+ : sum)
  for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
  return sum;
}

#endif
