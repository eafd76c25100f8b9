/* GEMM by AVX-512. Each thread makes one rectangle of the result. It holds a block of the right operand (depth × up to
   BLOCK_BYTES, in panels), which stays in its L2 cache, and streams the left operand past it, a panel of up to
   GEMM_ROWS rows at a time; a micro-kernel (gemm_kernel.h) multiplies panel by panel. An operand that is contiguous as
   its panels are is packed by the first micro-kernel that reads it. k is cut by itself alone, so that a result does not
   depend on the threads. Source of the scheme: Goto and van de Geijn, "Anatomy of high-performance matrix
   multiplication", ACM TOMS 34(3), 2008.

   Kept by the bench's row "linear 50×512 → 256": 1.3 times as fast as OpenBLAS 0.3.21 with its AVX-512 kernels, 1.05 to
   1.2 in larger products; 6 times where OpenBLAS does not know the processor and takes those for SSE3. It also hands
   blocks to visitors, leaves out what lies above a diagonal (1.6 times as fast for the Gram matrix of 250×3072, row
   "MLP step, GLS, batch 250") and adds biases. (Intel Xeon, one thread, shared machine.) */
#include "gemm.h"
#include "gemm_kernel.h"

#if VECTOR_BYTES == 64

#include <math.h>

#include "../../base/memory.h"
#include "../../base/parallel.h"

enum {
  DEPTH_MOST = 384,            /* of k between two visits to c: a left panel fits the L1 cache */
  BLOCK_BYTES = 1 << 19,       /* of the right operand: half of an L2 cache of 1 MB */
  BLOCK_VISIT_BYTES = 3 << 18, /* the same where all of k is held */
  WORK_PARALLEL = 1 << 16,
  SHARED = 32 /* reals: two cache lines */
};

struct plan {
  const struct gemm_product *product;
  struct gemm_operand left, right;
  bool unpacked_left, unpacked_right; /* packed by micro-kernels */
  int64_t depth;                      /* of k at a time */
  int64_t block;                      /* columns of the right operand at a time */
  int64_t row_parts, column_parts;
  size_t right_reals, left_reals; /* of one thread */
};

/* Rows and columns of the result that one thread makes. */
struct rectangle {
  int64_t row, rows, column, columns;
};

/* The rows from the top that hold a share of a triangle's micro-tiles, which go beyond the diagonal by half a panel's
   rows and half a vector. */
static int64_t triangle_rows(int64_t rows, double share) {
  const double beyond = (GEMM_ROWS + VECTOR_LANES) / 2.0, m = (double)rows;
  return (int64_t)(sqrt(beyond * beyond + share * m * (m + 2 * beyond)) - beyond + 0.5);
}

static struct rectangle plan_part(const struct plan *plan, int64_t part) {
  const struct gemm_product *p = plan->product;
  int64_t i = part / plan->column_parts, j = part % plan->column_parts;
  int64_t width = round_up(ceil_div(p->n, plan->column_parts), GEMM_COLUMNS);
  int64_t row = p->m * i / plan->row_parts, row_end = p->m * (i + 1) / plan->row_parts;
  if (p->lower) {
    row = triangle_rows(p->m, (double)i / (double)plan->row_parts);
    row_end = triangle_rows(p->m, (double)(i + 1) / (double)plan->row_parts);
  }
  struct rectangle r = {row, row_end - row, min(j * width, p->n), 0};
  int64_t end = p->lower ? min(row_end, p->n) : p->n;
  r.columns = min(width, end - r.column);
  return r;
}

/* Threads share the result so that the least is packed twice: rows cost k · n again, columns k · m; less where a
   micro-kernel packs. Where columns are cut the processor prefetches what the neighbour writes, SHARED reals a row,
   which costs where k is short. */
