/* Start: the process before Lua is: descriptors that are open, idle threads that give the processor away. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
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
   same cores a step took up to fifty times as long. libgomp reads how long from the environment before main begins,
   so the program starts itself anew where the user has not chosen (libgomp manual, "GOMP_SPINCOUNT"). */
void cli_wait_briefly(char **argv) {
  static const char *const spins = "10000"; /* some tens of microseconds: longer than between two kernels of a step */
  char path[PATH_MAX];
  if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0 || setenv("GOMP_SPINCOUNT", spins, 0) != 0) return;
  path[length] = '\0';
  unbind();
  execv(path, argv); /* comes back only when it failed: then on as we are */
}
