/* GEMM by the matrix unit of x86 processors (AMX, bf16), to float32's accuracy. Every float is the exact sum of three
   bf16 numbers, high + middle + low. Of the nine products of two such sums the six largest are formed and added up in
   float32; the other three are below 2⁻²⁵ of the product, less than what rounding it to float32 costs. The result is as
   near to the exact one as sgemm's, or nearer; infinities and NaN come out as sgemm has them; numbers below 2⁻¹¹⁰ lose
   their low parts, those below 2⁻¹²⁶ count as zero. Source: Henry, Tang, Heinecke, "Leveraging the bfloat16 artificial
   intelligence datatype for higher-precision computations", ARITH 2019.

   The operand with fewer rows or columns is packed for all threads, a shared block of up to SHARED_BYTES. The other is
   streamed: threads take strips of it in turn, pack a strip into their L2 cache and multiply it with the shared block;
   while the matrix unit multiplies, the vector units pack the next strip and store the results before. k is cut by
   itself alone, so that a result does not depend on the threads.

   A packed panel holds 16 rows (left operand) or 16 columns (right) in steps of 32 along k. One step is three tiles,
   high, middle and low.

   Kept by the bench's row "linear 250×3072 → 1024": 1.4 to 1.7 times as fast as AVX-512 (Intel Xeon with AMX, one
   thread). On a shared machine, where the core's other hyperthread has the unit too, 0.9 to 1.0; with 50 rows or 128
   columns 0.7 to 0.95. */
#include "gemm.h"
#include "tiles.h"

#ifdef HAS_TILES

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../base/memory.h"
#include "../../base/parallel.h"

enum {
  PARTS = 3,
  STEP_BYTES = PARTS * TILE_BYTES,
  DEPTH_MOST = 512,       /* of k between two visits to c */
  SHARED_BYTES = 3 << 19, /* shared block and strip leave room for each other in a 2 MB cache */
  STRIP_BYTES = 3 << 17
};

/* ---- the processor ---- */

static bool processor_has_it(void) {
  unsigned a, b, c, d;
  const char *wanted = getenv("GLS_MATRIX_UNIT"); /* 0: a user's way to do without */
  if (wanted && strcmp(wanted, "0") == 0) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  unsigned tile_and_bf16 = (1u << 24) | (1u << 22);
  if ((d & tile_and_bf16) != tile_and_bf16) return false;
  unsigned avx512 = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31); /* F, DQ, BW, VL */
  if ((b & avx512) != avx512) return false;
  if (!__builtin_cpu_supports("avx512f")) return false; /* the system saves its registers */
  enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

bool gemm_matrix_unit_available(void) {
  static int answer = -1; /* two threads that ask at once get the same one */
  int known = __atomic_load_n(&answer, __ATOMIC_RELAXED);
  if (known < 0) {
    known = processor_has_it();
    __atomic_store_n(&answer, known, __ATOMIC_RELAXED);
  }
  return known;
}

/* ---- packing ---- */

/* outer: the rows of the left operand, the columns of the right one. One of the strides is 1. */
struct operand {
  const float *data;
  int64_t outer, outer_stride, inner_stride; /* inner is k */
};

/* Writes one line of each part: pairs of the bf16 parts of x0 (lower half) and x1. Rounding to nearest is done by
   adding half of what is cut off; what is left after two parts has 8 bits, so that the third is exact. A NaN stays
   one in low, and an infinity makes one there. */
TARGET static inline void split(__m512 x0, __m512 x1, char *line) {
  const __m512i upper = _mm512_set1_epi32((int)0xffff0000), half = _mm512_set1_epi32(0x8000);
  __m512i high0 = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x0), half), upper);
  __m512i high1 = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x1), half), upper);
  __m512 rest0 = _mm512_sub_ps(x0, _mm512_castsi512_ps(high0));
  __m512 rest1 = _mm512_sub_ps(x1, _mm512_castsi512_ps(high1));
  __m512i middle0 = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(rest0), half), upper);
  __m512i middle1 = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(rest1), half), upper);
  __m512i low0 = _mm512_castps_si512(_mm512_sub_ps(rest0, _mm512_castsi512_ps(middle0)));
  __m512i low1 = _mm512_castps_si512(_mm512_sub_ps(rest1, _mm512_castsi512_ps(middle1)));
  enum { A_AND_B_OR_C = 0xea };
  _mm512_store_si512(line, _mm512_or_si512(high1, _mm512_srli_epi32(high0, 16)));
  _mm512_store_si512(line + TILE_BYTES, _mm512_or_si512(middle1, _mm512_srli_epi32(middle0, 16)));
  _mm512_store_si512(line + 2 * TILE_BYTES,
                     _mm512_ternarylogic_epi32(upper, low1, _mm512_srli_epi32(low0, 16), A_AND_B_OR_C));
}

