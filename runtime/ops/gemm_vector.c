/* Gemm vector: matrix products on the vector unit, every thread its own rectangle of the result.
   A thread packs a block of the right operand (depth × up to BLOCK_BYTES, in panels of two vectors' columns), which
   stays in its second cache, and streams the left operand past it, a few panels of up to 14 rows at a time; a kernel
   multiplies a panel by a panel, its sums in registers. Sums over k are cut by k alone, so a result does not depend
   on the threads. Source of the scheme: Goto and van de Geijn, "Anatomy of high-performance matrix multiplication",
   ACM TOMS 34(3), 2008. */
#include "gemm.h"

#include "simd.h"

#if VECTOR_BYTES == 64

#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"

enum {
  ROWS = 14, /* of a panel of the left operand, at most: 28 sums and what feeds them fill 32 registers */
  COLUMNS = 2 * VECTOR_LANES, /* of a panel of the right one */
  GROUP = 4,                  /* panels of the left operand packed together, so that whole lines are read */
  DEPTH_MOST = 384,           /* of k between two visits to c: a left panel fits the first cache */
  BLOCK_BYTES = 1 << 19,      /* of the right operand: half of a second cache of 1 MB */
  BLOCK_TAKE_BYTES = 3 << 18, /* the same where all of k is held */
  WORK_LEAST = 1 << 12,       /* multiplications below which BLAS's call is cheaper */
  WORK_PARALLEL = 1 << 16,
  LENGTH_LEAST = 4 /* of m and n: narrower ones are matrix times vector */
};

static int64_t at_least(int64_t value, int64_t least) { return value < least ? least : value; }
static int64_t cut(int64_t length, int64_t pieces) { return (length + pieces - 1) / pieces; }
static int64_t round_up(int64_t value, int64_t unit) { return cut(value, unit) * unit; }

/* ---- kernels ---- */

/* What a kernel does with its sums: c = alpha · sums + beta · c. */
struct destination {
  real *c;
  int64_t ldc;
  real alpha, beta;
};

/* sums (rows × vectors) over depth of left (rows a step of k) and right (COLUMNS a step). */
VECTOR_INLINE void kernel(int rows, int vectors, int64_t depth, const real *left, const real *right,
                          const struct destination *to) {
  vector sum[ROWS][2];
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) {
      sum[i][j] = (vector){0};
      __builtin_prefetch(to->c + i * to->ldc + j * VECTOR_LANES, 1, 3);
    }
  }
  for (int64_t k = 0; k < depth; k++) {
    vector line[2];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) line[j] = *(const vector *)(right + j * VECTOR_LANES);
#pragma GCC unroll 14
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++) sum[i][j] += left[i] * line[j];
    }
    left += rows;
    right += COLUMNS;
  }
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) {
      vector_unaligned *c = (vector_unaligned *)(to->c + i * to->ldc + j * VECTOR_LANES);
      vector value = to->alpha * sum[i][j];
      if (to->beta != 0) value += to->beta * *c;
      *c = value;
    }
  }
}

typedef void kernel_of_rows(int64_t depth, const real *left, const real *right, const struct destination *to);

#define EACH_ROWS(use) \
  use(1) use(2) use(3) use(4) use(5) use(6) use(7) use(8) use(9) use(10) use(11) use(12) use(13) use(14)

#define KERNEL(rows)                                                                                                 \
  static void kernel_##rows(int64_t depth, const real *left, const real *right, const struct destination *to) {      \
    kernel(rows, 2, depth, left, right, to);                                                                         \
  }                                                                                                                  \
  static void kernel_half_##rows(int64_t depth, const real *left, const real *right, const struct destination *to) { \
    kernel(rows, 1, depth, left, right, to);                                                                         \
  }
EACH_ROWS(KERNEL)

#define KERNEL_ENTRY(rows) kernel_##rows,
#define KERNEL_HALF_ENTRY(rows) kernel_half_##rows,
static kernel_of_rows *const kernels[ROWS + 1] = {NULL, EACH_ROWS(KERNEL_ENTRY)};
/* For a panel of which only the first vector is wanted. */
static kernel_of_rows *const half_kernels[ROWS + 1] = {NULL, EACH_ROWS(KERNEL_HALF_ENTRY)};

/* The part of a tile that lies within c, by way of a whole one. */
static void kernel_at_edge(int64_t rows, int64_t columns, int64_t depth, const real *left, const real *right,
                           const struct destination *to) {
  _Alignas(VECTOR_BYTES) real tile[ROWS * COLUMNS];
  kernel_of_rows *const *of = columns > VECTOR_LANES ? kernels : half_kernels;
  of[rows](depth, left, right, &(struct destination){tile, COLUMNS, to->alpha, 0});
  for (int64_t i = 0; i < rows; i++) {
    real *c = to->c + i * to->ldc;
    const real *from = tile + i * COLUMNS;
    if (to->beta == 0) {
      memcpy(c, from, (size_t)columns * sizeof(real));
    } else {
      for (int64_t j = 0; j < columns; j++) c[j] = from[j] + to->beta * c[j];
    }
  }
}

