/* Memory: every byte that the core allocates comes from here.
   Small objects: memory_new / memory_delete, over the C library.
   Tensor buffers: memory_acquire / memory_release, a cache of 64-byte aligned blocks kept by size, so
   that a training step reuses the pages of the step before it; with what is in use at most one and a half times the
   most that ever was. Thread-safe. */
#ifndef GLS_BASE_MEMORY_H
#define GLS_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed object of count × size bytes; NULL, with the message set, when there is no memory. */
void *memory_new(size_t count, size_t size);
void memory_delete(void *object);

/* Buffer of at least bytes (0 gives a valid buffer too), contents undefined; NULL with message. */
void *memory_acquire(size_t bytes);
void memory_release(void *buffer);

/* Bytes in buffers that are in use, their highest value since the last reset, and bytes kept in the
   cache for reuse. */
size_t memory_live(void);
size_t memory_peak(void);
size_t memory_cached(void);
void memory_reset_peak(void);
/* Gives the cached blocks back to the system; how many may be kept is counted anew from what is in use. */
void memory_trim(void);

/* Tests: the nth next allocation (1 = the next) of either kind fails; 0 turns it off. Returns what was left of the
   countdown before: 0 once that allocation has failed. */
long memory_fail_at(long n);

/* a × b into *product; false on overflow. */
bool memory_multiply(size_t a, size_t b, size_t *product);

#endif
