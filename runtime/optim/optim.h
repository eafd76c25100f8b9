/* Optimizers: one step over one parameter list.
   gradient_tiles.c   a leaf's gradient, tile by tile     sgd.c  adam.c   the classics     clip.c  gradient norm
   Settings come from the caller at every step (so that schedules need no state here), state stays in tensors that
   the caller owns and may save. Parameters are contiguous leaves of reals. */
#ifndef GLS_OPTIM_OPTIM_H
#define GLS_OPTIM_OPTIM_H

#include "../grad/tape.h"
#include "../kernels/linalg/linalg.h"

/* ---- gradient_tiles.c ---- */
/* rows × columns elements of a leaf, from offset on, pitch apart, and their gradient. */
struct gradient_tile {
  int64_t offset, rows, columns, pitch;
  const real *gradient;
  int64_t gradient_pitch;
};
struct tile_update {
  void (*update)(void *context, const struct gradient_tile *tile);
  void *context;
  const real *touched[GEMM_TOUCHED]; /* arrays like the leaf that update reads or writes; after the last NULL */
};
/* Calls update for tiles that together cover the leaf, from several threads. The gradient of an affine weight is formed
   tile by tile in cache and never as a whole, unless something asked for the whole before. *any is false when the leaf
   has no gradient. */
int gradient_tiles(struct tensor *leaf, const struct tile_update *update, bool *any);

/* ---- clip.c ---- */
/* *norm: Euclidean norm of all gradients together. When it is above maximum (> 0) they are scaled down to it. */
int clip_gradients(struct tensor *const *parameter, int count, double maximum, double *norm);

/* ---- sgd.c ---- */
struct sgd_options {
  double learning_rate, momentum, weight_decay; /* decay is decoupled: w -= learning_rate · weight_decay · w */
  bool nesterov;
};
/* v = momentum · v + g; w -= learning_rate · (nesterov ? g + momentum · v : v). Sutskever et al., ICML 2013.
   velocity[i] is made (zeros) when momentum ≠ 0 and it is NULL. Parameters without gradient stay. */
int sgd_step(struct tensor *const *parameter, struct tensor **velocity, int count, const struct sgd_options *options);

/* ---- adam.c ---- */
struct adam_options {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
  bool decoupled; /* AdamW (Loshchilov and Hutter, ICLR 2019); else decay · w joins the gradient */
  int64_t step;   /* from 1: for the bias corrections */
};
/* Kingma and Ba, ICLR 2015, algorithm 1. first[i], second[i] are made (zeros) when NULL. missed[i] counts the steps in
   which a parameter had no gradient: its moments are corrected for those that they have seen. It may be NULL. */
int adam_step(struct tensor *const *parameter, struct tensor **first, struct tensor **second, int64_t *missed,
              int count, const struct adam_options *options);

#endif