static void plan_threads(struct plan *plan, int threads) {
  const struct gemm_product *p = plan->product;
  double least = INFINITY, left = plan->unpacked_left ? 0.5 : 1, right = plan->unpacked_right ? 0.5 : 1;
  for (int rows = 1; rows <= threads; rows++) {
    if (threads % rows) continue;
    int columns = threads / rows;
    if (p->lower && columns > 1) continue;
    double uneven = (double)round_up(ceil_div(p->n, columns), GEMM_COLUMNS) * columns / (double)p->n *
                    ((double)ceil_div(p->m, rows) * rows / (double)p->m);
    double cost = right * (double)p->n * rows + left * (double)p->m * columns +
                  (double)p->m * (double)p->n * (uneven - 1) + (double)p->m * SHARED * (columns - 1) / (double)p->k;
    if (cost < least) {
      least = cost;
      plan->row_parts = rows;
      plan->column_parts = columns;
    }
  }
}

static void plan_make(struct plan *plan, const struct gemm_product *p, int threads) {
  plan->product = p;
  plan->left = (struct gemm_operand){p->a, p->m, p->transpose_a ? 1 : p->lda, p->transpose_a ? p->lda : 1};
  plan->right = (struct gemm_operand){p->b, p->n, p->transpose_b ? p->ldb : 1, p->transpose_b ? 1 : p->ldb};
  plan->unpacked_left = plan->left.inner_stride != 1;
  plan->unpacked_right = plan->right.outer_stride == 1 && !p->lower;
  plan_threads(plan, threads);
  plan->depth = round_up(ceil_div(p->k, ceil_div(p->k, DEPTH_MOST)), VECTOR_LANES); /* whole cache lines along k */
  int64_t held = p->visitor ? p->k : plan->depth;
  int64_t bytes = p->visitor && p->k > plan->depth ? BLOCK_VISIT_BYTES : BLOCK_BYTES;
  int64_t width = round_up(ceil_div(p->n, plan->column_parts), GEMM_COLUMNS);
  int64_t block = max(bytes / (int64_t)sizeof(real) / held / GEMM_COLUMNS, 1) * GEMM_COLUMNS;
  plan->block = round_up(ceil_div(width, ceil_div(width, block)), GEMM_COLUMNS);
  plan->right_reals = (size_t)(plan->block * held);
  plan->left_reals = (size_t)round_up(GEMM_ROWS * held + VECTOR_LANES, VECTOR_LANES);
}

/* Rows cut evenly into panels. */
struct panels {
  int64_t first, count, rows;
};

static int64_t panel_start(const struct panels *panels, int64_t i) {
  return panels->first + panels->rows * i / panels->count;
}

/* A left panel and a block of the right operand, over one block of k. */
struct pair {
  const struct plan *plan;
  int64_t row, rows, column, columns, inner, depth;
  real *left, *right;
  bool first; /* the first panel that meets the block */
};

/* What no micro-kernel packs on its way. */
static void pair_pack(const struct pair *pair) {
  const struct plan *plan = pair->plan;
  if (pair->first) {
    int64_t whole = plan->unpacked_right ? pair->columns - pair->columns % GEMM_COLUMNS : 0;
    gemm_pack_right(pair->right + whole * pair->depth, &plan->right, pair->column + whole, pair->columns - whole,
                    pair->inner, pair->depth);
  }
  if (pair->first || !plan->unpacked_left)
    gemm_pack_left(pair->left, &plan->left, pair->row, pair->rows, pair->inner, pair->depth);
}

/* The micro-tile at column j of the block into tile->c; tile brings c, alpha, beta and, with the kind for it, what to
   prefetch. */
static void pair_tile(const struct pair *pair, int64_t j, enum gemm_kind kind, struct gemm_tile *tile) {
  const struct plan *plan = pair->plan;
  int64_t rest = pair->columns - j;
  tile->depth = pair->depth;
  tile->left = pair->left, tile->left_step = pair->rows;
  tile->right = pair->right + j * pair->depth;
  if (pair->first && plan->unpacked_right && rest >= GEMM_COLUMNS) {
    kind = GEMM_UNPACKED_RIGHT;
    tile->packed = pair->right + j * pair->depth;
    tile->right = gemm_operand_at(&plan->right, pair->column + j, pair->inner);
    tile->unpacked_step = plan->right.inner_stride;
  } else if (!pair->first && plan->unpacked_left && j == 0) {
    kind = GEMM_UNPACKED_LEFT;
    tile->packed = pair->left;
    tile->left = gemm_operand_at(&plan->left, pair->row, pair->inner);
    tile->left_step = plan->left.inner_stride;
  }
  int64_t beyond = pair->column + j + VECTOR_LANES - pair->row - pair->rows; /* the diagonal */
  bool half = plan->product->lower && beyond >= 0 && kind < GEMM_UNPACKED_LEFT;
  (half ? gemm_half_kernels : gemm_kernels[kind])[pair->rows](tile);
}

