/* Newton-Schulz, inside: its coefficients, and the iteration by the matrix unit. */
#ifndef GLS_KERNELS_NEWTON_SCHULZ_H
#define GLS_KERNELS_NEWTON_SCHULZ_H

#include <stdbool.h>
#include <stdint.h>

#include "../../base/real.h"

static const real NEWTON_SCHULZ_A = (real)3.4445, NEWTON_SCHULZ_B = (real)-4.7750, NEWTON_SCHULZ_C = (real)2.0315;

/* x (m×n) from scale · x; false, with nothing done, where there is no matrix unit, little to do, or no memory. */
bool newton_schulz_tiles(real *x, int64_t m, int64_t n, double scale, int iterations);

#endif