static inline void prefetch(const float *address) { __builtin_prefetch(address, 0, 3); }

/* The packing of one block of an operand, cut into small units, so that it can be done while tiles multiply. */
struct packing {
  const struct operand *operand;
  bool is_left, transposes; /* transposes: lines run across the operand's contiguous direction */
  char *out;
  int64_t outer, count, inner, depth; /* panels of 16 from outer on (count); k from inner on (depth) */
  int64_t steps, panels;
  int64_t step, panel, part; /* the next unit; step == steps: done */
  float transposed[2][SIDE][SIDE] __attribute__((aligned(64)));
};

static void packing_begin(struct packing *packing, char *out, bool is_left, const struct operand *operand,
                          int64_t outer, int64_t count, int64_t inner, int64_t depth) {
  packing->operand = operand;
  packing->is_left = is_left;
  packing->transposes = is_left != (operand->inner_stride == 1);
  packing->out = out;
  packing->outer = outer, packing->count = count, packing->inner = inner, packing->depth = depth;
  packing->steps = ceil_div(depth, STEP), packing->panels = ceil_div(count, SIDE);
  packing->step = packing->panel = packing->part = 0;
}

/* A step is packed line by line; where it is transposed, in two halves to transpose and eight pairs of lines. */
enum { TRANSPOSED_PARTS = 10 };

static int64_t packing_units(const struct packing *packing) {
  return packing->steps * packing->panels * (packing->transposes ? TRANSPOSED_PARTS : SIDE);
}

/* A line of a left operand: along its row. */
TARGET static void pack_row(char *line, const float *from, int64_t rows, int64_t depth) {
  __m512 x0 = _mm512_setzero_ps(), x1 = x0;
  if (rows > 0) {
    x0 = _mm512_maskz_loadu_ps(lanes(depth), from);
    x1 = _mm512_maskz_loadu_ps(lanes(depth - SIDE), from + SIDE);
    prefetch(from + 2 * STEP);
    prefetch(from + 2 * STEP + SIDE);
  }
  split(x0, x1, line);
}

/* A line of a right operand: along its rows k and k + 16. */
TARGET static void pack_column(char *line, const float *from, int64_t stride, int64_t columns, int64_t depth) {
  __mmask16 mask = lanes(columns);
  __m512 x0 = _mm512_maskz_loadu_ps(depth > 0 ? mask : 0, from);
  __m512 x1 = _mm512_maskz_loadu_ps(depth > SIDE ? mask : 0, from + SIDE * stride);
  prefetch(from + STEP * stride);
  prefetch(from + (STEP + SIDE) * stride);
  split(x0, x1, line);
}

/* Part of one step of one panel that is transposed. */
TARGET static void pack_transposed(struct packing *packing, char *step, const float *from, int64_t rows,
                                   int64_t depth) {
  const struct operand *operand = packing->operand;
  int64_t half = packing->part;
  if (half < 2) {
    int64_t here = depth - half * SIDE;
    here = here < 0 ? 0 : min(here, SIDE);
    from += half * SIDE * operand->inner_stride;
    if (packing->is_left) {
      transpose(packing->transposed[half], from, operand->inner_stride, here, rows);
    } else {
      for (int64_t i = 0; i < rows; i++) prefetch(from + i * operand->outer_stride + 2 * STEP);
      transpose(packing->transposed[half], from, operand->outer_stride, rows, here);
    }
    return;
  }
  for (int64_t i = 2 * (half - 2); i < 2 * (half - 1); i++)
    split(_mm512_load_ps(packing->transposed[0][i]), _mm512_load_ps(packing->transposed[1][i]), step + 64 * i);
}