/* The block of the right operand after one; no columns after the last. */
static struct pair pair_next(const struct pair *pair, const struct rectangle *r) {
  const struct plan *plan = pair->plan;
  struct pair next = {.column = pair->column, .columns = pair->columns, .inner = pair->inner + pair->depth};
  if (next.inner >= plan->product->k) {
    next.column = pair->column + plan->block, next.inner = 0;
    next.columns = min(plan->block, r->column + r->columns - next.column);
  }
  next.depth = min(plan->depth, plan->product->k - next.inner);
  return next;
}

/* While a block is multiplied the next is prefetched, unpacked, one slice per micro-tile of the panels after the
   first. */
static void prefetch_next(const struct plan *plan, const struct pair *next, int64_t panel, int64_t panels, int64_t j,
                          struct gemm_tile *tile) {
  tile->prefetch_count = 0;
  if (panel == 0 || j >= next->columns) return;
  const struct gemm_operand *right = &plan->right;
  bool along_columns = right->outer_stride == 1;
  int64_t rows = along_columns ? next->depth : min(GEMM_COLUMNS, next->columns - j);
  int64_t from = rows * (panel - 1) / (panels - 1), end = rows * panel / (panels - 1);
  if (from == end) return;
  tile->prefetch_rows = end - from;
  tile->prefetch_stride = along_columns ? right->inner_stride : right->outer_stride;
  tile->prefetch_count = along_columns ? 1 : (int)min(ceil_div(next->depth, GEMM_COLUMNS), GEMM_PREFETCHES);
  for (int t = 0; t < tile->prefetch_count; t++)
    tile->prefetch[t] = along_columns ? gemm_operand_at(right, next->column + j, next->inner + from)
                                      : gemm_operand_at(right, next->column + j + from, next->inner + t * GEMM_COLUMNS);
}

/* A rectangle into c. */
static void rectangle_store(const struct plan *plan, const struct rectangle *r, real *right, real *left) {
  const struct gemm_product *p = plan->product;
  struct panels panels = {r->row, ceil_div(r->rows, GEMM_ROWS), r->rows};
  for (int64_t start = 0; start < r->columns; start += plan->block) {
    struct pair pair = {.plan = plan, .left = left, .right = right, .column = r->column + start};
    pair.columns = min(plan->block, r->columns - start);
    for (pair.inner = 0; pair.inner < p->k; pair.inner += plan->depth) {
      pair.depth = min(plan->depth, p->k - pair.inner);
      pair.first = true;
      struct pair next = pair_next(&pair, r);
      for (int64_t i = 0; i < panels.count; i++) {
        pair.row = panel_start(&panels, i);
        pair.rows = panel_start(&panels, i + 1) - pair.row;
        if (p->lower && pair.column >= pair.row + pair.rows) continue;
        pair_pack(&pair);
        real *c = p->c + pair.row * p->ldc + pair.column;
        struct gemm_tile tile = {.alpha = p->alpha, .beta = 1, .ldc = p->ldc, .ldbase = p->ldc};
        const real *base = c;
        if (pair.inner == 0 && p->bias)
          base = p->bias + pair.column, tile.ldbase = 0;
        else if (pair.inner == 0)
          tile.beta = p->beta;
        for (int64_t j = 0; j < pair.columns; j += GEMM_COLUMNS) {
          if (p->lower && pair.column + j >= pair.row + pair.rows) break;
          tile.c = c + j, tile.base = base + j;
          if (pair.columns - j >= GEMM_COLUMNS) {
            prefetch_next(plan, &next, i, panels.count, j, &tile);
            pair_tile(&pair, j, tile.prefetch_count > 0 ? GEMM_PREFETCH_READ : GEMM_PLAIN, &tile);
          } else {
            if (!pair.first && plan->unpacked_left && j == 0) /* a single, narrow micro-tile: nobody packed for it */
              gemm_pack_left(left, &plan->left, pair.row, pair.rows, pair.inner, pair.depth);
            tile.depth = pair.depth, tile.left = left, tile.left_step = pair.rows;
            tile.right = right + j * pair.depth;
            gemm_edge(pair.rows, pair.columns - j, &tile);
          }
        }
        pair.first = false;
      }
    }
  }
}

