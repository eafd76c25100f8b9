/* GEMM: one matrix product on the unit that serves best (gemm.h), else cut over threads by ourselves, every piece one
   single-threaded BLAS call. */
#include <cblas.h>
#include <string.h>

#include "../../base/memory.h"
#include "../../base/parallel.h"
#include "gemm.h"

#ifdef GLS_DOUBLE
#define GEMM cblas_dgemm
#define GEMV cblas_dgemv
#else
#define GEMM cblas_sgemm
#define GEMV cblas_sgemv
#endif

enum {
  VECTORS_MOST = 3, /* rows or columns of a result that are made one by one: BLAS's gemm would pack all for them */
  PIECES_MOST = 16, /* one operand is packed again for each */
  MATRIX_PIECE = 96,
  VECTOR_PIECE = 512
};

static bool is_forbidden[GEMM_UNITS];

bool gemm_allowed(enum gemm_unit unit) { return !is_forbidden[unit]; }

bool gemm_allow(enum gemm_unit unit, bool allowed) {
  bool before = !is_forbidden[unit];
  is_forbidden[unit] = !allowed;
  return before;
}

bool gemm_available(enum gemm_unit unit) {
  return unit == GEMM_TILES ? gemm_tiles_available() : gemm_vector_available();
}

bool gemm_product(const struct gemm_product *product) {
  if (product->bias) return !gemm_available(GEMM_TILES) && gemm_vector(product); /* tiles do not know it */
  return gemm_tiles(product) || gemm_vector(product);
}

/* to (rows of matrix, or its columns where it is turned) = alpha · matrix · vector + beta · to */
static void times_vector(const struct gemm_product *p, bool turned, const real *matrix, int64_t rows, int64_t columns,
                         int64_t stride, const real *vector, int64_t vector_step, real *to, int64_t to_step) {
  int64_t count = turned ? columns : rows;
  for (int64_t i = 0; i < count && p->beta == 0; i++) to[i * to_step] = 0; /* BLAS multiplies a NaN by zero */
  GEMV(CblasRowMajor, turned ? CblasTrans : CblasNoTrans, (int)rows, (int)columns, p->alpha, matrix, (int)stride,
       vector, (int)vector_step, p->beta, to, (int)to_step);
}

static void blas_call(const struct gemm_product *p) {
  bool ta = p->transpose_a, tb = p->transpose_b;
  if (p->k > 0 && p->n <= VECTORS_MOST) {
    for (int64_t j = 0; j < p->n; j++)
      times_vector(p, ta, p->a, ta ? p->k : p->m, ta ? p->m : p->k, p->lda, p->b + j * (tb ? p->ldb : 1),
                   tb ? 1 : p->ldb, p->c + j, p->ldc);
    return;
  }
  if (p->k > 0 && p->m <= VECTORS_MOST) {
    for (int64_t i = 0; i < p->m; i++)
      times_vector(p, !tb, p->b, tb ? p->n : p->k, tb ? p->k : p->n, p->ldb, p->a + i * (ta ? 1 : p->lda),
                   ta ? p->lda : 1, p->c + i * p->ldc, 1);
    return;
  }
  GEMM(CblasRowMajor, p->transpose_a ? CblasTrans : CblasNoTrans, p->transpose_b ? CblasTrans : CblasNoTrans, (int)p->m,
       (int)p->n, (int)p->k, p->alpha, p->a, (int)p->lda, p->b, (int)p->ldb, p->beta, p->c, (int)p->ldc);
}

/* One single-threaded call of BLAS, which knows neither bias nor taker. */
static void gemm_blas(const struct gemm_product *product) {
  int threads = parallel_alone();
  blas_call(product);
  parallel_set_threads(threads);
}

/* Rows start to start + count − 1 of a product into c. */
static struct gemm_product gemm_rows(struct gemm_product p, int64_t start, int64_t count, real *c, int64_t ldc) {
  p.a += p.transpose_a ? start : start * p.lda;
  p.m = count, p.c = c, p.ldc = ldc;
  return p;
}

static struct gemm_product gemm_columns(struct gemm_product p, int64_t start, int64_t count) {
  p.b += p.transpose_b ? start * p.ldb : start;
  p.n = count, p.c += start;
  return p;
}

void gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a, int64_t lda,
          const real *b, int64_t ldb, real beta, real *c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  const struct gemm_product product = {transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, .ldc = ldc};
  if (gemm_product(&product)) return;
  /* The wider side is cut, in multiples of 16 so that pieces stay aligned to vectors, by the shape alone: the kernel that
     BLAS chooses for an element depends on where its piece ends. */
  bool by_columns = n > m;
  int64_t length = by_columns ? n : m, pieces = 1, least = min(m, n) <= VECTORS_MOST ? VECTOR_PIECE : MATRIX_PIECE;
  bool small = (double)m * (double)n * (double)k < 65536;
  while (!small && pieces < PIECES_MOST && length >= 2 * pieces * least) pieces *= 2;
  int64_t piece = round_up(ceil_div(length, pieces), 16);
#pragma omp parallel for schedule(static) if (pieces > 1 && !omp_in_parallel())
  for (int64_t i = 0; i < pieces; i++) {
    int64_t start = i * piece, size = min(piece, length - start);
    if (size <= 0) continue;
    const struct gemm_product part =
        by_columns ? gemm_columns(product, start, size) : gemm_rows(product, start, size, c + start * ldc, ldc);
    gemm_blas(&part);
  }
}

void gemm_bias(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const real *a, int64_t lda,
               const real *b, int64_t ldb, const real *bias, real *c) {
  const struct gemm_product product = {transpose_a, transpose_b, m, n, k, 1, a, lda, b, ldb, 0, c, n, .bias = bias};
  if (gemm_product(&product)) return;
#pragma omp parallel for schedule(static) if (!omp_in_parallel() && m * n > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < m; i++) memcpy(c + i * n, bias, (size_t)n * sizeof(real));
  gemm(transpose_a, transpose_b, m, n, k, 1, a, lda, b, ldb, 1, c, n);
}

/* Pieces of whole rows that fit the cache, one thread each. */
int gemm_visit(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
               int64_t lda, const real *b, int64_t ldb, const struct gemm_visitor *taker) {
  if (m == 0 || n == 0) return STATUS_OK;
  const struct gemm_product product = {transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, .taker = taker};
  if (gemm_product(&product)) return STATUS_OK;
  enum { PIECE = 1 << 17, ROWS_LEAST = 32 };
  int64_t rows = PIECE / n < ROWS_LEAST ? ROWS_LEAST : min(PIECE / n, m);
  int64_t pieces = (m + rows - 1) / rows;
  int threads = omp_in_parallel() ? 1 : (int)min(parallel_threads(), pieces);
  size_t size = (size_t)rows * (size_t)n;
  real *scratch = memory_acquire((size_t)threads * size * sizeof(real));
  if (!scratch) return STATUS_ERROR;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t piece = 0; piece < pieces; piece++) {
    int64_t start = piece * rows, count = min(rows, m - start);
    real *values = scratch + (size_t)omp_get_thread_num() * size;
    const struct gemm_product part = gemm_rows(product, start, count, values, n);
    gemm_blas(&part);
    taker->take(taker->context,
                &(struct gemm_block){.row = start, .rows = count, .columns = n, .values = values, .stride = n});
  }
  memory_release(scratch);
  return STATUS_OK;
}
