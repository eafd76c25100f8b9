/* Cholesky: A = L Lᵀ by halves, so that nearly all of its n³/3 multiplications are products:

     A = [P .; Q R]:   P = L Lᵀ,   Q := Q L⁻ᵀ,   R := R − Q Qᵀ,   R = L' L'ᵀ

   Kept by the bench's row "MLP step, GLS, batch 250": 2.0 times as fast as spotrf of OpenBLAS 0.3.21 with its AVX-512
   kernels at 250 rows, 1.5 at 1000 (Intel Xeon, one thread, shared machine); and it is the same on any number of
   threads.
   Source: Gustavson, "Recursion leads to automatic variable blocking for dense linear-algebra algorithms", IBM Journal
   of Research and Development 41(6), 1997. */
#include <tgmath.h>

#include "../../base/integer.h"
#include "../../base/profile.h"
#include "linalg.h"

enum { WHOLE_MOST = 64 /* rows that are not cut in two */ };

/* Column by column; every column is subtracted from the rest at once. */
static bool factorise_whole(real *a, int64_t n, int64_t stride) {
  real column[WHOLE_MOST];
  for (int64_t k = 0; k < n; k++) {
    real pivot = a[k * stride + k];
    if (!(pivot > 0)) return false; /* NaN too */
    pivot = sqrt(pivot);
    a[k * stride + k] = pivot;
    for (int64_t i = k + 1; i < n; i++) column[i] = a[i * stride + k] /= pivot;
    for (int64_t i = k + 1; i < n; i++) {
      real *row = a + i * stride, weight = column[i];
#pragma omp simd
      for (int64_t j = k + 1; j <= i; j++) row[j] -= weight * column[j];
    }
  }
  return true;
}

static bool factorise(real *a, int64_t n, int64_t stride) {
  if (n <= WHOLE_MOST) {
    profile_count((double)(n * n * n) / 3, (double)(n * n) * (double)sizeof(real));
    return factorise_whole(a, n, stride);
  }
  int64_t half = round_up(n / 2, n > 2 * WHOLE_MOST ? WHOLE_MOST : 16);
  real *below = a + half * stride, *rest = below + half;
  if (!factorise(a, half, stride)) return false;
  lower_solve_rows(a, half, stride, below, stride, n - half);
  syrk(false, n - half, half, -1, below, stride, 1, rest, stride);
  return factorise(rest, n - half, stride);
}

bool cholesky(real *a, int64_t n) { return factorise(a, n, n); }