/* The next unit, if there is one. */
TARGET static void packing_advance(struct packing *packing) {
  struct packing *w = packing;
  if (w->step == w->steps) return;
  int64_t depth = w->depth - w->step * STEP, rows = w->count - w->panel * SIDE;
  const float *from = w->operand->data + (w->outer + w->panel * SIDE) * w->operand->outer_stride +
                      (w->inner + w->step * STEP) * w->operand->inner_stride;
  char *step = w->out + (w->panel * w->steps + w->step) * STEP_BYTES;
  if (!w->transposes && !w->is_left) { /* all panels line by line: long runs of the operand's rows */
    pack_column(step + 64 * w->part, from + w->part * w->operand->inner_stride, w->operand->inner_stride, rows,
                depth - w->part);
    if (++w->panel < w->panels) return;
    w->panel = 0;
    if (++w->part < SIDE) return;
    w->part = 0;
    w->step++;
    return;
  }
  if (w->transposes)
    pack_transposed(w, step, from, min(rows, SIDE), depth);
  else
    pack_row(step + 64 * w->part, from + w->part * w->operand->outer_stride, rows - w->part, depth);
  if (++w->part < (w->transposes ? TRANSPOSED_PARTS : SIDE)) return;
  w->part = 0;
  if (++w->panel < w->panels) return;
  w->panel = 0;
  w->step++;
}

static void packing_finish(struct packing *packing) {
  while (packing->step < packing->steps) packing_advance(packing);
}

/* ---- results ---- */

struct plan;
static void recompute(float *out, const struct plan *plan, int64_t row, int64_t column, int64_t columns, int64_t inner,
                      int64_t depth);

/* A block of results to be stored: c = alpha · block + beta · c. */
struct result {
  float block[BLOCK * BLOCK] __attribute__((aligned(64)));
  const struct plan *plan;
  float *to;
  int64_t stride, row, column, rows, columns, inner, depth;
  float alpha, beta;
  int64_t next; /* row to store next; rows: done */
};

/* Stores the next count rows. */
TARGET static void result_advance(struct result *result, int64_t count) {
  struct result *r = result;
  enum { NAN_OR_INFINITY = 0x99 };
  __mmask16 first = lanes(r->columns), second = lanes(r->columns - SIDE);
  __m512 scale = _mm512_set1_ps(r->alpha), keep = _mm512_set1_ps(r->beta);
  for (int64_t end = min(r->next + count, r->rows); r->next < end; r->next++) {
    float *block = r->block + r->next * BLOCK, *to = r->to + r->next * r->stride;
    __m512 x = _mm512_load_ps(block), y = _mm512_load_ps(block + SIDE);
    __mmask16 bad = _mm512_mask_fpclass_ps_mask(first, x, NAN_OR_INFINITY);
    bad |= _mm512_mask_fpclass_ps_mask(second, y, NAN_OR_INFINITY);
    if (__builtin_expect(bad, 0)) {
      /* The parts of an infinity cancel to NaN: BLAS knows what is really there. */
      recompute(block, r->plan, r->row + r->next, r->column, r->columns, r->inner, r->depth);
      x = _mm512_load_ps(block), y = _mm512_load_ps(block + SIDE);
    }
    x = _mm512_mul_ps(scale, x), y = _mm512_mul_ps(scale, y);
    if (r->beta != 0) {
      x = _mm512_fmadd_ps(keep, _mm512_maskz_loadu_ps(first, to), x);
      y = _mm512_fmadd_ps(keep, _mm512_maskz_loadu_ps(second, to + SIDE), y);
    }
    _mm512_mask_storeu_ps(to, first, x);
    _mm512_mask_storeu_ps(to + SIDE, second, y);
  }
}

enum { PLACES = 6 };

/* What the vector units do while tiles multiply: store the block before, pack what comes next. */
struct vector_work {
  struct result *result;   /* NULL when there is none */
  struct packing *packing; /* the same */
  int64_t rows, units;     /* of them at each of the places in a step of a kernel */
  const float *prefetch;   /* the block of c that is being made */
  int64_t stride, prefetch_rows;
};

static inline void vector_work_advance(struct vector_work *work) {
  for (int64_t i = 0; i < work->rows && work->prefetch_rows > 0; i++, work->prefetch_rows--) {
    __builtin_prefetch(work->prefetch, 1, 3);
    __builtin_prefetch(work->prefetch + SIDE, 1, 3);
    work->prefetch += work->stride;
  }
  if (work->result) result_advance(work->result, work->rows);
  if (work->packing) {
    for (int64_t i = 0; i < work->units; i++) packing_advance(work->packing);
  }
}

/* ---- multiplying ---- */

