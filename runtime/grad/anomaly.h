/* Anomaly: the first number that is not finite is an error, which names the op that made it. */
#ifndef GLS_GRAD_ANOMALY_H
#define GLS_GRAD_ANOMALY_H

#include "node.h"

extern bool anomaly_on;

/* Counts the steps from here on. */
void anomaly_set(bool on);
/* The end of a training step. */
void anomaly_step_ended(void);

/* An error when output holds NaN, or an infinity that no input and no number of the call holds: a mask of −∞ is meant
   to be there. */
int anomaly_check_forward(const struct op *op, int input_count, struct tensor *const *input,
                          const struct op_value *values, const struct tensor *output);
/* An error when result, the gradient of an input of the node, holds NaN or an infinity; gradient is the output's. */
int anomaly_check_backward(const struct node *node, int input, const struct tensor *gradient,
                           const struct tensor *result);

#endif
