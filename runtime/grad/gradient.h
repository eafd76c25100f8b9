/* Gradient: what backward leaves for a leaf. Affine ops leave their node and ∂L/∂Z; the product Aᵀ G is formed when
   somebody asks for it. */
#ifndef GLS_GRAD_GRADIENT_H
#define GLS_GRAD_GRADIENT_H

#include "node.h"

struct factor {
  struct node *node; /* owned */
  struct node *root; /* owned: where backward began, so that a loss that no script holds any more is still there */
  struct tensor *gradient; /* ∂L/∂(output of node), or what the op's products want, owned */
  int input;               /* 1: this leaf is the weight, 2: the bias */
};

struct gradient {
  struct tensor *dense;   /* sum of what came without factors; may be NULL */
  struct tensor *total;   /* dense and the products of all factors, once somebody asked; else NULL */
  uint32_t total_version; /* when it was made: a script may write on it, and is then meant */
  struct factor *factor;
  int factor_count, factor_capacity;
  const char *lost; /* why factors are gone that were here, and what to do about it; NULL while none are */
};

/* On a leaf, tensor.watch: is told when a pass of backward has gone past the leaf's last use, so that its gradient is
   whole, while other gradients are still to come. A leaf that the pass does not reach is not told of. */
struct gradient_watch {
  int (*ready)(struct gradient_watch *watch);
  const struct node *last; /* the use that the pass comes to last: backward's own */
};

/* *slot += g, taking over g. A sum goes into the old buffer only when nobody else sees it. */
int gradient_sum(struct tensor **slot, struct tensor *g);
/* Adds to a leaf's gradient; takes over g in every case. */
int gradient_add(struct tensor *leaf, struct tensor *g);
/* A second factor of one use is added to the first. Those of another root are settled before, so that accumulating
   takes neither memory nor time that grow, unless an optimizer reads them (factor_readers). */
int gradient_add_factor(struct tensor *leaf, struct node *node, struct node *root, struct tensor *g, int input);
/* The dense gradient of a leaf: dense and the sum over its factors, contiguous; *result (borrowed) is NULL when
   there is none. Kept until the gradient is cleared or grows; the factors stay for GLS. */
int gradient_dense(struct tensor *leaf, struct tensor **result);
/* The gradient is dense from here on: its factors are formed and forgotten, for this reason (text that stays). */
int gradient_settle(struct tensor *leaf, const char *reason);
/* Before x is written on, by a script or as a parameter: gradients whose factors it is part of are settled. */
int gradient_before_write(const struct tensor *x);
/* An error when the input that a factor stands for has been written on since it was saved. */
int gradient_check_factor(const struct factor *factor);
/* gradient := gradient × scale, factors included. */
int gradient_scale(struct tensor *leaf, real scale);
/* Forgets a leaf's gradient. */
void gradient_clear(struct tensor *leaf);

#endif
