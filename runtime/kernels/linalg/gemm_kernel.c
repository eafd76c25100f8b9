/* Micro-kernels and packing for products by AVX-512 (gemm_kernel.h). */
#include "gemm_kernel.h"

#if VECTOR_BYTES == 64

#include <string.h>

#include "../../base/integer.h"

/* ---- micro-kernels ---- */

/* Steps of k by which an operand is prefetched before it is packed: by a micro-kernel, and by itself. */
enum { AHEAD = 16, AHEAD_ROWS = 4 * VECTOR_LANES };

/* sums += column of the left operand × line of the right one */
VECTOR_INLINE void multiply(int rows, int vectors, vector (*sum)[2], const real *left, const vector *line) {
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) sum[i][j] += left[i] * line[j];
  }
}

VECTOR_INLINE void kernel(int rows, int vectors, enum gemm_kind kind, const struct gemm_tile *tile) {
  vector sum[GEMM_ROWS][2], line[2];
  const real *left = tile->left, *right = tile->right;
  real *packed = tile->packed, *c = tile->c;
  int64_t depth = tile->depth, ldc = tile->ldc, k = 0;
  int64_t left_step = tile->left_step, right_step = kind == GEMM_UNPACKED_RIGHT ? tile->unpacked_step : GEMM_COLUMNS;
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) {
      sum[i][j] = (vector){0};
      if (kind != GEMM_PREFETCH_WRITE) __builtin_prefetch(c + i * ldc + j * VECTOR_LANES, 1, 3);
    }
  }
#define LOAD_LINE()                                                   \
  _Pragma("GCC unroll 2") for (int j = 0; j < vectors; j++) line[j] = \
      *(const vector_unaligned *)(right + j * VECTOR_LANES)
  if (kind == GEMM_PREFETCH_READ || kind == GEMM_PREFETCH_WRITE) { /* the prefetches are spread over the depth */
    const int write = kind == GEMM_PREFETCH_WRITE;
    int count = tile->prefetch_count;
    int64_t prefetch_rows = tile->prefetch_rows, all = prefetch_rows * count, each = all > 0 ? depth / all : 0;
    for (int64_t i = 0; i < prefetch_rows; i++) {
      for (int t = 0; t < count; t++) {
        const real *place = tile->prefetch[t] + i * tile->prefetch_stride;
        __builtin_prefetch(place, write, 3);
        __builtin_prefetch(place + VECTOR_LANES, write, 3);
        for (int64_t end = k + each; k < end; k++) {
          LOAD_LINE();
          multiply(rows, vectors, sum, left, line);
          left += left_step;
          right += right_step;
        }
      }
    }
  }
  for (; k < depth; k++) {
    LOAD_LINE();
    if (kind == GEMM_UNPACKED_LEFT) {
      __builtin_prefetch(left + AHEAD * left_step + rows - 1, 0,
                         3); /* the cache line that the panel before did not touch */
      memcpy(packed, left, (size_t)rows * sizeof(real));
      packed += rows;
    } else if (kind == GEMM_UNPACKED_RIGHT) {
      __builtin_prefetch(right + AHEAD * right_step, 0, 3);
      __builtin_prefetch(right + AHEAD * right_step + VECTOR_LANES, 0, 3);
      for (int j = 0; j < vectors; j++) *(vector *)(packed + j * VECTOR_LANES) = line[j];
      packed += GEMM_COLUMNS;
    }
    multiply(rows, vectors, sum, left, line);
    left += left_step;
    right += right_step;
  }
#undef LOAD_LINE
  real alpha = tile->alpha, beta = tile->beta;
  const real *base = tile->base;
  int64_t ldbase = tile->ldbase;
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) sum[i][j] *= alpha;
  }
  if (beta != 0) {
#pragma GCC unroll 14
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++)
        sum[i][j] += beta * *(const vector_unaligned *)(base + i * ldbase + j * VECTOR_LANES);
    }
  }
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) *(vector_unaligned *)(c + i * ldc + j * VECTOR_LANES) = sum[i][j];
  }
}

#define EACH_ROWS(use) \
  use(1) use(2) use(3) use(4) use(5) use(6) use(7) use(8) use(9) use(10) use(11) use(12) use(13) use(14)

#define KERNELS(rows)                                                                                             \
  static void plain_##rows(const struct gemm_tile *tile) { kernel(rows, 2, GEMM_PLAIN, tile); }                   \
  static void unpacked_left_##rows(const struct gemm_tile *tile) { kernel(rows, 2, GEMM_UNPACKED_LEFT, tile); }   \
  static void unpacked_right_##rows(const struct gemm_tile *tile) { kernel(rows, 2, GEMM_UNPACKED_RIGHT, tile); } \
  static void prefetch_read_##rows(const struct gemm_tile *tile) { kernel(rows, 2, GEMM_PREFETCH_READ, tile); }   \
  static void prefetch_write_##rows(const struct gemm_tile *tile) { kernel(rows, 2, GEMM_PREFETCH_WRITE, tile); } \
  static void half_##rows(const struct gemm_tile *tile) { kernel(rows, 1, GEMM_PLAIN, tile); }
