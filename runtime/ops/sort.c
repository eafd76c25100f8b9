/* Sort: the order of elements along a dimension, or of the first few alone: by insertion where few are asked for, else
   by radix (least significant digit first: Knuth, The Art of Computer Programming 3, 5.2.5). Both leave equals as they
   stood.
   What sorts by a key is fast and one for all types: keys are unsigned integers in the order that is asked for. */
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "op.h"

#ifdef GLS_DOUBLE
typedef uint64_t sort_key;
#else
typedef uint32_t sort_key;
#endif

struct entry {
  sort_key key;
  int32_t place; /* from 1 */
};

/* Both zeros are equal; NaN of any sign is larger than every number. */
static sort_key key_of_real(real x) {
  const sort_key sign = (sort_key)1 << (8 * sizeof(sort_key) - 1);
  if (x != x) return ~(sort_key)0;
  sort_key bits;
  x += 0; /* -0 becomes 0 */
  memcpy(&bits, &x, sizeof bits);
  return bits & sign ? ~bits : bits | sign;
}

static sort_key key_of_integer(int32_t x) { return (uint32_t)x ^ (uint32_t)INT32_MIN; }

/* Gives where the sorted entries are: one of the two. */
static struct entry *radix_sort(struct entry *entries, struct entry *other, int64_t n) {
  for (size_t shift = 0; shift < 8 * sizeof(sort_key); shift += 8) {
    int64_t start[257] = {0};
    for (int64_t i = 0; i < n; i++) start[(entries[i].key >> shift & 255) + 1]++;
    if (start[(entries[0].key >> shift & 255) + 1] == n) continue; /* all alike in this digit */
    for (int digit = 0; digit < 256; digit++) start[digit + 1] += start[digit];
    for (int64_t i = 0; i < n; i++) other[start[entries[i].key >> shift & 255]++] = entries[i];
    struct entry *sorted = other;
    other = entries;
    entries = sorted;
  }
  return entries;
}

/* A row of n reals or integers, of which the first `count` in order are asked for. */
struct row {
  const void *x;
  bool reals, descending;
  int64_t n, count;
};

static struct entry entry_of(const struct row *row, int64_t i) {
  sort_key key = row->reals ? key_of_real(((const real *)row->x)[i]) : key_of_integer(((const int32_t *)row->x)[i]);
  return (struct entry){row->descending ? ~key : key, (int32_t)(i + 1)};
}

/* The first `count`, kept in order while the row passes, which saves sorting the rest. */
static void select_first(struct entry *entries, const struct row *row) {
  int64_t kept = 0;
  for (int64_t i = 0; i < row->n; i++) {
    struct entry next = entry_of(row, i);
    if (kept == row->count && next.key >= entries[kept - 1].key) continue;
    int64_t k = kept < row->count ? kept++ : kept - 1;
    for (; k > 0 && entries[k - 1].key > next.key; k--) entries[k] = entries[k - 1];
    entries[k] = next;
  }
}

enum { INSERTED = 64 };

/* order[0..count): places from 1. scratch: 2 n entries. */
static void sort_row(int32_t *order, struct entry *scratch, const struct row *row) {
  struct entry *entries = scratch;
  if (row->count <= INSERTED) {
    select_first(entries, row);
  } else {
    for (int64_t i = 0; i < row->n; i++) entries[i] = entry_of(row, i);
    entries = radix_sort(entries, scratch + row->n, row->n);
  }
  for (int64_t i = 0; i < row->count; i++) order[i] = entries[i].place;
}

static int argsort_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  int dimension;
  *type = TYPE_INT32;
  *shape = call->input[0]->shape;
  STATUS_TRY(op_dimension(call, &dimension));
  if (shape->size[dimension] > INT32_MAX) return status_error("too many elements to number them with int32");
  int64_t count = call->value[2].list[0];
  if (count > shape->size[dimension])
    return status_error("count is %lld: dimension %d has %lld places", (long long)count, dimension + 1,
                        (long long)shape->size[dimension]);
  if (count >= 0) shape->size[dimension] = count;
  return STATUS_OK;
}

static int argsort_forward(struct op_call *call) {
  struct tensor *x = call->input[0];
  int dimension, last = x->shape.rank - 1;
  STATUS_TRY(op_dimension(call, &dimension));
  const int64_t n = x->shape.size[dimension], all = tensor_count(x), first = call->output->shape.size[dimension];
  const bool reals = x->type == TYPE_REAL;
  if (tensor_count(call->output) == 0) return STATUS_OK;
  struct tensor *view = tensor_transpose(x, dimension, last), *rows = NULL, *order = NULL, *back = NULL;
  if (view) rows = reals ? tensor_contiguous(view) : tensor_convert(view, TYPE_INT32);
  struct shape picked = rows ? rows->shape : x->shape;
  picked.size[last] = first;
  if (rows) order = tensor_new(TYPE_INT32, &picked);
  const size_t size = reals ? sizeof(real) : sizeof(int32_t);
  struct entry *scratch = order ? memory_acquire((size_t)(2 * n) * (size_t)parallel_threads() * sizeof *scratch) : NULL;
  if (scratch) {
    const char *from = (const char *)rows->storage->data + (size_t)rows->offset * size;
#pragma omp parallel for schedule(static) if (all > PARALLEL_THRESHOLD / 8)
    for (int64_t i = 0; i < all / n; i++) {
      struct row row = {from + (size_t)(i * n) * size, reals, call->value[1].list[0], n, first};
      sort_row(tensor_int32(order) + i * first, scratch + 2 * n * omp_get_thread_num(), &row);
    }
    back = tensor_transpose(order, dimension, last);
  }
  int status = back ? tensor_assign(call->output, back) : STATUS_ERROR;
  if (scratch) memory_release(scratch);
  tensor_release(view);
  tensor_release(rows);
  tensor_release(order);
  tensor_release(back);
  return status;
}

const struct op sort_ops[] = {
    OP("argsort",
       "int32 positions (from 1) that put x in order along a dimension, equals as they stood, or the first count of "
       "them; NaN counts as largest",
       SAMPLES("4x5", "4x5 dimension=1 descending=1", "2x3x4 dimension=2", "2x130", "2x130 count=3", "1", "0x3"),
       PARAMETERS(TENSOR("x"), DEFAULT("dimension", OP_DIMENSION, -1), DEFAULT("descending", OP_FLAG, 0),
                  DEFAULT("count", OP_INTEGER, -1)),
       OP_NO_GRADIENT, argsort_shape, argsort_forward, NULL, NULL, .integers = argsort_forward),
    {.name = NULL}};