/* Tile registers: 0 to 3 sums (2 × 2), 4 and 5 left, 6 and 7 right. Loads stand where the register is read last, two
   products before they are needed. */
#define SUM_00 0
#define SUM_01 1
#define SUM_10 2
#define SUM_11 3
#define LEFT_0 4
#define LEFT_1 5
#define RIGHT_0 6
#define RIGHT_1 7
#define LEFT(i, part) ({ _tile_loadd(LEFT_##i, left##i + (part)*TILE_BYTES, 64); })
#define RIGHT(i, part) ({ _tile_loadd(RIGHT_##i, right##i + (part)*TILE_BYTES, 64); })
#define ADD(i, j) ({ _tile_dpbf16ps(SUM_##i##j, LEFT_##i, RIGHT_##j); })

enum { HIGH, MIDDLE, LOW };

TARGET static void kernel_2x2(float *out, const char *left0, const char *left1, const char *right0, const char *right1,
                              int64_t steps, struct vector_work *work) {
  LEFT(0, LOW), RIGHT(0, HIGH), RIGHT(1, HIGH), LEFT(1, LOW);
  for (int64_t s = 0; s < steps; s++) {
    ADD(0, 0), ADD(0, 1), LEFT(0, HIGH), ADD(1, 0), ADD(1, 1), LEFT(1, HIGH);
    vector_work_advance(work);
    ADD(0, 0), ADD(0, 1), LEFT(0, MIDDLE), ADD(1, 0), ADD(1, 1), LEFT(1, MIDDLE);
    vector_work_advance(work);
    ADD(0, 0), ADD(1, 0), RIGHT(0, MIDDLE), ADD(0, 1), ADD(1, 1), RIGHT(1, MIDDLE);
    vector_work_advance(work);
    ADD(0, 0), ADD(0, 1), LEFT(0, HIGH), ADD(1, 0), ADD(1, 1), LEFT(1, HIGH);
    vector_work_advance(work);
    ADD(0, 0), ADD(1, 0), RIGHT(0, LOW), ADD(0, 1), ADD(1, 1), RIGHT(1, LOW);
    vector_work_advance(work);
    int64_t next = s + 1 < steps ? STEP_BYTES : 0;
    left0 += next, left1 += next, right0 += next, right1 += next;
    ADD(0, 0), ADD(0, 1), LEFT(0, LOW), ADD(1, 0), RIGHT(0, HIGH), ADD(1, 1), LEFT(1, LOW), RIGHT(1, HIGH);
    vector_work_advance(work);
  }
  _tile_stored(SUM_00, out, BLOCK * sizeof(float));
  _tile_stored(SUM_01, out + SIDE, BLOCK * sizeof(float));
  _tile_stored(SUM_10, out + SIDE * BLOCK, BLOCK * sizeof(float));
  _tile_stored(SUM_11, out + SIDE * BLOCK + SIDE, BLOCK * sizeof(float));
}

TARGET static void kernel_1x2(float *out, const char *left0, const char *right0, const char *right1, int64_t steps) {
  for (int64_t s = 0; s < steps; s++) {
    LEFT(0, HIGH), RIGHT(0, HIGH), RIGHT(1, HIGH), ADD(0, 0), ADD(0, 1);
    LEFT(0, MIDDLE), ADD(0, 0), ADD(0, 1), LEFT(0, LOW), ADD(0, 0), ADD(0, 1);
    LEFT(0, MIDDLE), RIGHT(0, MIDDLE), RIGHT(1, MIDDLE), ADD(0, 0), ADD(0, 1);
    LEFT(0, HIGH), ADD(0, 0), ADD(0, 1), RIGHT(0, LOW), RIGHT(1, LOW), ADD(0, 0), ADD(0, 1);
    left0 += STEP_BYTES, right0 += STEP_BYTES, right1 += STEP_BYTES;
  }
  _tile_stored(SUM_00, out, BLOCK * sizeof(float));
  _tile_stored(SUM_01, out + SIDE, BLOCK * sizeof(float));
}

