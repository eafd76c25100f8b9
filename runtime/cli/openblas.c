/* OpenBLAS takes a buffer for every thread before main, and where there is no memory for one it asks again for
   ever. So the memory is asked for first, before the constructors of shared libraries run. (Buffers for our own calls
   are had when the runtime is opened: linalg_start.) The address sanitizer takes far more address space, and starts
   later. */
#ifndef __SANITIZE_ADDRESS__
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BUFFERS_MOST = 64, OTHER = 4 << 20 };
static const size_t BUFFER = (size_t)128 << 20;

/* OMP_NUM_THREADS, or 0. getenv has no environment yet. */
static int wanted_threads(char **environment) {
  static const char name[] = "OMP_NUM_THREADS=";
  for (; *environment; environment++)
    if (strncmp(*environment, name, sizeof name - 1) == 0) return atoi(*environment + sizeof name - 1);
  return 0;
}

static void start(int argument_count, char **arguments, char **environment) {
  (void)argument_count, (void)arguments;
  long count = sysconf(_SC_NPROCESSORS_CONF); /* OpenBLAS counts those too that this process may not use */
  int wanted = wanted_threads(environment);
  if (wanted > 0) count = wanted;
  if (count < 1) count = 1;
  if (count > BUFFERS_MOST) count = BUFFERS_MOST;
  size_t bytes = (size_t)count * BUFFER + OTHER;
  void *space = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space != MAP_FAILED) {
    munmap(space, bytes);
    return;
  }
  static const char message[] =
      "glsrun: out of memory: OpenBLAS wants 128 MB of address space for each thread; fewer "
      "threads (OMP_NUM_THREADS) or a higher limit (ulimit -v) help\n";
  ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);
  (void)written;
  _exit(1);
}

__attribute__((section(".preinit_array"), used)) static void (*const before_libraries)(int, char **, char **) = start;

#endif
