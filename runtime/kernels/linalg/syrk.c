/* Gram matrices: the lower triangle of A Aᵀ or Aᵀ A, in blocks of rows that threads share. */
#include "../../base/parallel.h"
#include "gemm.h"

void syrk(bool transpose, int64_t n, int64_t k, real alpha, const real *a, int64_t lda, real beta, real *c,
          int64_t ldc) {
  struct gemm_product product = {transpose, !transpose, n, n, k, alpha, a, lda, a, lda, beta, c, ldc, .lower = true};
  if (gemm_product(&product)) return;
  int64_t block = n > 512 ? 128 : 64;
  int64_t blocks = (n + block - 1) / block;
#pragma omp parallel for schedule(dynamic) if (!omp_in_parallel() && n * n * k > 65536)
  for (int64_t i = 0; i < blocks; i++) {
    int64_t start = (blocks - 1 - i) * block; /* the longest rows first */
    int64_t size = min(block, n - start);
    const real *rows = a + (transpose ? start : start * lda);
    gemm(transpose, !transpose, size, start + size, k, alpha, rows, lda, a, lda, beta, c + start * ldc, ldc);
  }
}