TARGET static void kernel_2x1(float *out, const char *left0, const char *left1, const char *right0, int64_t steps) {
  for (int64_t s = 0; s < steps; s++) {
    RIGHT(0, HIGH), LEFT(0, HIGH), LEFT(1, HIGH), ADD(0, 0), ADD(1, 0);
    RIGHT(0, MIDDLE), ADD(0, 0), ADD(1, 0), RIGHT(0, LOW), ADD(0, 0), ADD(1, 0);
    RIGHT(0, MIDDLE), LEFT(0, MIDDLE), LEFT(1, MIDDLE), ADD(0, 0), ADD(1, 0);
    RIGHT(0, HIGH), ADD(0, 0), ADD(1, 0), LEFT(0, LOW), LEFT(1, LOW), ADD(0, 0), ADD(1, 0);
    left0 += STEP_BYTES, left1 += STEP_BYTES, right0 += STEP_BYTES;
  }
  _tile_stored(SUM_00, out, BLOCK * sizeof(float));
  _tile_stored(SUM_10, out + SIDE * BLOCK, BLOCK * sizeof(float));
}

TARGET static void kernel_1x1(float *out, const char *left0, const char *right0, int64_t steps) {
  for (int64_t s = 0; s < steps; s++) {
    LEFT(0, HIGH), RIGHT(0, HIGH), ADD(0, 0), RIGHT(0, MIDDLE), ADD(0, 0), RIGHT(0, LOW), ADD(0, 0);
    LEFT(0, MIDDLE), RIGHT(0, MIDDLE), ADD(0, 0), RIGHT(0, HIGH), ADD(0, 0), LEFT(0, LOW), ADD(0, 0);
    left0 += STEP_BYTES, right0 += STEP_BYTES;
  }
  _tile_stored(SUM_00, out, BLOCK * sizeof(float));
}

/* out (32 × 32, of which rows × columns are wanted) = the panels at left times those at right; the vector
   units may not end their work. */
TARGET static void multiply(float *out, const char *left, const char *right, int64_t steps, int64_t rows,
                            int64_t columns, struct vector_work *work) {
  size_t panel = (size_t)steps * STEP_BYTES;
  _tile_zero(SUM_00);
  _tile_zero(SUM_01);
  _tile_zero(SUM_10);
  _tile_zero(SUM_11);
  __asm__ volatile("" ::: "memory"); /* the panels are written before tiles are loaded from them */
  if (rows > SIDE && columns > SIDE)
    kernel_2x2(out, left, left + panel, right, right + panel, steps, work);
  else if (columns > SIDE)
    kernel_1x2(out, left, right, right + panel, steps);
  else if (rows > SIDE)
    kernel_2x1(out, left, left + panel, right, steps);
  else
    kernel_1x1(out, left, right, steps);
}

/* ---- one product ---- */

struct plan {
  const struct gemm_product *product;
  struct operand left, right;
  bool left_is_shared;
  int64_t depth;  /* of k at a time */
  int64_t shared; /* rows or columns of the shared operand at a time */
  int64_t strip;  /* of the streamed one */
  size_t shared_bytes, thread_bytes;
  char *buffer; /* the shared block, then each thread's strips and rows to be visited */
};

static size_t panel_bytes(int64_t outer, int64_t depth) {
  return (size_t)(ceil_div(outer, SIDE) * ceil_div(depth, STEP)) * STEP_BYTES;
}

static bool plan_make(struct plan *plan, const struct gemm_product *product, int threads) {
  const struct gemm_product *p = product;
  plan->product = p;
  plan->left = (struct operand){p->a, p->m, p->transpose_a ? 1 : p->lda, p->transpose_a ? p->lda : 1};
  plan->right = (struct operand){p->b, p->n, p->transpose_b ? p->ldb : 1, p->transpose_b ? 1 : p->ldb};
  plan->left_is_shared = p->m <= p->n;
  int64_t shared_length = plan->left_is_shared ? p->m : p->n, streamed_length = plan->left_is_shared ? p->n : p->m;
  if (p->visitor) {
    plan->depth = p->k;
  } else {
    int64_t room = SHARED_BYTES / (2 * PARTS) / max(min(shared_length, 1024), 1);
    int64_t most = min(max(room / STEP * STEP, 256), DEPTH_MOST);
    plan->depth = round_up(ceil_div(p->k, ceil_div(p->k, most)), STEP);
  }
  int64_t line = (int64_t)panel_bytes(SIDE, plan->depth) / SIDE;
  plan->shared = min(round_up(shared_length, BLOCK), max(SHARED_BYTES / line / BLOCK * BLOCK, BLOCK));
  int64_t strip = max(STRIP_BYTES / line / BLOCK * BLOCK, BLOCK);
  int64_t fair = round_up(ceil_div(streamed_length, 2 * threads), BLOCK);
  plan->strip = min(strip, fair);
  plan->shared_bytes = panel_bytes(plan->shared, plan->depth);
  plan->thread_bytes = 2 * panel_bytes(plan->strip, plan->depth);
  if (p->visitor) plan->thread_bytes += (size_t)BLOCK * (size_t)max(plan->shared, plan->strip) * sizeof(float);
  plan->buffer = memory_acquire(plan->shared_bytes + (size_t)threads * plan->thread_bytes);
  return plan->buffer != NULL;
}

