/* Storage: a refcounted buffer with a counter of in-place writes. */
#include "../base/memory.h"
#include "tensor.h"

struct storage *storage_new(size_t bytes) {
  struct storage *storage = memory_new(1, sizeof *storage);
  if (!storage) return NULL;
  storage->data = memory_acquire(bytes);
  if (!storage->data) {
    memory_delete(storage);
    return NULL;
  }
  storage->references = 1;
  storage->bytes = bytes;
  return storage;
}

struct storage *storage_retain(struct storage *storage) {
  __atomic_add_fetch(&storage->references, 1, __ATOMIC_RELAXED);
  return storage;
}

void storage_release(struct storage *storage) {
  if (!storage || __atomic_sub_fetch(&storage->references, 1, __ATOMIC_ACQ_REL) > 0) return;
  memory_release(storage->data);
  memory_delete(storage);
}