EACH_ROWS(KERNELS)

#define PLAIN(rows) plain_##rows,
#define UNPACKED_LEFT(rows) unpacked_left_##rows,
#define UNPACKED_RIGHT(rows) unpacked_right_##rows,
#define PREFETCH_READ(rows) prefetch_read_##rows,
#define PREFETCH_WRITE(rows) prefetch_write_##rows,
#define HALF(rows) half_##rows,
gemm_kernel *const gemm_kernels[GEMM_KINDS][GEMM_ROWS + 1] = {
    [GEMM_PLAIN] = {NULL, EACH_ROWS(PLAIN)},
    [GEMM_UNPACKED_LEFT] = {NULL, EACH_ROWS(UNPACKED_LEFT)},
    [GEMM_UNPACKED_RIGHT] = {NULL, EACH_ROWS(UNPACKED_RIGHT)},
    [GEMM_PREFETCH_READ] = {NULL, EACH_ROWS(PREFETCH_READ)},
    [GEMM_PREFETCH_WRITE] = {NULL, EACH_ROWS(PREFETCH_WRITE)}};
gemm_kernel *const gemm_half_kernels[GEMM_ROWS + 1] = {NULL, EACH_ROWS(HALF)};

void gemm_edge(int64_t rows, int64_t columns, const struct gemm_tile *tile) {
  _Alignas(VECTOR_BYTES) real whole[GEMM_ROWS * GEMM_COLUMNS];
  struct gemm_tile to = *tile;
  to.c = whole, to.ldc = GEMM_COLUMNS, to.beta = 0;
  (columns > VECTOR_LANES ? gemm_kernels[GEMM_PLAIN] : gemm_half_kernels)[rows](&to);
  for (int64_t i = 0; i < rows; i++) {
    real *c = tile->c + i * tile->ldc;
    const real *from = whole + i * GEMM_COLUMNS, *base = tile->base + i * tile->ldbase;
    if (tile->beta == 0) {
      memcpy(c, from, (size_t)columns * sizeof(real));
    } else {
      for (int64_t j = 0; j < columns; j++) c[j] = from[j] + tile->beta * base[j];
    }
  }
}

/* ---- panels ---- */

/* to (depth × rows) from rows that are contiguous along k. A store of a whole vector goes past its row of `to`, and
   what it spoils is written afterwards: the later rows of a vector first, then on along k. */
VECTOR_INLINE void pack_left_rows(int rows, real *to, const real *from, int64_t stride, int64_t depth) {
  int64_t k = 0;
  for (; k + VECTOR_LANES <= depth; k += VECTOR_LANES) {
#pragma GCC unroll 2
    for (int start = rows > VECTOR_LANES ? VECTOR_LANES : 0; start >= 0; start -= VECTOR_LANES) {
      vector square[VECTOR_LANES];
#pragma GCC unroll 16
      for (int i = 0; i < VECTOR_LANES; i++) {
        const real *row = from + (start + i) * stride + k;
        if (start + i < rows) {
          __builtin_prefetch(row + AHEAD_ROWS);
          square[i] = *(const vector_unaligned *)row;
        } else {
          square[i] = (vector){0};
        }
      }
      vector_transpose(square);
#pragma GCC unroll 16
      for (int i = 0; i < VECTOR_LANES; i++) *(vector_unaligned *)(to + (k + i) * rows + start) = square[i];
    }
  }
  for (; k < depth; k++)
    for (int i = 0; i < rows; i++) to[k * rows + i] = from[i * stride + k];
}

/* The same from an operand contiguous along its rows. */
VECTOR_INLINE void pack_left_columns(int rows, real *to, const real *from, int64_t stride, int64_t depth) {
  for (int64_t k = 0; k < depth; k++) memcpy(to + k * rows, from + k * stride, (size_t)rows * sizeof(real));
}

typedef void pack_of_rows(real *to, const real *from, int64_t stride, int64_t depth);

#define PACK(rows)                                                                             \
  static void pack_rows_##rows(real *to, const real *from, int64_t stride, int64_t depth) {    \
    pack_left_rows(rows, to, from, stride, depth);                                             \
  }                                                                                            \
  static void pack_columns_##rows(real *to, const real *from, int64_t stride, int64_t depth) { \
    pack_left_columns(rows, to, from, stride, depth);                                          \
  }
