/* Parallel: one pool of threads, OpenMP's, shared with OpenBLAS (its OpenMP build runs on one thread
   inside a parallel region). Work is cut into blocks whose bounds do not depend on the number of
   threads, so that sums and vectorised tails are the same for any of them. */
#ifndef GLS_BASE_PARALLEL_H
#define GLS_BASE_PARALLEL_H

#include <omp.h>
#include <stdint.h>

#include "integer.h"

/* Elements below which a loop is not worth a team of threads. */
enum { PARALLEL_THRESHOLD = 16384 };

/* The most threads that a team may have: 64, or as many as there are processors, unless OpenMP's limit is lower. */
int parallel_most(void);
/* The first call of every thread that starts teams: no more threads than that, whatever the environment says. */
void parallel_start(void);

/* Threads that a team is asked for; OpenMP may give fewer. */
static inline int parallel_threads(void) { return omp_get_max_threads(); }
static inline void parallel_set_threads(int threads) { omp_set_num_threads(threads); }

/* What follows on this thread, a call of BLAS or LAPACK, gets no team; returns what parallel_set_threads gives back
   afterwards. OpenBLAS's own teams sum in an order that depends on their size, and wait for ever for a thread that
   OpenMP does not give. */
static inline int parallel_alone(void) {
  int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  return threads;
}

#endif
