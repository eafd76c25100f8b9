/* Rows: recorded calls narrowed to some of the batch's rows. */
#ifndef GLS_GRAD_ROWS_H
#define GLS_GRAD_ROWS_H

#include "node.h"

/* Some of the batch's rows; count 0 stands for all of them. Either a block from start on, or those that are listed. */
struct row_block {
  int64_t batch, start, count;
  const int64_t *row;   /* count places in rising order, or NULL for the block */
  const double *weight; /* beside row: what each counts for, so that the weighted mean stands for the batch's */
};

/* The rows of a tensor: a view of a block, a copy of those that are listed (what keeps its shape alone has no values to
   copy). NULL when there is no memory. */
struct tensor *rows_of(const struct tensor *whole, struct row_block block);
/* Whether rows of this node's output come from the same rows of its inputs, or it is a loss over this batch. */
bool rows_follow(const struct node *node, struct row_block block);
bool rows_of_loss(const struct node *node, struct row_block block);
/* Borrowed call of a node, its batch inputs, saved tensors and output narrowed to the rows. false: cannot. */
bool rows_narrow(const struct node *node, struct row_block block, struct op_call *narrowed);
void rows_narrow_release(const struct node *node, struct op_call *narrowed);

/* Losses over classes average over all leading dimensions, the others' samples are the first dimension. */
bool loss_has_classes(const struct op_call *loss);
/* The samples of a loss; 0 where its prediction is a number. */
int64_t loss_batch(const struct op_call *loss);

#endif
