/* Attention, inside. Scores are made transposed, keys × PANEL queries, so that a query is a lane: maxima and sums over
   keys need no step across lanes, and a block of weights is a right panel (gemm_kernel.h) of the next product as it
   stands. */
#ifndef GLS_KERNELS_ATTENTION_BLOCK_H
#define GLS_KERNELS_ATTENTION_BLOCK_H

#include "../../base/integer.h"
#include "../../kernels/linalg/gemm_kernel.h"
#include "../../kernels/linalg/linalg.h"
#include "attention.h"

enum {
  PANEL = GEMM_COLUMNS, /* queries at a time */
  BLOCK = 64            /* keys at a time: their scores and both operands fit the L1 cache */
};

/* Reals in so many rows of a panel. */
static inline int64_t panel_reals(int64_t rows) { return rows * PANEL; }

/* The next so many reals of *scratch. */
static inline real *attention_take(real **scratch, int64_t count) {
  real *here = *scratch;
  *scratch += count;
  return here;
}

/* Blocks of BLOCK keys, each transposed: size × BLOCK. */
void attention_pack_keys(real *to, struct attention_matrix from, int64_t keys, int64_t size);
/* The first `count` of PANEL rows × scale as a transposed panel, size × PANEL; the other lanes are 0. */
void attention_pack_lanes(real *to, const real *from, int64_t stride, int64_t count, int64_t size, real scale);
/* rows × scale as they stand, in panels of PANEL columns, rows × PANEL each; zeros beside the last. */
void attention_pack_rows(real *to, struct attention_matrix from, int64_t rows, int64_t columns, real scale);
void attention_clear(struct attention_matrix matrix, int64_t rows, int64_t columns);
/* c (rows × columns) = leftᵀ · (packed rows, from first on) + beta · c; left: depth × rows, left_step apart. */
void attention_multiply(struct attention_matrix c, const real *left, int64_t left_step, int64_t rows,
                        const real *packed, int64_t packed_rows, int64_t first, int64_t columns, int64_t depth,
                        real beta);

/* Keys of which query is the last that sees them. */
static inline int64_t attention_seen(const struct attention_head *head, int64_t last_query) {
  return head->causal ? min(head->keys, last_query + 1) : head->keys;
}

/* scores (keys × PANEL) of the keys from key on (keys at most BLOCK) for the queries from query on; −∞ where a key is
   not seen. */
void attention_scores(real *scores, const struct attention_head *head, const real *packed_keys, const real *panel,
                      int64_t query, int64_t queries, int64_t key, int64_t keys);

#endif