/* One row of results at (row, column) over k from inner on, as BLAS has it. */
static void recompute(float *out, const struct plan *plan, int64_t row, int64_t column, int64_t columns, int64_t inner,
                      int64_t depth) {
  const struct operand *a = &plan->left, *b = &plan->right;
  struct gemm_product p = *plan->product;
  p.m = 1, p.n = columns, p.k = depth, p.alpha = 1, p.beta = 0, p.lower = false, p.visitor = NULL;
  p.a = a->data + row * a->outer_stride + inner * a->inner_stride;
  p.b = b->data + column * b->outer_stride + inner * b->inner_stride;
  p.c = out, p.ldc = columns;
  gemm_blas(&p);
}

/* One thread's share of a product. */
struct share {
  const struct plan *plan;
  char *strip[2]; /* the one in use and the one being packed */
  float *visited; /* rows to be visited */
  struct packing packing;
  struct result result[2];
};

/* One step of a thread: strip (streamed from … on) times shared block (shared from … on), k from inner on. */
struct strip {
  int64_t shared, shared_count, inner, depth, streamed, count;
};

/* The packed strip times the shared block; meanwhile share->packing goes on. */
static void strip_times_shared(struct share *share, const char *strip, const struct strip *at) {
  const struct plan *plan = share->plan;
  const struct gemm_product *p = plan->product;
  bool left_is_shared = plan->left_is_shared;
  /* Rows are the outer loop where whole rows are visited; else the strip is, to stay in the L1 cache. */
  bool shared_is_outer = p->visitor && left_is_shared;
  int64_t outer_count = shared_is_outer ? at->shared_count : at->count;
  int64_t inner_count = shared_is_outer ? at->count : at->shared_count;
  int64_t steps = ceil_div(at->depth, STEP);
  int64_t places = max(outer_count / BLOCK * (inner_count / BLOCK) / (p->lower ? 2 : 1), 1) * steps * PLACES;
  struct vector_work work = {.packing = &share->packing,
                             .rows = ceil_div(BLOCK, steps * PLACES),
                             .units = ceil_div(packing_units(&share->packing), places)};
  int which = 0;
  for (int64_t i = 0; i < outer_count; i += BLOCK) {
    for (int64_t j = 0; j < inner_count; j += BLOCK) {
      int64_t in_shared = shared_is_outer ? i : j, in_strip = shared_is_outer ? j : i;
      const char *shared_panel = plan->buffer + panel_bytes(in_shared, at->depth);
      const char *strip_panel = strip + panel_bytes(in_strip, at->depth);
      int64_t shared_here = min(BLOCK, at->shared_count - in_shared);
      int64_t strip_here = min(BLOCK, at->count - in_strip);
      struct result *result = &share->result[which];
      result->row = left_is_shared ? at->shared + in_shared : at->streamed + in_strip;
      result->column = left_is_shared ? at->streamed + in_strip : at->shared + in_shared;
      result->rows = left_is_shared ? shared_here : strip_here;
      result->columns = left_is_shared ? strip_here : shared_here;
      if (p->lower && result->column > result->row + result->rows - 1) continue;
      result->plan = plan;
      result->to = p->visitor ? share->visited + j : p->c + result->row * p->ldc + result->column;
      result->stride = p->visitor ? inner_count : p->ldc;
      result->inner = at->inner, result->depth = at->depth;
      result->alpha = p->alpha, result->beta = p->visitor ? 0 : at->inner == 0 ? p->beta : 1;
      result->next = 0;
      work.prefetch = result->to, work.stride = p->ldc, work.prefetch_rows = p->visitor ? 0 : result->rows;
      multiply(result->block, left_is_shared ? shared_panel : strip_panel, left_is_shared ? strip_panel : shared_panel,
               steps, result->rows, result->columns, &work);
      if (work.result) result_advance(work.result, BLOCK);
      work.result = result;
      which = 1 - which;
    }
    if (p->visitor) {
      result_advance(work.result, BLOCK);
      work.result = NULL;
      int64_t row = (left_is_shared ? at->shared : at->streamed) + i;
      int64_t column = left_is_shared ? at->streamed : at->shared;
      int64_t rows = min(BLOCK, outer_count - i);
      p->visitor->visit(p->visitor->context, &(struct gemm_block){.row = row,
                                                                  .rows = rows,
                                                                  .column = column,
                                                                  .columns = inner_count,
                                                                  .values = share->visited,
                                                                  .stride = inner_count});
    }
  }
  if (work.result) result_advance(work.result, BLOCK);
  packing_finish(&share->packing);
}

