/* Start: the process before Lua is: descriptors that are open, idle threads that give the processor away, the kernels
   of OpenBLAS. */
#include "cli.h"

#include <cblas.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cli_open_descriptors(void) {
  for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
    if (fcntl(i, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != i) _exit(EXIT_FAILURE);
}

/* Undoes what libgomp did before main where the user binds threads (OMP_PROC_BIND, OMP_PLACES): this thread is on one
   place, and a program started from it would find no other. */
static void unbind(void) {
  cpu_set_t all;
  CPU_ZERO(&all);
  int processors[CPU_SETSIZE];
  for (int place = 0; place < omp_get_num_places(); place++) {
    int count = omp_get_place_num_procs(place);
    if (count > CPU_SETSIZE) return;
    omp_get_place_proc_ids(place, processors);
    for (int i = 0; i < count; i++) CPU_SET(processors[i], &all);
  }
  if (CPU_COUNT(&all) > 0) sched_setaffinity(0, sizeof all, &all);
}

/* OpenMP's threads wait for work in a loop that takes milliseconds to give the processor away: with other jobs on the
   same cores a step took up to fifty times as long (libgomp manual, "GOMP_SPINCOUNT"). */
static bool wait_briefly(void) {
  static const char *const spins = "10000"; /* some tens of microseconds: longer than between two kernels of a step */
  return !getenv("GOMP_SPINCOUNT") && !getenv("OMP_WAIT_POLICY") && setenv("GOMP_SPINCOUNT", spins, 0) == 0;
}

/* OpenBLAS takes a processor that is newer than itself for one with SSE3 alone, and its LAPACK is slow there; so
   its kernels for the instructions that are there are named. */
static bool name_kernels(void) {
  const char *kernels = NULL;
#ifdef __x86_64__
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) kernels = "Haswell";
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    kernels = "SkylakeX";
#endif
  if (!kernels || getenv("OPENBLAS_CORETYPE") || strcmp(openblas_get_corename(), "Prescott") != 0) return false;
  return setenv("OPENBLAS_CORETYPE", kernels, 0) == 0;
}

void cli_set_libraries(char **argv) {
  char path[PATH_MAX];
  bool spinning = wait_briefly(), slow = name_kernels();
  if (!spinning && !slow) return;
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) return;
  path[length] = '\0';
  unbind();
  execv(path, argv); /* comes back only when it failed: then on as we are */
}
