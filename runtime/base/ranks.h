/* Ranks: processes that make one step together, each from its part of the batch. What carries their numbers is given
   from above (MPI: bind/mpi.c); for a single process the pointer is NULL and nothing is done. All ranks make the same
   calls in the same order. */
#ifndef GLS_BASE_RANKS_H
#define GLS_BASE_RANKS_H

#include <stdint.h>

#include "random.h"

/* Each function returns NULL, or what went wrong. */
struct ranks {
  int rank, size;          /* rank from 0 */
  double bytes_per_second; /* of a broadcast, about: what it costs against making the same everywhere */
  /* values := their sum over all ranks, the same to the last bit on all and from run to run. */
  const char *(*sum)(real *values, int64_t count);
  /* all := what the ranks have, one after the other, bytes[r] of rank r. */
  const char *(*gather)(void *all, const void *own, const int64_t *bytes);
  /* data := that of the root. */
  const char *(*broadcast)(void *data, int64_t bytes, int root);
};

int ranks_sum(const struct ranks *ranks, real *values, int64_t count);
int ranks_broadcast(const struct ranks *ranks, void *data, int64_t bytes, int root);
/* all := size × bytes. */
int ranks_gather(const struct ranks *ranks, void *all, const void *own, int64_t bytes);
/* The same, bytes[r] of rank r. */
int ranks_gather_unequal(const struct ranks *ranks, void *all, const void *own, const int64_t *bytes);
/* A few numbers := their sums in double, in the order of ranks. */
int ranks_add(const struct ranks *ranks, double *values, int count);
/* The next stream of random numbers: rank 0's. */
int ranks_next_stream(const struct ranks *ranks, struct random_stream *stream);

#endif