/* The strip after this one among those of a thread, in the order of all threads; false after the last. */
static bool strip_next(struct strip *at, const struct plan *plan, int64_t first, int64_t between) {
  int64_t streamed = (plan->left_is_shared ? &plan->right : &plan->left)->outer;
  int64_t shared = (plan->left_is_shared ? &plan->left : &plan->right)->outer;
  at->streamed += between;
  if (at->streamed >= streamed) {
    at->streamed = first;
    at->inner += plan->depth;
    if (at->inner >= plan->product->k) {
      at->inner = 0;
      at->shared += plan->shared;
      if (at->shared >= shared) return false;
    }
  }
  at->count = min(plan->strip, streamed - at->streamed);
  at->depth = min(plan->depth, plan->product->k - at->inner);
  at->shared_count = min(plan->shared, shared - at->shared);
  return true;
}

/* What one thread of a team does; all go through the same shared blocks, and strips go round the threads. */
static void plan_run(const struct plan *plan) {
  const struct operand *shared = plan->left_is_shared ? &plan->left : &plan->right;
  const struct operand *streamed = plan->left_is_shared ? &plan->right : &plan->left;
  int64_t k = plan->product->k;
  char *mine = plan->buffer + plan->shared_bytes + (size_t)omp_get_thread_num() * plan->thread_bytes;
  size_t strip_bytes = panel_bytes(plan->strip, plan->depth);
  struct share share = {
      .plan = plan, .strip = {mine, mine + strip_bytes}, .visited = (float *)(mine + 2 * strip_bytes)};
  struct packing shared_packing;
  int64_t first = omp_get_thread_num() * plan->strip, between = omp_get_num_threads() * plan->strip;
  bool any = first < streamed->outer;
  struct strip next = {.streamed = first - between};
  int which = 0;
  if (any) {
    strip_next(&next, plan, first, between);
    packing_begin(&share.packing, share.strip[0], !plan->left_is_shared, streamed, next.streamed, next.count,
                  next.inner, next.depth);
    packing_finish(&share.packing);
  }
  tiles_configure();
  for (int64_t start = 0; start < shared->outer; start += plan->shared) {
    int64_t count = min(plan->shared, shared->outer - start);
    for (int64_t inner = 0; inner < k; inner += plan->depth) {
      int64_t depth = min(plan->depth, k - inner);
#pragma omp for schedule(static)
      for (int64_t i = 0; i < count; i += BLOCK) {
        packing_begin(&shared_packing, plan->buffer + panel_bytes(i, depth), plan->left_is_shared, shared, start + i,
                      min(BLOCK, count - i), inner, depth);
        packing_finish(&shared_packing);
      }
      while (any && next.shared == start && next.inner == inner) {
        struct strip now = next;
        any = strip_next(&next, plan, first, between);
        if (any) {
          packing_begin(&share.packing, share.strip[1 - which], !plan->left_is_shared, streamed, next.streamed,
                        next.count, next.inner, next.depth);
        }
        strip_times_shared(&share, share.strip[which], &now);
        which = 1 - which;
      }
#pragma omp barrier
    }
  }
  tiles_release();
}

bool gemm_matrix_unit(const struct gemm_product *product) {
  int threads = omp_in_parallel() ? 1 : parallel_threads();
  struct plan plan;
  if (!plan_make(&plan, product, threads)) return false;
#pragma omp parallel num_threads(threads)
  plan_run(&plan);
  memory_release(plan.buffer);
  return true;
}

#else

bool gemm_matrix_unit(const struct gemm_product *product) {
  (void)product;
  return false;
}

bool gemm_matrix_unit_available(void) { return false; }

#endif