EACH_ROWS(PACK)

#define PACK_ROWS(rows) pack_rows_##rows,
#define PACK_COLUMNS(rows) pack_columns_##rows,
static pack_of_rows *const pack_rows[GEMM_ROWS + 1] = {NULL, EACH_ROWS(PACK_ROWS)};
static pack_of_rows *const pack_columns[GEMM_ROWS + 1] = {NULL, EACH_ROWS(PACK_COLUMNS)};

void gemm_pack_left(real *to, const struct gemm_operand *left, int64_t row, int64_t rows, int64_t inner,
                    int64_t depth) {
  const real *from = gemm_operand_at(left, row, inner);
  if (left->inner_stride == 1)
    pack_rows[rows](to, from, left->outer_stride, depth);
  else
    pack_columns[rows](to, from, left->inner_stride, depth);
}

/* A panel that is not full, from an operand contiguous along its columns, gets zeros. */
static void pack_right_edge(real *to, const struct gemm_operand *right, int64_t column, int64_t columns, int64_t inner,
                            int64_t depth) {
  for (int64_t k = 0; k < depth; k++) {
    const real *from = gemm_operand_at(right, column, inner + k);
    for (int64_t j = 0; j < columns; j++) to[k * GEMM_COLUMNS + j] = from[j];
    for (int64_t j = columns; j < GEMM_COLUMNS; j++) to[k * GEMM_COLUMNS + j] = 0;
  }
}

/* Full panels (at most 4 at a time) from an operand contiguous along its columns. */
static void pack_right_rows(real *to, const struct gemm_operand *right, int64_t column, int64_t panels, int64_t inner,
                            int64_t depth) {
  for (int64_t k = 0; k < depth; k++) {
    const real *from = gemm_operand_at(right, column, inner + k);
    for (int64_t panel = 0; panel < panels; panel++) {
      real *line = to + (panel * depth + k) * GEMM_COLUMNS;
      *(vector *)line = *(const vector_unaligned *)(from + panel * GEMM_COLUMNS);
      *(vector *)(line + VECTOR_LANES) = *(const vector_unaligned *)(from + panel * GEMM_COLUMNS + VECTOR_LANES);
    }
  }
}

/* Half a panel from an operand contiguous along k: so many columns, and zeros beside them. */
VECTOR_INLINE void pack_right_half(real *to, const real *from, int64_t stride, const int64_t columns, int64_t depth) {
  int64_t whole = depth - depth % VECTOR_LANES;
  for (int64_t k = 0; k < whole; k += VECTOR_LANES) {
    vector square[VECTOR_LANES];
#pragma GCC unroll 16
    for (int64_t i = 0; i < VECTOR_LANES; i++) {
      const real *row = from + i * stride + k;
      square[i] = (vector){0};
      if (i >= columns) continue;
      __builtin_prefetch(row + AHEAD_ROWS);
      square[i] = *(const vector_unaligned *)row;
    }
    vector_transpose(square);
#pragma GCC unroll 16
    for (int64_t i = 0; i < VECTOR_LANES; i++) *(vector *)(to + (k + i) * GEMM_COLUMNS) = square[i];
  }
  for (int64_t k = whole; k < depth; k++)
    for (int64_t i = 0; i < VECTOR_LANES; i++) to[k * GEMM_COLUMNS + i] = i < columns ? from[i * stride + k] : 0;
}

/* A panel, full or not, from an operand contiguous along k. */
static void pack_right_columns(real *to, const struct gemm_operand *right, int64_t column, int64_t columns,
                               int64_t inner, int64_t depth) {
  for (int64_t half = 0; half < GEMM_COLUMNS; half += VECTOR_LANES) {
    const real *from = gemm_operand_at(right, column + half, inner);
    if (columns - half >= VECTOR_LANES)
      pack_right_half(to + half, from, right->outer_stride, VECTOR_LANES, depth);
    else
      pack_right_half(to + half, from, right->outer_stride, columns - half, depth);
  }
}

void gemm_pack_right(real *to, const struct gemm_operand *right, int64_t column, int64_t columns, int64_t inner,
                     int64_t depth) {
  for (int64_t j = 0, panels; j < columns; j += panels * GEMM_COLUMNS) {
    real *panel = to + j * depth;
    int64_t rest = columns - j;
    panels = 1;
    if (right->outer_stride != 1) {
      pack_right_columns(panel, right, column + j, rest, inner, depth);
    } else if (rest < GEMM_COLUMNS) {
      pack_right_edge(panel, right, column + j, rest, inner, depth);
    } else {
      panels = min(4, rest / GEMM_COLUMNS);
      pack_right_rows(panel, right, column + j, panels, inner, depth);
    }
  }
}

#endif
