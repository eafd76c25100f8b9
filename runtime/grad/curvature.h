/* Curvature: the Hessians of the losses that backward reached, and the batch that they are taken over. */
#ifndef GLS_GRAD_CURVATURE_H
#define GLS_GRAD_CURVATURE_H

#include "forward.h"

/* aᵀ H b summed over the losses, for tangents a and b of the same pass shape. */
int tape_curvature(const struct loss_tangent *a, const struct loss_tangent *b, int count, struct row_block block,
                   double *result);
/* share[i]: trace of the losses' Hessian in the outputs of row i of the batch, batch values. *fits is false where a
   loss's rows are not the batch's. */
int tape_curvature_shares(int64_t batch, double *share, bool *fits);
/* The batch (first size of the prediction) and the number of terms that the losses average over; 0 when no loss node
   was reached. Losses over the same samples count once, those of several batches add up, whether one backward pass
   began at their sum or several at each. */
void tape_loss_rows(int64_t *batch, int64_t *terms);
/* An error that names the ops when backward reached a leaf that moves by another way than the first argument of a loss
   whose Hessian is known. */
int tape_curvature_known(bool (*moves)(void *context, const struct tensor *leaf), void *context);

#endif
