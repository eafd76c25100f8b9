/* Tensors: strided views of refcounted storage.
   storage.c  buffers and their version counters          shape.c     sizes, strides, broadcasting
   tensor.c   tensors and views of tensors                elements.c  reading, writing and assigning elements
   format.c   printing
   Inside the core dimensions and indices start at 0; the binding converts from 1. */
#ifndef GLS_TENSOR_TENSOR_H
#define GLS_TENSOR_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/real.h"
#include "../base/status.h"

enum { TENSOR_MAX_RANK = 8 };

/* real is what is computed with; int32 and uint8 are stored and converted. */
enum element_type { TYPE_REAL, TYPE_INT32, TYPE_UINT8 };

struct storage {
  int references;      /* atomic */
  uint32_t version;    /* rises with every in-place write */
  uint64_t unrecorded; /* written on as the tensor's field says */
  size_t bytes;
  void *data; /* 64-byte aligned, from memory_acquire */
};

struct shape {
  int rank;
  int64_t size[TENSOR_MAX_RANK];
};

struct node;           /* grad/tape.h: what produced a tensor */
struct gradient;       /* grad/tape.h: what backward left for a leaf */
struct gradient_watch; /* grad/gradient.h: who is told when that is whole */

struct tensor {
  int references; /* atomic */
  enum element_type type;
  struct shape shape;
  int64_t stride[TENSOR_MAX_RANK]; /* in elements; 0 for a broadcast dimension */
  int64_t offset;                  /* in elements, from the storage's start */
  struct storage *storage;         /* NULL for a tensor that keeps its shape alone */
  bool requires_gradient;          /* a leaf to differentiate by */
  uint64_t unrecorded;             /* when a script's function made it of what derivatives reach, off the tape, or 0 */
  uint64_t constant;               /* until when it does not matter how it was made or written on */
  uint16_t factor_readers;         /* optimizers that want the leaf's factors of all backward passes of a step */
  struct node *node;               /* owned reference; NULL for a leaf or an unrecorded tensor */
  struct gradient *gradient;       /* owned; NULL until backward reaches this leaf */
  struct gradient_watch *watch;    /* borrowed; NULL where nobody waits for the leaf's gradient */
};

/* ---- storage.c ---- */
struct storage *storage_new(size_t bytes); /* contents undefined; NULL with message */
struct storage *storage_retain(struct storage *storage);
void storage_release(struct storage *storage); /* NULL is fine, here and in tensor_release */

/* ---- shape.c ---- */
size_t type_size(enum element_type type);
const char *type_name(enum element_type type);  /* "float32" ("float64"), "int32", "uint8" */
struct shape shape_of(int rank, ...);           /* int64_t sizes */
int64_t shape_count(const struct shape *shape); /* number of elements; 1 for rank 0 */
bool shape_equal(const struct shape *a, const struct shape *b);
/* NumPy broadcasting; false when a and b do not fit. */
bool shape_broadcast(const struct shape *a, const struct shape *b, struct shape *result);
/* Checks that sizes are >= 0 and that their product and bytes fit; STATUS_ERROR with message. */
int shape_check(const struct shape *shape);
/* "(250×3073)", "()" for a scalar: into one of several rotating buffers of the thread. */
const char *shape_text(const struct shape *shape);

/* ---- tensor.c ----
   Functions that make a tensor return it with one reference, or NULL with the message set. */
struct tensor *tensor_new(enum element_type type, const struct shape *shape); /* undefined contents */
struct tensor *tensor_zeros(enum element_type type, const struct shape *shape);
struct tensor *tensor_scalar(real value); /* rank 0 */
struct tensor *tensor_retain(struct tensor *tensor);
void tensor_release(struct tensor *tensor);
/* Releases node and gradient; set by the tape, which knows them. */
extern void (*tensor_release_history)(struct tensor *tensor);

/* Views: share storage; carry no node and no gradient (recording is the tape's business). */
struct tensor *tensor_alias(const struct tensor *source);
struct tensor *tensor_view_shape(const struct tensor *source,
                                 const struct shape *shape); /* contiguous-compatible only */
struct tensor *tensor_permute(const struct tensor *source, const int *order);
struct tensor *tensor_transpose(const struct tensor *source, int a, int b);
struct tensor *tensor_narrow(const struct tensor *source, int dimension, int64_t start, int64_t count, int64_t step);
struct tensor *tensor_select(const struct tensor *source, int dimension, int64_t index); /* drops it */
struct tensor *tensor_expand(const struct tensor *source, const struct shape *shape);    /* broadcast */
struct tensor *tensor_flatten_rows(
    const struct tensor *source); /* (…, d) as (rows, d): a view, or a copy where strides forbid it */

int64_t tensor_count(const struct tensor *tensor);
size_t tensor_bytes(const struct tensor *tensor); /* of its elements */
bool tensor_is_contiguous(const struct tensor *tensor);
/* source itself, retained, when it is contiguous, else a contiguous copy. */
struct tensor *tensor_contiguous(struct tensor *source);
struct tensor *tensor_copy(const struct tensor *source);                            /* contiguous, new storage */
struct tensor *tensor_convert(const struct tensor *source, enum element_type type); /* contiguous, new storage */
/* destination = source, any strides, any types, source broadcast to it; they may overlap. Bumps the version. */
int tensor_assign(struct tensor *destination, const struct tensor *source);
int tensor_fill(struct tensor *destination, double value);
void tensor_modified(struct tensor *tensor); /* bumps the version: call after every in-place write */
/* One element as a number, index[rank]; the caller has checked the range. */
double tensor_get(const struct tensor *tensor, const int64_t *index);
void tensor_set(struct tensor *tensor, const int64_t *index, double value);

/* First element. */
static inline real *tensor_real(const struct tensor *tensor) { return (real *)tensor->storage->data + tensor->offset; }
static inline int32_t *tensor_int32(const struct tensor *tensor) {
  return (int32_t *)tensor->storage->data + tensor->offset;
}
static inline uint8_t *tensor_uint8(const struct tensor *tensor) {
  return (uint8_t *)tensor->storage->data + tensor->offset;
}

/* ---- format.c ---- */
/* Shape, type and values, long dimensions summarised, as lines ended by '\n'. Free with memory_delete. */
char *tensor_format(const struct tensor *tensor);

#endif
