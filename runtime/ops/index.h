/* Index: writing by indices in place, which is no op of the table: nothing of it is recorded. */
#ifndef GLS_OPS_INDEX_H
#define GLS_OPS_INDEX_H

#include "../tensor/tensor.h"

/* x = source at the places (int32, from 1, checked) of `covered` dimensions from `dimension` on, counted as one in
   row-major order. source has as many places there as there are indices, of any type; where indices repeat, the last
   one stays. */
int index_assign(struct tensor *x, int dimension, int covered, struct tensor *indices, const struct tensor *source);

#endif
