/* Vectors: the few loops over long arrays that several folders share. Parallel; pieces are fixed by the length, so
   that a sum does not depend on the number of threads. */
#ifndef GLS_BASE_VECTOR_H
#define GLS_BASE_VECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "real.h"

/* Σ a_i b_i, summed in double: of floats no product overflows, so that norms of the largest gradients are right. */
double vector_dot(const real *a, const real *b, int64_t count);
/* y = scale_y · y + scale_x · x; y is not read when scale_y is 0. */
void vector_combine(real *y, real scale_y, const real *x, real scale_x, int64_t count);

#endif
