/* Memory: small objects, and a cache of large buffers so that steps reuse each other's pages. What is kept and what is
   in use are together at most one and a half times what ever was in use: beyond that a larger buffer serves, or those
   that have waited longest go back to the system. */
#include "memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "integer.h"
#include "status.h"

/* A buffer is preceded by its header, one alignment unit long. Buffers are kept in bins by size class: eight
   classes to each power of two, so at most an eighth is lost to rounding. */
enum { ALIGNMENT = 64, CLASSES_PER_POWER = 8, CLASS_COUNT = 48 * CLASSES_PER_POWER, SMALLEST_CLASS_BYTES = 64 };
static const size_t HUGE_PAGE = (size_t)2 << 20;

/* Bytes, in use and kept, below which nothing is given back. */
enum { KEPT_LEAST = 16 << 20 };

/* Arrays that are read side by side (weights and their moments) would all begin on a page, and their elements then fall
   on the same few sets of the L1 cache: so large blocks begin at distances from it that go round, three cache lines
   apart. Source: Bonwick, "The slab allocator", USENIX Summer 1994, section 4 (slab colouring). */
enum { COLOURED_BYTES = 1 << 16, COLOUR_STEP = 3 * ALIGNMENT, COLOURS = 4096 / COLOUR_STEP };

struct header {
  size_t bytes; /* of the size class, without the header */
  int size_class;
  void *block; /* that it lies in */
  /* In the cache: its class's buffers, the last released first, and all buffers by the time of their release. */
  struct header *next, *previous, *older, *newer;
};

_Static_assert(sizeof(struct header) <= ALIGNMENT, "the header fits one alignment unit");

static struct header *cache[CLASS_COUNT];
static struct header *oldest, *newest;
static size_t live, peak, cached;
static size_t most; /* in use since the start, or since memory_trim */
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

/* ---- the cache, holding the lock ---- */

static void cache_add(struct header *header) {
  struct header **class = &cache[header->size_class];
  header->previous = NULL, header->next = *class;
  if (*class) (*class)->previous = header;
  *class = header;
  header->newer = NULL, header->older = newest;
  if (newest) newest->newer = header;
  newest = header;
  if (!oldest) oldest = header;
  cached += header->bytes;
}

static void cache_remove(struct header *header) {
  if (header->previous)
    header->previous->next = header->next;
  else
    cache[header->size_class] = header->next;
  if (header->next) header->next->previous = header->previous;
  *(header->older ? &header->older->newer : &oldest) = header->newer;
  *(header->newer ? &header->newer->older : &newest) = header->older;
  cached -= header->bytes;
}

/* A buffer of the class; where a new one would be too much, one of up to twice its size; else NULL, after giving back
   as many as make room. */
static struct header *cache_take(int class, size_t class_bytes) {
  size_t in_use = live + class_bytes, wanted = in_use > most ? in_use : most, limit = wanted + wanted / 2;
  if (limit < KEPT_LEAST) limit = KEPT_LEAST;
  int last = in_use + cached > limit ? (int)min(class + CLASSES_PER_POWER, CLASS_COUNT - 1) : class;
  for (int i = class; i <= last; i++) {
    if (!cache[i]) continue;
    struct header *header = cache[i];
    cache_remove(header);
    return header;
  }
  while (oldest && in_use + cached > limit) {
    struct header *header = oldest;
    cache_remove(header);
    free(header->block);
  }
  return NULL;
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
  struct header *header = cache_take(class, class_bytes);
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
  live += header->bytes;
  if (live > peak) peak = live;
  if (live > most) most = live;
  pthread_mutex_unlock(&lock);
  return (char *)header + ALIGNMENT;
}

void memory_release(void *buffer) {
  if (!buffer) return;
  struct header *header = (struct header *)((char *)buffer - ALIGNMENT);
  pthread_mutex_lock(&lock);
  live -= header->bytes;
  cache_add(header);
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
  while (oldest) {
    struct header *header = oldest;
    cache_remove(header);
    free(header->block);
  }
  most = live;
  pthread_mutex_unlock(&lock);
}

long memory_fail_at(long n) {
  pthread_mutex_lock(&lock);
  long left = fail_countdown;
  fail_countdown = n;
  pthread_mutex_unlock(&lock);
  return left;
}
