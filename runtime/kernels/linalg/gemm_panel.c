/* GEMM by panels: many small products whose right operand is packed once, by the caller. On AVX-512 the micro-kernels
   (gemm_kernel.h) alone; elsewhere each panel is BLAS's.

   Kept by the bench's rows "causal attention 16×4×256×64" and "LSTM 2×128, 50 time steps, batch 50". */
#include <string.h>

#include "gemm.h"
#include "gemm_kernel.h"
#include "../../base/integer.h"

void gemm_panel(real *c, int64_t ldc, const real *left, int64_t left_step, int64_t rows, const real *right,
                int64_t columns, int64_t depth, real beta) {
#if VECTOR_BYTES == 64
  int64_t count = ceil_div(rows, GEMM_ROWS);
  for (int64_t i = 0; i < count; i++) {
    int64_t row = rows * i / count, end = rows * (i + 1) / count;
    real *place = c + row * ldc;
    struct gemm_tile tile = {.depth = depth, .left = left + row, .left_step = left_step, .right = right, .alpha = 1};
    tile.c = place, tile.ldc = ldc, tile.beta = beta, tile.base = place, tile.ldbase = ldc;
    if (columns == GEMM_COLUMNS)
      gemm_kernels[GEMM_PLAIN][end - row](&tile);
    else
      gemm_edge(end - row, columns, &tile);
  }
#else
  gemm(true, false, rows, columns, depth, 1, left, left_step, right, GEMM_COLUMNS, beta, c, ldc);
#endif
}

int64_t gemm_packed_reals(int64_t depth, int64_t columns) { return depth * round_up(columns, GEMM_COLUMNS); }

void gemm_pack(real *to, bool transpose, const real *b, int64_t ldb, int64_t columns, int64_t depth) {
#if VECTOR_BYTES == 64
  const struct gemm_operand right = {b, columns, transpose ? ldb : 1, transpose ? 1 : ldb};
  gemm_pack_right(to, &right, 0, columns, 0, depth);
#else
  for (int64_t column = 0; column < columns; column += GEMM_COLUMNS)
    for (int64_t k = 0; k < depth; k++)
      for (int64_t j = 0; j < GEMM_COLUMNS; j++) {
        int64_t at = column + j;
        *to++ = at >= columns ? 0 : transpose ? b[at * ldb + k] : b[k * ldb + at];
      }
#endif
}

int64_t gemm_packed_scratch(int64_t depth) { return round_up(GEMM_ROWS * depth + VECTOR_LANES, VECTOR_LANES); }

void gemm_packed(real *c, int64_t ldc, const real *a, int64_t lda, int64_t rows, const real *packed, int64_t columns,
                 int64_t depth, real beta, real *scratch) {
#if VECTOR_BYTES == 64
  const struct gemm_operand left = {a, rows, lda, 1};
  int64_t count = ceil_div(rows, GEMM_ROWS);
  for (int64_t i = 0; i < count; i++) {
    int64_t row = rows * i / count, height = rows * (i + 1) / count - row;
    gemm_pack_left(scratch, &left, row, height, 0, depth);
    for (int64_t j = 0; j < columns; j += GEMM_COLUMNS)
      gemm_panel(c + row * ldc + j, ldc, scratch, height, height, packed + j * depth, min(GEMM_COLUMNS, columns - j),
                 depth, beta);
  }
#else
  (void)scratch;
  for (int64_t j = 0; j < columns; j += GEMM_COLUMNS)
    gemm(false, false, rows, min(GEMM_COLUMNS, columns - j), depth, 1, a, lda, packed + j * depth, GEMM_COLUMNS, beta,
         c + j, ldc);
#endif
}
