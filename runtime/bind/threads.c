/* Threads: how many compute, and that denormal numbers count as zero in all of them. */
#include "bind.h"

#include <errno.h>
#include <stdlib.h>

#include "../base/parallel.h"
#include "../kernels/linalg/linalg.h"

#ifdef __SSE__
#include <xmmintrin.h>
#endif

/* Denormal numbers cost GEMM a hundred times their worth, and mean nothing in training: every thread of the
   pool flushes them to zero. */
static void flush_denormals(void) {
#ifdef __SSE__
#pragma omp parallel
  _mm_setcsr(_mm_getcsr() | 0x8040); /* flush to zero, denormals are zero */
#elif defined(__aarch64__)
#pragma omp parallel
  {
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" : : "r"(control | (uint64_t)1 << 24));
  }
#endif
}

static void set_threads(lua_State *L, int threads) {
  bind_check(L, linalg_start(threads));
  parallel_set_threads(threads);
  flush_denormals();
}

static int threads(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) {
    lua_Integer threads = bind_whole(L, 1);
    bind_check_argument(L, threads >= 1 && threads <= parallel_most(), 1,
                        lua_pushfstring(L, "a number of threads from 1 to %d expected", parallel_most()));
    set_threads(L, (int)threads);
  }
  lua_pushinteger(L, parallel_threads());
  return 1;
}

static const struct bind_function functions[] = {
    {"threads", threads, 1,
     "threads([n]) -> number\n"
     "The number of threads that tensor functions use; with an argument, sets it. At the start it is the\n"
     "environment's GLS_THREADS, else OMP_NUM_THREADS, else the number of cores; at most 64, or the number of\n"
     "cores. In all of these threads denormal numbers (below 1.2e-38) count as zero."},
    {NULL, NULL, 0, NULL}};

void bind_open_threads(lua_State *L) {
  parallel_start();
  const char *threads = getenv("GLS_THREADS");
  int wanted = parallel_threads();
  if (threads && *threads) {
    char *end;
    errno = 0;
    long count = strtol(threads, &end, 10);
    if (errno || *end || count < 1 || count > parallel_most())
      bind_fail(L, "environment variable GLS_THREADS is \"%s\": a number from 1 to %d expected", threads,
                parallel_most());
    wanted = (int)count;
  }
  set_threads(L, wanted);
  bind_functions(L, functions);
}
