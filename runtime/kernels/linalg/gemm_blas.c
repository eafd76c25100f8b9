/* GEMM by BLAS: what no back end of ours serves, and everything on processors without AVX-512. BLAS runs on one thread
   at a time; products are cut here, by their shape alone, because the kernel that BLAS chooses for an element depends
   on where its block ends. */
#include <cblas.h>
#include <sys/mman.h>

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
  VECTORS_MOST = 3,       /* rows or columns of a result made one by one: BLAS's gemm would pack the matrix for them */
  BLOCKS_MOST = 16,       /* one operand is packed again for each */
  MATRIX_BLOCK = 96,      /* the least rows or columns of one */
  VECTOR_BLOCK = 512,     /* the same of a matrix times a vector */
  WORK_PARALLEL = 1 << 16 /* multiplications */
};

/* y (rows of matrix, or its columns where it is transposed) = alpha · matrix · x + beta · y */
static void multiply_vector(const struct gemm_product *p, bool transpose, const real *matrix, int64_t rows,
                            int64_t columns, int64_t stride, const real *x, int64_t x_step, real *y, int64_t y_step) {
  int64_t count = transpose ? columns : rows;
  for (int64_t i = 0; i < count && p->beta == 0; i++) y[i * y_step] = 0; /* BLAS multiplies a NaN by zero */
  GEMV(CblasRowMajor, transpose ? CblasTrans : CblasNoTrans, (int)rows, (int)columns, p->alpha, matrix, (int)stride, x,
       (int)x_step, p->beta, y, (int)y_step);
}

static void multiply_alone(const struct gemm_product *p) {
  bool ta = p->transpose_a, tb = p->transpose_b;
  int threads = parallel_alone();
  if (p->k > 0 && p->n <= VECTORS_MOST) {
    for (int64_t j = 0; j < p->n; j++)
      multiply_vector(p, ta, p->a, ta ? p->k : p->m, ta ? p->m : p->k, p->lda, p->b + j * (tb ? p->ldb : 1),
                      tb ? 1 : p->ldb, p->c + j, p->ldc);
  } else if (p->k > 0 && p->m <= VECTORS_MOST) {
    for (int64_t i = 0; i < p->m; i++)
      multiply_vector(p, !tb, p->b, tb ? p->n : p->k, tb ? p->k : p->n, p->ldb, p->a + i * (ta ? 1 : p->lda),
                      ta ? p->lda : 1, p->c + i * p->ldc, 1);
  } else {
    GEMM(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)p->m, (int)p->n, (int)p->k,
         p->alpha, p->a, (int)p->lda, p->b, (int)p->ldb, p->beta, p->c, (int)p->ldc);
  }
  parallel_set_threads(threads);
}

/* Rows first to first + count − 1 of a product into c. */
static struct gemm_product rows_of(struct gemm_product p, int64_t first, int64_t count, real *c, int64_t ldc) {
  p.a += p.transpose_a ? first : first * p.lda;
  p.m = count, p.c = c, p.ldc = ldc;
  return p;
}

static struct gemm_product columns_of(struct gemm_product p, int64_t first, int64_t count) {
  p.b += p.transpose_b ? first * p.ldb : first;
  p.n = count, p.c += first;
  return p;
}

/* The longer side is cut, in multiples of 16, so that blocks stay aligned to vectors. */
static void multiply(const struct gemm_product *p) {
  bool by_columns = p->n > p->m;
  int64_t length = by_columns ? p->n : p->m, blocks = 1;
  int64_t least = min(p->m, p->n) <= VECTORS_MOST ? VECTOR_BLOCK : MATRIX_BLOCK;
  bool large = (double)p->m * (double)p->n * (double)p->k >= WORK_PARALLEL;
  while (large && blocks < BLOCKS_MOST && length >= 2 * blocks * least) blocks *= 2;
  int64_t block = round_up(ceil_div(length, blocks), 16);
#pragma omp parallel for schedule(static) if (blocks > 1 && !omp_in_parallel())
  for (int64_t first = 0; first < length; first += block) {
    int64_t count = min(block, length - first);
    const struct gemm_product part =
        by_columns ? columns_of(*p, first, count) : rows_of(*p, first, count, p->c + first * p->ldc, p->ldc);
    multiply_alone(&part);
  }
}

/* Blocks of rows up to the diagonal. */
static void multiply_lower(const struct gemm_product *p) {
  int64_t block = p->n > 512 ? 128 : 64, blocks = ceil_div(p->n, block);
#pragma omp parallel for schedule(dynamic) if (!omp_in_parallel() && p->n * p->n * p->k > WORK_PARALLEL)
  for (int64_t i = 0; i < blocks; i++) {
    int64_t first = (blocks - 1 - i) * block, count = min(block, p->n - first); /* the longest rows first */
    struct gemm_product part = rows_of(*p, first, count, p->c + first * p->ldc, p->ldc);
    part.n = first + count;
    multiply(&part);
  }
}

/* Blocks of whole rows that fit the L2 cache. */
static bool multiply_visited(const struct gemm_product *p) {
  enum { BLOCK = 1 << 17, ROWS_LEAST = 32 };
  int64_t rows = BLOCK / p->n < ROWS_LEAST ? ROWS_LEAST : min(BLOCK / p->n, p->m), blocks = ceil_div(p->m, rows);
  int threads = omp_in_parallel() ? 1 : (int)min(parallel_threads(), blocks);
  size_t size = (size_t)rows * (size_t)p->n;
  real *scratch = memory_acquire((size_t)threads * size * sizeof(real));
  if (!scratch) return false;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t i = 0; i < blocks; i++) {
    int64_t first = i * rows, count = min(rows, p->m - first);
    real *values = scratch + (size_t)omp_get_thread_num() * size;
    const struct gemm_product part = rows_of(*p, first, count, values, p->n);
    multiply_alone(&part);
    p->visitor->visit(
        p->visitor->context,
        &(struct gemm_block){.row = first, .rows = count, .columns = p->n, .values = values, .stride = p->n});
  }
  memory_release(scratch);
  return true;
}

bool gemm_blas(const struct gemm_product *product) {
  if (product->visitor) return multiply_visited(product);
  (product->lower ? multiply_lower : multiply)(product);
  return true;
}

/* ---- OpenBLAS's buffers ---- */

/* Its own functions; what is freed it keeps for its next call. */
void *blas_memory_alloc(int unused);
void blas_memory_free(void *buffer);

static bool address_space_is_left(size_t bytes) {
  void *space = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return space != MAP_FAILED && munmap(space, bytes) == 0;
}

int linalg_start(int threads) {
  enum { BUFFER = 128 << 20, MOST = 640 /* buffers that it can have */ };
  static int reserved;
  void *buffer[MOST];
  int count = 0, wanted = (int)min(threads, MOST);
  for (; count < wanted; count++) {
    if (count >= reserved && !address_space_is_left(BUFFER + (1 << 20))) break;
    buffer[count] = blas_memory_alloc(0);
  }
  for (int i = 0; i < count; i++) blas_memory_free(buffer[i]);
  reserved = (int)max(reserved, count);
  if (count == wanted) return STATUS_OK;
  return status_error(
      "out of memory: OpenBLAS wants 128 MB of address space for each of %d threads, and there are %d: "
      "fewer threads (OMP_NUM_THREADS) or a higher limit (ulimit -v) help",
      wanted, count);
}
