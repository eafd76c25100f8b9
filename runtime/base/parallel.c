/* Parallel: how many threads there may be. */
#include "parallel.h"

/* More than OpenBLAS has buffers for, or than a stack holds places for, end the process. */
enum { THREADS_MOST = 64 };

int parallel_most(void) { return (int)min(max(omp_get_num_procs(), THREADS_MOST), omp_get_thread_limit()); }

void parallel_start(void) { omp_set_num_threads((int)min(omp_get_max_threads(), parallel_most())); }