/* ---- packing ---- */

/* outer: the rows of the left operand, the columns of the right one. One of the strides is 1. */
struct operand {
  const real *data;
  int64_t outer, outer_stride, inner_stride; /* inner is k */
};

static const real *operand_at(const struct operand *operand, int64_t outer, int64_t inner) {
  return operand->data + outer * operand->outer_stride + inner * operand->inner_stride;
}

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
        if (start + i < rows)
          square[i] = *(const vector_unaligned *)(from + (start + i) * stride + k);
        else
          square[i] = (vector){0};
      }
      vector_transpose(square);
#pragma GCC unroll 16
      for (int i = 0; i < VECTOR_LANES; i++) *(vector_unaligned *)(to + (k + i) * rows + start) = square[i];
    }
  }
  for (; k < depth; k++)
    for (int i = 0; i < rows; i++) to[k * rows + i] = from[i * stride + k];
}

/* The same from columns: contiguous along the rows. */
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

#define PACK_ROWS_ENTRY(rows) pack_rows_##rows,
#define PACK_COLUMNS_ENTRY(rows) pack_columns_##rows,
static pack_of_rows *const pack_rows[ROWS + 1] = {NULL, EACH_ROWS(PACK_ROWS_ENTRY)};
static pack_of_rows *const pack_columns[ROWS + 1] = {NULL, EACH_ROWS(PACK_COLUMNS_ENTRY)};

static void pack_left(real *to, const struct operand *left, int64_t row, int64_t rows, int64_t inner, int64_t depth) {
  const real *from = operand_at(left, row, inner);
  if (left->inner_stride == 1)
    pack_rows[rows](to, from, left->outer_stride, depth);
  else
    pack_columns[rows](to, from, left->inner_stride, depth);
}

/* A panel that is not full gets zeros. */
static void pack_right_edge(real *to, const struct operand *right, int64_t column, int64_t columns, int64_t inner,
                            int64_t depth) {
  for (int64_t k = 0; k < depth; k++) {
    const real *from = operand_at(right, column, inner + k);
    for (int64_t j = 0; j < columns; j++) to[k * COLUMNS + j] = from[j * right->outer_stride];
    for (int64_t j = columns; j < COLUMNS; j++) to[k * COLUMNS + j] = 0;
  }
}

/* Full panels (at most 4 at a time, depth · COLUMNS apart) from an operand contiguous along its columns. */
static void pack_right_rows(real *to, const struct operand *right, int64_t column, int64_t panels, int64_t inner,
                            int64_t depth) {
  for (int64_t k = 0; k < depth; k++) {
    const real *from = operand_at(right, column, inner + k);
    for (int64_t panel = 0; panel < panels; panel++) {
      real *line = to + (panel * depth + k) * COLUMNS;
      *(vector *)line = *(const vector_unaligned *)(from + panel * COLUMNS);
      *(vector *)(line + VECTOR_LANES) = *(const vector_unaligned *)(from + panel * COLUMNS + VECTOR_LANES);
    }
  }
}

/* A full panel from an operand contiguous along k. */
static void pack_right_columns(real *to, const struct operand *right, int64_t column, int64_t inner, int64_t depth) {
  for (int64_t half = 0; half < COLUMNS; half += VECTOR_LANES)
    vector_transpose_matrix(to + half, COLUMNS, operand_at(right, column + half, inner), right->outer_stride,
                            VECTOR_LANES, depth);
}

static void pack_right(real *to, const struct operand *right, int64_t column, int64_t columns, int64_t inner,
                       int64_t depth) {
  int64_t whole = columns / COLUMNS, j = 0;
  while (j < whole) {
    real *panel = to + j * depth * COLUMNS;
    int64_t panels = right->outer_stride == 1 ? parallel_minimum(4, whole - j) : 1;
    if (right->outer_stride == 1)
      pack_right_rows(panel, right, column + j * COLUMNS, panels, inner, depth);
    else
      pack_right_columns(panel, right, column + j * COLUMNS, inner, depth);
    j += panels;
  }
  if (columns % COLUMNS)
    pack_right_edge(to + j * depth * COLUMNS, right, column + j * COLUMNS, columns % COLUMNS, inner, depth);
}

/* ---- one product ---- */

