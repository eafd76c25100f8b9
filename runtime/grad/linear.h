/* Linear: the derivative of a recorded call, J t or Jᵀ t, as a recorded step of its own, so that it can be
   differentiated again. By t the derivative of J t is Jᵀ and that of Jᵀ t is J: a row's vjp and jvp are all that it
   takes. */
#ifndef GLS_GRAD_LINEAR_H
#define GLS_GRAD_LINEAR_H

#include "node.h"

/* *result = Jᵀ t (adjoint) or J t, J the derivative of the node's output by one input; recorded where derivatives reach
   t, or through the row's `second` the input. NULL where the row has no gradient for this input. */
int linear_product(struct node *node, int input, bool adjoint, struct tensor *t, struct tensor **result);

/* Input i of a node, or its output, as tensors on the tape with what values the node keeps: a new reference. */
struct tensor *linear_input(const struct node *node, int i);
struct tensor *linear_output(struct node *node);

#endif
