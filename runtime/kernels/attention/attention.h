/* Scaled dot-product attention of one head on plain arrays: o = softmax(scale · q kᵀ) v, row by row (Vaswani et al.,
   "Attention is all you need", 2017). The weights, queries × keys, are never stored: they are made and made again block
   by block (Rabe and Staats, "Self-attention does not need O(n²) memory", 2021; Dao et al., "FlashAttention", 2022), so
   that memory is linear in queries and keys.
   attention.c   blocks of weights; forward   derivatives.c   gradient, tangent   block.h   what they share */
#ifndef GLS_KERNELS_ATTENTION_H
#define GLS_KERNELS_ATTENTION_H

#include <stdbool.h>
#include <stdint.h>

#include "../../base/real.h"

/* A matrix whose rows are contiguous, stride apart. */
struct attention_matrix {
  real *data; /* NULL: there is none */
  int64_t stride;
};

struct attention_head {
  int64_t queries, keys, size, values; /* q: queries × size, k: keys × size, v: keys × values, o: queries × values */
  struct attention_matrix q, k, v;
  real scale;
  bool causal;      /* query i sees keys 0 to i; queries = keys */
  const real *mask; /* 0 where a key is not seen, at query · mask_query + key · mask_key; NULL: all are */
  int64_t mask_query, mask_key;
};

/* Reals that one call needs, as `scratch`, 64-byte aligned. */
int64_t attention_scratch(const struct attention_head *head);

/* Rows first to first + count − 1 of o, and of logarithm (queries) = log Σ exp of a query's scores. A query that sees
   no key gets zeros, and a logarithm of infinity. */
void attention_forward(struct attention_matrix o, real *logarithm, const struct attention_head *head, int64_t first,
                       int64_t count, real *scratch);

/* dq, dk, dv (like q, k, v; data NULL where it is not asked for) of a change `gradient` (like o). */
void attention_gradient(struct attention_matrix dq, struct attention_matrix dk, struct attention_matrix dv,
                        const struct attention_head *head, struct attention_matrix o, const real *logarithm,
                        struct attention_matrix gradient, real *scratch);

/* The change of o, where q, k, v change by tq, tk, tv (data NULL where they do not). */
void attention_tangent(struct attention_matrix result, const struct attention_head *head, struct attention_matrix o,
                       const real *logarithm, struct attention_matrix tq, struct attention_matrix tk,
                       struct attention_matrix tv, real *scratch);

#endif
