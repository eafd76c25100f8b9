/* Forward mode: tangents over the recorded nodes. */
#ifndef GLS_GRAD_FORWARD_H
#define GLS_GRAD_FORWARD_H

#include "rows.h"

/* What a forward-mode pass asks: the tangents of leaves. */
struct tangent_source {
  void *context;
  /* Borrowed tangent of a leaf, or NULL for none. */
  struct tensor *(*leaf)(void *context, const struct tensor *leaf);
  /* Of an affine node: the known change of its output by its weight and bias (borrowed, output's shape), all rows;
     NULL when the leaves' own tangents are to be used. The function may be NULL. */
  struct tensor *(*affine)(void *context, const struct node *node);
  bool checks; /* that nothing has been written on since it was saved; an optimizer's step writes on weights itself */
};

/* A loss node that backward reached, and the change of its input 0, for the rows of the block. */
struct loss_tangent {
  struct node *node;      /* borrowed */
  struct tensor *tangent; /* owned; NULL when nothing changes there */
};

/* Runs the tangents over all live nodes. *losses (memory_new, *count long) are the loss nodes with loss_weight ≠ 0.
   *fits is false, and nothing is computed, when the block cannot be followed (samples interact). */
int tape_tangents(const struct tangent_source *source, struct row_block block, bool *fits, struct loss_tangent **losses,
                  int *count);
void loss_tangents_release(struct loss_tangent *losses, int count);

/* Tangents in, tangents out: result[i], new, is the change of output i (on the tape) when leaf[k], a leaf or itself on
   the tape, changes by tangent[k]; zeros where no path leads there. */
int tape_jvp(int outputs, struct tensor *const *output, int count, struct tensor *const *leaf,
             struct tensor *const *tangent, struct tensor **result);

#endif
