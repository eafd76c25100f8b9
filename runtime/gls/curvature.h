/* Curvature: the automatic learning rate, from the Gauss-Newton model of the loss along the direction. */
#ifndef GLS_GLS_CURVATURE_H
#define GLS_GLS_CURVATURE_H

#include "system.h"

/* The batch and the terms of the losses, as tape_loss_rows gives them: of all ranks, and of the batch what is this
   rank's and what those before it have. */
struct loss_rows {
  int64_t all, terms, own, before;
};

/* η (and μ under automatic momentum) for the directions of count layers. */
int curvature_step(struct gls_system *system, int count, const struct gls_options *options,
                   const struct loss_rows *batch, double *eta, double *mu);

/* ---- curvature_rows.c ---- */
struct drawn_rows {
  struct row_block block; /* of count 0: all rows */
  bool none;              /* all that are drawn are other ranks' */
  double times;           /* what this rank's mean over its rows counts for */
  int64_t *row;
  double *weight;
};
/* fraction of the batch's rows, which are drawn from those of all ranks; negative: a quarter. */
int drawn_rows_new(struct drawn_rows *drawn, const struct loss_rows *batch, double fraction, const struct ranks *ranks);
void drawn_rows_release(struct drawn_rows *drawn);

#endif
