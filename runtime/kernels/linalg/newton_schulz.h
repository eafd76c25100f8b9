/* Newton-Schulz, inside: its coefficients, and the iteration by the matrix unit. */
#ifndef GLS_KERNELS_NEWTON_SCHULZ_H
#define GLS_KERNELS_NEWTON_SCHULZ_H

#include <stdbool.h>
#include <stdint.h>

#include "../../base/real.h"
#include "../../base/status.h"

static const real NEWTON_SCHULZ_A = (real)3.4445, NEWTON_SCHULZ_B = (real)-4.7750, NEWTON_SCHULZ_C = (real)2.0315;

/* Whether there is a matrix unit, and enough for it to do. */
bool newton_schulz_has_tiles(int64_t m, int64_t n);
/* x (m×n) from scale · x, by at least one iteration. */
int newton_schulz_tiles(real *x, int64_t m, int64_t n, double scale, int iterations);

#endif