struct plan {
  const struct gemm_product *product;
  struct operand left, right;
  int64_t depth; /* of k at a time */
  int64_t block; /* columns of the right operand at a time */
  int64_t row_pieces, column_pieces;
  size_t right_reals, left_reals, taken_reals; /* of one thread */
};

/* Rows and columns of the result that one thread makes. */
struct rectangle {
  int64_t row, rows, column, columns;
};

static struct rectangle plan_piece(const struct plan *plan, int64_t piece) {
  const struct gemm_product *p = plan->product;
  int64_t i = piece / plan->column_pieces, j = piece % plan->column_pieces;
  int64_t width = round_up(cut(p->n, plan->column_pieces), COLUMNS);
  int64_t row = p->m * i / plan->row_pieces, row_end = p->m * (i + 1) / plan->row_pieces;
  if (p->lower) { /* triangles of equal size */
    row = (int64_t)((double)p->m * sqrt((double)i / (double)plan->row_pieces));
    row_end = (int64_t)((double)p->m * sqrt((double)(i + 1) / (double)plan->row_pieces));
  }
  struct rectangle r = {row, row_end - row, parallel_minimum(j * width, p->n), 0};
  int64_t end = p->lower ? parallel_minimum(row_end, p->n) : p->n;
  r.columns = parallel_minimum(width, end - r.column);
  return r;
}

/* Threads share the result so that the least is packed twice: rows cost k · n again, columns k · m. */
static void plan_threads(struct plan *plan, int threads) {
  const struct gemm_product *p = plan->product;
  double least = INFINITY;
  for (int rows = 1; rows <= threads; rows++) {
    if (threads % rows) continue;
    int columns = threads / rows;
    if (p->lower && columns > 1) continue;
    double uneven = (double)round_up(cut(p->n, columns), COLUMNS) * columns / (double)p->n *
                    ((double)cut(p->m, rows) * rows / (double)p->m);
    double cost = (double)p->n * rows + (double)p->m * columns + (double)p->m * (double)p->n * (uneven - 1);
    if (cost < least) {
      least = cost;
      plan->row_pieces = rows;
      plan->column_pieces = columns;
    }
  }
}

static void plan_make(struct plan *plan, const struct gemm_product *p, int threads) {
  plan->product = p;
  plan->left = (struct operand){p->a, p->m, p->transpose_a ? 1 : p->lda, p->transpose_a ? p->lda : 1};
  plan->right = (struct operand){p->b, p->n, p->transpose_b ? p->ldb : 1, p->transpose_b ? 1 : p->ldb};
  plan_threads(plan, threads);
  plan->depth = cut(p->k, cut(p->k, DEPTH_MOST));
  int64_t held = p->take ? p->k : plan->depth;
  int64_t bytes = p->take && p->k > plan->depth ? BLOCK_TAKE_BYTES : BLOCK_BYTES;
  int64_t width = round_up(cut(p->n, plan->column_pieces), COLUMNS);
  int64_t block = at_least(bytes / (int64_t)sizeof(real) / held / COLUMNS, 1) * COLUMNS;
  plan->block = round_up(cut(width, cut(width, block)), COLUMNS);
  plan->right_reals = (size_t)(plan->block * held);
  plan->left_reals = (size_t)round_up(GROUP * ROWS * plan->depth + VECTOR_LANES, VECTOR_LANES);
  plan->taken_reals = p->take ? (size_t)(GROUP * ROWS * plan->block) : 0;
}

/* A group of panels of the left operand, packed, times a block of the right one. */
static void group_times_block(const struct plan *plan, const real *left, const int64_t *panel_rows, int64_t panels,
                              int64_t row, const real *right, int64_t column, int64_t columns, int64_t depth,
                              struct destination to) {
  for (int64_t i = 0; i < panels; i++) {
    int64_t rows = panel_rows[i];
    for (int64_t j = 0; j < columns; j += COLUMNS) {
      if (plan->product->lower && column + j > row + rows - 1) break;
      struct destination tile = {to.c + j, to.ldc, to.alpha, to.beta};
      if (columns - j >= COLUMNS)
        kernels[rows](depth, left, right + j * depth, &tile);
      else
        kernel_at_edge(rows, columns - j, depth, left, right + j * depth, &tile);
    }
    left += rows * depth;
    to.c += rows * to.ldc;
    row += rows;
  }
}

/* Rows cut evenly into panels. */
struct panels {
  int64_t first, count, rows;
};

static int64_t panel_start(const struct panels *panels, int64_t i) {
  return panels->first + panels->rows * i / panels->count;
}

