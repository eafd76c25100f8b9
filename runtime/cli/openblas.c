/* OpenBLAS takes a buffer for every thread before main, and where there is no memory for one it asks again for
   ever. So the memory is asked for first, before the constructors of shared libraries run. (Buffers for our own calls
   are had when the runtime is opened: linalg_start.) The address sanitizer takes far more address space, and starts
   later. */
#ifndef __SANITIZE_ADDRESS__
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BUFFERS_MOST = 64, OTHER = 4 << 20 };
static const size_t BUFFER = (size_t)128 << 20;

static void start(void) {
  cpu_set_t processors;
  int count = sched_getaffinity(0, sizeof processors, &processors) == 0 ? CPU_COUNT(&processors) : 1;
  const char *threads = getenv("OMP_NUM_THREADS");
  int wanted = threads ? atoi(threads) : 0;
  if (wanted > 0 && wanted < count) count = wanted;
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

__attribute__((section(".preinit_array"), used)) static void (*const before_libraries)(void) = start;

#endif
