/* Curvature: the automatic learning rate, from the Gauss-Newton model of the loss along the direction. */
#ifndef GLS_GLS_CURVATURE_H
#define GLS_GLS_CURVATURE_H

#include "system.h"

/* η (and μ under automatic momentum) for the directions of count layers. batch, samples: as tape_loss_rows gives
   them. */
int curvature_step(struct gls_system *system, int count, const struct gls_options *options, int64_t batch,
                   int64_t samples, double *eta, double *mu);

/* ---- curvature_rows.c ---- */
struct drawn_rows {
  struct row_block block; /* of count 0: all rows */
  int64_t *row;
  double *weight, *chance; /* chance: scratch, twice batch long */
};
/* fraction of the batch's rows; negative: a quarter. */
int drawn_rows_new(struct drawn_rows *drawn, int64_t batch, double fraction);
void drawn_rows_release(struct drawn_rows *drawn);

#endif