static void tile_visit(const struct pair *at, int64_t j, const struct gemm_visitor *visitor, const real *values) {
  visitor->visit(visitor->context, &(struct gemm_block){.row = at->row,
                                                        .rows = at->rows,
                                                        .column = at->column + j,
                                                        .columns = min(GEMM_COLUMNS, at->columns - j),
                                                        .values = values,
                                                        .stride = GEMM_COLUMNS});
}

/* A rectangle to be visited: all of k at once, so that the micro-tiles handed out are whole. */
static void rectangle_visit(const struct plan *plan, const struct rectangle *r, real *right, real *left) {
  const struct gemm_product *p = plan->product;
  _Alignas(VECTOR_BYTES) real values[GEMM_ROWS * GEMM_COLUMNS];
  struct panels panels = {r->row, ceil_div(r->rows, GEMM_ROWS), r->rows};
  for (int64_t start = 0; start < r->columns; start += plan->block) {
    struct pair pair = {.plan = plan, .column = r->column + start};
    pair.columns = min(plan->block, r->columns - start);
    int64_t width = round_up(pair.columns, GEMM_COLUMNS);
    for (int64_t i = 0; i < panels.count; i++) {
      pair.row = panel_start(&panels, i);
      pair.rows = panel_start(&panels, i + 1) - pair.row;
      pair.first = i == 0;
      for (int64_t j = 0; j < pair.columns; j += GEMM_COLUMNS) {
        struct gemm_tile tile = {.alpha = p->alpha, .c = values, .base = values, .ldc = GEMM_COLUMNS};
        tile.ldbase = GEMM_COLUMNS, tile.prefetch_rows = pair.rows, tile.prefetch_stride = p->n;
        for (pair.inner = 0; pair.inner < p->k; pair.inner += plan->depth) {
          pair.depth = min(plan->depth, p->k - pair.inner);
          pair.left = left + pair.rows * pair.inner, pair.right = right + pair.inner * width;
          if (j == 0) pair_pack(&pair);
          tile.beta = pair.inner == 0 ? 0 : 1;
          for (int t = 0; t < GEMM_TOUCHED && pair.inner + pair.depth == p->k && p->visitor->touched[t]; t++)
            tile.prefetch[tile.prefetch_count++] = p->visitor->touched[t] + pair.row * p->n + pair.column + j;
          pair_tile(&pair, j, tile.prefetch_count > 0 ? GEMM_PREFETCH_WRITE : GEMM_PLAIN, &tile);
        }
        tile_visit(&pair, j, p->visitor, values);
      }
    }
  }
}

bool gemm_vector(const struct gemm_product *product) {
  const struct gemm_product *p = product;
  double work = (double)p->m * (double)p->n * (double)p->k;
  int threads = omp_in_parallel() || work < WORK_PARALLEL ? 1 : parallel_threads();
  struct plan plan;
  plan_make(&plan, p, threads);
  size_t each = plan.right_reals + plan.left_reals;
  real *buffer = memory_acquire((size_t)threads * each * sizeof(real));
  if (!buffer) return false;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t part = 0; part < threads; part++) {
    struct rectangle r = plan_part(&plan, part);
    real *right = buffer + (size_t)part * each, *left = right + plan.right_reals;
    if (r.rows <= 0 || r.columns <= 0) continue;
    if (p->visitor)
      rectangle_visit(&plan, &r, right, left);
    else
      rectangle_store(&plan, &r, right, left);
  }
  memory_release(buffer);
  return true;
}

#else

bool gemm_vector(const struct gemm_product *product) {
  (void)product;
  return false;
}

#endif
