/* Table: the rows of all families, in one order, and by name. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "op.h"

/* Families, and the group of the help that their rows are listed under. */
static const struct {
  const struct op *rows;
  const char *group;
} family[] = {{elementwise_ops, "arithmetic and activations"},
              {function_ops, "elementary functions"},
              {reduce_ops, "reductions"},
              {softmax_ops, "reductions"},
              {matmul_ops, "products and convolutions"},
              {attention_ops, "attention and recurrence"},
              {recurrent_ops, "attention and recurrence"},
              {move_ops, "views"},
              {arrange_ops, "arranging"},
              {index_ops, "indexing"},
              {sort_ops, "order"},
              {scan_ops, "reductions"},
              {solve_ops, "linear algebra"},
              {conv_ops, "products and convolutions"},
              {image_ops, "images"},
              {pool_ops, "images"},
              {norm_ops, "normalisations"},
              {loss_ops, "losses"},
              {cross_entropy_ops, "losses"},
              {random_ops, "random numbers"}};
enum { FAMILY_COUNT = sizeof family / sizeof family[0] };

int op_count(void) {
  int count = 0;
  for (int f = 0; f < FAMILY_COUNT; f++)
    for (const struct op *op = family[f].rows; op->name; op++) count++;
  return count;
}

const struct op *op_at(int i) {
  for (int f = 0; f < FAMILY_COUNT; f++)
    for (const struct op *op = family[f].rows; op->name; op++)
      if (i-- == 0) return op;
  return NULL;
}

/* Names are mostly literals, asked for again and again from one place: what was found for a pointer is kept, and is
   right as long as the text there is the row's name. */
const struct op *op_find(const char *name) {
  static const struct op *found[512];
  const struct op **slot = &found[(uintptr_t)name / 4 % (sizeof found / sizeof found[0])];
  if (*slot && strcmp((*slot)->name, name) == 0) return *slot;
  for (int f = 0; f < FAMILY_COUNT; f++)
    for (const struct op *op = family[f].rows; op->name; op++)
      if (strcmp(op->name, name) == 0) return *slot = op;
  return NULL;
}

const char *op_group(const char *name) {
  for (int f = 0; f < FAMILY_COUNT; f++)
    for (const struct op *op = family[f].rows; op->name; op++)
      if (strcmp(op->name, name) == 0) return family[f].group;
  return NULL;
}
