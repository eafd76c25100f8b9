/* Table: the rows of all families, in one order, and by name. */
#include <stddef.h>
#include <string.h>

#include "op.h"

static const struct op *const family[] = {elementwise_ops, function_ops,  reduce_ops, softmax_ops,       matmul_ops,
                                          attention_ops,   recurrent_ops, move_ops,   arrange_ops,       index_ops,
                                          sort_ops,        scan_ops,      solve_ops,  conv_ops,          image_ops,
                                          pool_ops,        norm_ops,      loss_ops,   cross_entropy_ops, random_ops};
enum { FAMILY_COUNT = sizeof family / sizeof family[0] };

int op_count(void) {
  int count = 0;
  for (int f = 0; f < FAMILY_COUNT; f++)
    for (const struct op *op = family[f]; op->name; op++) count++;
  return count;
}

const struct op *op_at(int i) {
  for (int f = 0; f < FAMILY_COUNT; f++)
    for (const struct op *op = family[f]; op->name; op++)
      if (i-- == 0) return op;
  return NULL;
}

const struct op *op_find(const char *name) {
  for (int f = 0; f < FAMILY_COUNT; f++)
    for (const struct op *op = family[f]; op->name; op++)
      if (strcmp(op->name, name) == 0) return op;
  return NULL;
}
