/* GEMM by AVX-512 for results at most GEMM_COLUMNS wide. An element of the left operand is used once or twice, so it is
   read unpacked; the right operand too where its rows are whole vectors. Where the result is small in both directions k
   is cut into parts, as many as the shape says, which threads share; the parts' sums are added up in order.
   Kept by the bench's rows "matmul 16×20000 · 20000×16" and "matmul 20000×64 · 64×16": 3.5 and 1.5 times as fast as
   gemm_vector (Intel Xeon, one thread, shared machine). */
#include "gemm.h"
#include "gemm_kernel.h"

#if VECTOR_BYTES == 64

#include <string.h>

#include "../../base/memory.h"
#include "../../base/parallel.h"

enum {
  DEPTH_MOST = 384,  /* of k between two visits to c: the right operand's rows stay in the L1 cache */
  AHEAD = 128,       /* reals by which a long row of the left operand is prefetched */
  PART_LEAST = 1024, /* of k */
  PARTS_MOST = 16,
  PART_RESULT = 1 << 12, /* reals of a result up to which k is cut */
  WORK_PARALLEL = 1 << 16
};

/* A few rows of c = alpha · left · right + beta · base. */
struct thin_tile {
  const real *left;
  int64_t left_row, left_step; /* from row to row, from one k to the next; one of them is 1 */
  int64_t ahead;               /* distance of what is prefetched, where left_step is 1 */
  const real *right;
  int64_t right_step;
  int64_t depth, columns;
  real *c;
  int64_t ldc;
  real alpha, beta;
  const real *base;
  int64_t ldbase;
};

static void thin_store(const struct thin_tile *tile, int64_t row, int64_t column, vector sum) {
  real *c = tile->c + row * tile->ldc + column;
  const real *base = tile->base + row * tile->ldbase + column;
  sum *= tile->alpha;
  if (tile->columns - column >= VECTOR_LANES) {
    if (tile->beta != 0) sum += tile->beta * *(const vector_unaligned *)base;
    *(vector_unaligned *)c = sum;
    return;
  }
  real lanes[VECTOR_LANES];
  memcpy(lanes, &sum, sizeof lanes);
  for (int64_t j = 0; j < tile->columns - column; j++) c[j] = lanes[j] + (tile->beta != 0 ? tile->beta * base[j] : 0);
}

/* sums += a column of the left operand × a row of the right one. Four rows share an address. */
VECTOR_INLINE void thin_multiply(const int rows, const int vectors, vector (*sum)[2], const real *const *left,
                                 int64_t left_row, int64_t k, const real *right) {
  vector right_row[2];
#pragma GCC unroll 2
  for (int j = 0; j < vectors; j++) right_row[j] = *(const vector_unaligned *)(right + j * VECTOR_LANES);
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) sum[i][j] += left[i / 4][i % 4 * left_row + k] * right_row[j];
  }
}

VECTOR_INLINE void thin_kernel(const int rows, const int vectors, const bool along, const struct thin_tile *tile) {
  vector sum[16][2];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = (vector){0};
  int64_t left_row = along ? tile->left_row : 1, right_step = tile->right_step, k = 0;
  const real *left[4], *right = tile->right;
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) left[i] = tile->left + 4 * i * left_row;
  if (along) {
    for (; k + VECTOR_LANES <= tile->depth; k += VECTOR_LANES) {
#pragma GCC unroll 16
      for (int i = 0; i < rows; i++) __builtin_prefetch(left[i / 4] + i % 4 * left_row + k + tile->ahead, 0, 3);
      for (int64_t end = k; end < k + VECTOR_LANES; end++, right += right_step)
        thin_multiply(rows, vectors, sum, left, left_row, end, right);
    }
    for (; k < tile->depth; k++, right += right_step) thin_multiply(rows, vectors, sum, left, left_row, k, right);
  } else {
    int64_t left_step = tile->left_step;
    for (; k < tile->depth; k++, right += right_step) {
      thin_multiply(rows, vectors, sum, left, 1, 0, right);
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++) left[i] += left_step;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) thin_store(tile, i, j * VECTOR_LANES, sum[i][j]);
  }
}

typedef void thin_of_rows(const struct thin_tile *tile);

#define EACH_SIZE(use) use(16, 1) use(12, 1) use(8, 1) use(4, 1) use(1, 1) use(12, 2) use(8, 2) use(4, 2) use(1, 2)
#define KERNEL(rows, vectors)                                                                                    \
  static void along_##rows##_##vectors(const struct thin_tile *tile) { thin_kernel(rows, vectors, true, tile); } \
  static void across_##rows##_##vectors(const struct thin_tile *tile) { thin_kernel(rows, vectors, false, tile); }
EACH_SIZE(KERNEL)

/* Most rows first; by whether k is along the left operand's rows. */
#define ENTRY(rows, vectors) {rows, vectors, {across_##rows##_##vectors, along_##rows##_##vectors}},
static const struct {
  int rows, vectors;
  thin_of_rows *kernel[2];
} thin_kinds[] = {EACH_SIZE(ENTRY)};