/* The panels from `from` on that make a group, packed for k from inner on. */
static int64_t pack_group(const struct plan *plan, const struct panels *panels, int64_t from, int64_t inner,
                          int64_t depth, real *to, int64_t *panel_rows) {
  int64_t count = parallel_minimum(GROUP, panels->count - from);
  for (int64_t i = 0; i < count; i++) {
    int64_t row = panel_start(panels, from + i);
    panel_rows[i] = panel_start(panels, from + i + 1) - row;
    pack_left(to, &plan->left, row, panel_rows[i], inner, depth);
    to += panel_rows[i] * depth;
  }
  return count;
}

/* A rectangle into c. */
static void rectangle_store(const struct plan *plan, const struct rectangle *r, real *right, real *left) {
  const struct gemm_product *p = plan->product;
  struct panels panels = {r->row, cut(r->rows, ROWS), r->rows};
  int64_t panel_rows[GROUP];
  for (int64_t j = 0; j < r->columns; j += plan->block) {
    int64_t column = r->column + j, columns = parallel_minimum(plan->block, r->columns - j);
    for (int64_t inner = 0; inner < p->k; inner += plan->depth) {
      int64_t depth = parallel_minimum(plan->depth, p->k - inner);
      pack_right(right, &plan->right, column, columns, inner, depth);
      for (int64_t i = 0; i < panels.count; i += GROUP) {
        int64_t row = panel_start(&panels, i);
        if (p->lower && column >= panel_start(&panels, parallel_minimum(i + GROUP, panels.count))) continue;
        int64_t count = pack_group(plan, &panels, i, inner, depth, left, panel_rows);
        struct destination to = {p->c + row * p->ldc + column, p->ldc, p->alpha, inner == 0 ? p->beta : 1};
        group_times_block(plan, left, panel_rows, count, row, right, column, columns, depth, to);
      }
    }
  }
}

/* A rectangle to be taken: all of k at once, so that what is handed out is whole. */
static void rectangle_take(const struct plan *plan, const struct rectangle *r, real *right, real *left, real *taken) {
  const struct gemm_product *p = plan->product;
  struct panels panels = {r->row, cut(r->rows, ROWS), r->rows};
  int64_t panel_rows[GROUP];
  for (int64_t j = 0; j < r->columns; j += plan->block) {
    int64_t column = r->column + j, columns = parallel_minimum(plan->block, r->columns - j);
    int64_t width = round_up(columns, COLUMNS);
    for (int64_t inner = 0; inner < p->k; inner += plan->depth)
      pack_right(right + inner * width, &plan->right, column, columns, inner,
                 parallel_minimum(plan->depth, p->k - inner));
    for (int64_t i = 0; i < panels.count; i += GROUP) {
      int64_t row = panel_start(&panels, i), count = 0;
      for (int64_t inner = 0; inner < p->k; inner += plan->depth) {
        int64_t depth = parallel_minimum(plan->depth, p->k - inner);
        count = pack_group(plan, &panels, i, inner, depth, left, panel_rows);
        struct destination to = {taken, plan->block, p->alpha, inner == 0 ? 0 : 1};
        group_times_block(plan, left, panel_rows, count, row, right + inner * width, column, columns, depth, to);
      }
      int64_t end = panel_start(&panels, i + count);
      for (int64_t k = row; k < end; k++) p->take(p->context, k, column, columns, taken + (k - row) * plan->block);
    }
  }
}

bool gemm_vector_available(void) { return true; }

bool gemm_vector(const struct gemm_product *product) {
  const struct gemm_product *p = product;
  double work = (double)p->m * (double)p->n * (double)p->k;
  if (!gemm_allowed(GEMM_VECTOR) || p->m < LENGTH_LEAST || p->n < LENGTH_LEAST || p->k < 1 || work < WORK_LEAST)
    return false;
  int threads = omp_in_parallel() || work < WORK_PARALLEL ? 1 : parallel_threads();
  struct plan plan;
  plan_make(&plan, p, threads);
  size_t each = plan.right_reals + plan.left_reals + plan.taken_reals;
  real *buffer = memory_acquire((size_t)threads * each * sizeof(real));
  if (!buffer) return false;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t piece = 0; piece < threads; piece++) {
    struct rectangle r = plan_piece(&plan, piece);
    real *right = buffer + (size_t)piece * each, *left = right + plan.right_reals;
    if (r.rows <= 0 || r.columns <= 0) continue;
    if (p->take)
      rectangle_take(&plan, &r, right, left, left + plan.left_reals);
    else
      rectangle_store(&plan, &r, right, left);
  }
  memory_release(buffer);
  return true;
}

#else

bool gemm_vector_available(void) { return false; }

bool gemm_vector(const struct gemm_product *product) {
  (void)product;
  return false;
}

#endif
