/* Memory: small objects, and a cache of large buffers so that steps reuse each other's pages. */
#include "memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "status.h"

/* A buffer is preceded by its header, one alignment unit long. Buffers are kept in bins by size class: eight
   classes to each power of two, so at most an eighth is lost to rounding. */
enum { ALIGNMENT = 64, CLASS_COUNT = 8 * 48, SMALLEST_CLASS_BYTES = 64 };
static const size_t HUGE_PAGE = (size_t)2 << 20;

/* Arrays that are read side by side (weights and their moments) would all begin on a page, and their elements then fall
   on the same few places of the first cache: so large blocks begin at distances from it that go round, three lines of a
   cache apart. Source: Bonwick, "The slab allocator", USENIX Summer 1994, section 4 (slab colouring). */
enum { COLOURED_BYTES = 1 << 16, COLOUR_STEP = 3 * ALIGNMENT, COLOURS = 4096 / COLOUR_STEP };

struct header {
  size_t bytes; /* of the size class, without the header */
  int size_class;
  struct header *next; /* in the cache */
  void *block;         /* that it lies in */
};

_Static_assert(sizeof(struct header) <= ALIGNMENT, "the header fits one alignment unit");

static struct header *cache[CLASS_COUNT];
static size_t live, peak, cached;
static long fail_countdown;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Holding the lock: whether the test's countdown says that this allocation fails. */
static bool fails_now(void) { return fail_countdown > 0 && --fail_countdown == 0; }

bool memory_multiply(size_t a, size_t b, size_t *product) { return !__builtin_mul_overflow(a, b, product); }

static void out_of_memory(size_t bytes) { status_error("out of memory: %zu bytes wanted", bytes); }

void *memory_new(size_t count, size_t size) {
  pthread_mutex_lock(&lock);
  bool fails = fails_now();
  pthread_mutex_unlock(&lock);
  void *object = fails ? NULL : calloc(count ? count : 1, size ? size : 1);
  if (!object) out_of_memory(count * size);
  return object;
}

void memory_delete(void *object) { free(object); }

/* The class whose size is the least one >= bytes, and that size; -1 when there is none. */
static int size_class(size_t bytes, size_t *class_bytes) {
  if (bytes <= SMALLEST_CLASS_BYTES) {
    *class_bytes = SMALLEST_CLASS_BYTES;
    return 0;
  }
  int power = 63 - __builtin_clzll(bytes - 1); /* 2^power < bytes <= 2^(power+1) */
  size_t step = (size_t)1 << power >> 3;
  size_t eighths = (bytes - ((size_t)1 << power) + step - 1) / step; /* 1..8 */
  *class_bytes = ((size_t)1 << power) + eighths * step;
  int result = (power - 6) * 8 + (int)eighths;
  return result < CLASS_COUNT ? result : -1;
}

static struct header *fresh_block(size_t bytes) {
  static unsigned colour;
  size_t begin = 0;
  if (bytes >= COLOURED_BYTES) begin = __atomic_fetch_add(&colour, 1, __ATOMIC_RELAXED) % COLOURS * COLOUR_STEP;
  size_t total = begin + ALIGNMENT + bytes;
  bool large = total >= 2 * HUGE_PAGE;
  void *block = NULL;
  if (posix_memalign(&block, large ? HUGE_PAGE : ALIGNMENT, total)) return NULL;
  if (large) madvise(block, total, MADV_HUGEPAGE); /* fewer page faults and TLB misses; advice only */
  struct header *header = (struct header *)((char *)block + begin);
  header->block = block;
  return header;
}

void *memory_acquire(size_t bytes) {
  size_t class_bytes;
  int class = bytes > (size_t)1 << 46 ? -1 : size_class(bytes, &class_bytes);
  if (class < 0) {
    out_of_memory(bytes);
    return NULL;
  }
  pthread_mutex_lock(&lock);
  if (fails_now()) {
    pthread_mutex_unlock(&lock);
    out_of_memory(bytes);
    return NULL;
  }
  struct header *header = cache[class];
  if (header) {
    cache[class] = header->next;
    cached -= class_bytes;
  }
  pthread_mutex_unlock(&lock);
  if (!header) {
    header = fresh_block(class_bytes);
    if (!header) {
      memory_trim();
      header = fresh_block(class_bytes);
    }
    if (!header) {
      out_of_memory(bytes);
      return NULL;
    }
    header->bytes = class_bytes;
    header->size_class = class;
  }
  pthread_mutex_lock(&lock);
  live += class_bytes;
  if (live > peak) peak = live;
  pthread_mutex_unlock(&lock);
  return (char *)header + ALIGNMENT;
}

void memory_release(void *buffer) {
  if (!buffer) return;
  struct header *header = (struct header *)((char *)buffer - ALIGNMENT);
  pthread_mutex_lock(&lock);
  live -= header->bytes;
  cached += header->bytes;
  header->next = cache[header->size_class];
  cache[header->size_class] = header;
  pthread_mutex_unlock(&lock);
}

static size_t read_counter(const size_t *counter) {
  pthread_mutex_lock(&lock);
  size_t value = *counter;
  pthread_mutex_unlock(&lock);
  return value;
}

size_t memory_live(void) { return read_counter(&live); }
size_t memory_peak(void) { return read_counter(&peak); }
size_t memory_cached(void) { return read_counter(&cached); }

void memory_reset_peak(void) {
  pthread_mutex_lock(&lock);
  peak = live;
  pthread_mutex_unlock(&lock);
}

void memory_trim(void) {
  pthread_mutex_lock(&lock);
  for (int i = 0; i < CLASS_COUNT; i++) {
    while (cache[i]) {
      struct header *header = cache[i];
      cache[i] = header->next;
      free(header->block);
    }
  }
  cached = 0;
  pthread_mutex_unlock(&lock);
}

long memory_fail_at(long n) {
  pthread_mutex_lock(&lock);
  long left = fail_countdown;
  fail_countdown = n;
  pthread_mutex_unlock(&lock);
  return left;
}