/* Rows first to last − 1 of c; packed: room for DEPTH_MOST rows of the right operand. */
static void thin_rows(const struct gemm_product *p, int64_t first, int64_t last, real *packed) {
  struct gemm_operand left = {p->a, p->m, p->transpose_a ? 1 : p->lda, p->transpose_a ? p->lda : 1};
  struct gemm_operand right = {p->b, p->n, p->transpose_b ? p->ldb : 1, p->transpose_b ? 1 : p->ldb};
  int vectors = p->n > VECTOR_LANES ? 2 : 1;
  bool along = left.inner_stride == 1, in_place = right.outer_stride == 1 && p->n % VECTOR_LANES == 0;
  int64_t blocks = ceil_div(p->k, DEPTH_MOST);
  for (int64_t block = 0; block < blocks; block++) {
    int64_t inner = p->k * block / blocks, depth = p->k * (block + 1) / blocks - inner;
    struct thin_tile tile = {.left_row = left.outer_stride,
                             .left_step = left.inner_stride,
                             .right = in_place ? gemm_operand_at(&right, 0, inner) : packed,
                             .right_step = in_place ? right.inner_stride : GEMM_COLUMNS,
                             .depth = depth,
                             .columns = p->n,
                             .ldc = p->ldc,
                             .alpha = p->alpha,
                             .beta = block == 0 ? p->beta : 1,
                             .ldbase = p->ldc};
    if (!in_place) gemm_pack_right(packed, &right, 0, p->n, inner, depth);
    for (int64_t row = first; row < last;) {
      int kind = 0;
      while (thin_kinds[kind].vectors != vectors || thin_kinds[kind].rows > last - row) kind++;
      int rows = thin_kinds[kind].rows;
      tile.ahead = depth > 2 * AHEAD ? AHEAD : rows * left.outer_stride; /* within a row, or the next rows */
      tile.left = gemm_operand_at(&left, row, inner);
      tile.c = p->c + row * p->ldc;
      tile.base = tile.c;
      if (block == 0 && p->bias) tile.base = p->bias, tile.ldbase = 0, tile.beta = 1;
      thin_kinds[kind].kernel[along](&tile);
      row += rows;
    }
  }
}

int64_t gemm_thin_parts(const struct gemm_product *p) {
  if (p->m * p->n > PART_RESULT) return 1;
  return max(min(p->k / PART_LEAST, PARTS_MOST), 1);
}

static void multiply_part(const struct gemm_product *p, int64_t part, int64_t parts, real *sums, real *packed) {
  int64_t begin = p->k * part / parts, end = p->k * (part + 1) / parts;
  struct gemm_product product = *p;
  product.a += p->transpose_a ? begin * p->lda : begin;
  product.b += p->transpose_b ? begin : begin * p->ldb;
  product.k = end - begin;
  product.beta = 0, product.bias = NULL, product.c = sums, product.ldc = p->n;
  thin_rows(&product, 0, p->m, packed);
}

static void add_parts(const struct gemm_product *p, const real *sums, int64_t parts) {
  int64_t size = p->m * p->n;
  for (int64_t i = 0; i < p->m; i++)
    for (int64_t j = 0; j < p->n; j++) {
      real sum = p->bias ? p->bias[j] : p->beta == 0 ? 0 : p->beta * p->c[i * p->ldc + j];
      for (int64_t part = 0; part < parts; part++) sum += sums[part * size + i * p->n + j];
      p->c[i * p->ldc + j] = sum;
    }
}

bool gemm_thin(const struct gemm_product *product) {
  const struct gemm_product *p = product;
  int64_t parts = gemm_thin_parts(p);
  double work = (double)p->m * (double)p->n * (double)p->k;
  int threads = omp_in_parallel() || work < WORK_PARALLEL ? 1 : parallel_threads();
  int64_t sums = parts > 1 ? round_up(parts * p->m * p->n, VECTOR_LANES) : 0, each = DEPTH_MOST * GEMM_COLUMNS;
  real *buffer = memory_acquire((size_t)(threads * each + sums) * sizeof(real));
  if (!buffer) return false;
  real *packed = buffer + sums;
  if (parts > 1) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t part = 0; part < parts; part++)
      multiply_part(p, part, parts, buffer + part * p->m * p->n, packed + omp_get_thread_num() * each);
    add_parts(p, buffer, parts);
  } else {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < threads; i++)
      thin_rows(p, p->m * i / threads, p->m * (i + 1) / threads, packed + omp_get_thread_num() * each);
  }
  memory_release(buffer);
  return true;
}

#else

int64_t gemm_thin_parts(const struct gemm_product *product) {
  (void)product;
  return 1;
}

bool gemm_thin(const struct gemm_product *product) {
  (void)product;
  return false;
}

#endif
