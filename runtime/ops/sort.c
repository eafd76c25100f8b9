/* Sort: the order of elements along a dimension, by insertion in short rows and by radix in long ones (least
   significant digit first: Knuth, The Art of Computer Programming 3, 5.2.5). Both leave equals as they stood.
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

static void insertion_sort(struct entry *entries, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    struct entry moved = entries[i];
    int64_t k = i;
    for (; k > 0 && entries[k - 1].key > moved.key; k--) entries[k] = entries[k - 1];
    entries[k] = moved;
  }
}

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

enum { INSERTED = 64 };

/* order[0..n): places from 1 of the n reals or integers from x on. scratch: 2 n entries. */
static void sort_row(int32_t *order, struct entry *scratch, const void *x, bool reals, int64_t n, bool descending) {
  struct entry *entries = scratch;
  for (int64_t i = 0; i < n; i++) {
    sort_key key = reals ? key_of_real(((const real *)x)[i]) : key_of_integer(((const int32_t *)x)[i]);
    entries[i] = (struct entry){descending ? ~key : key, (int32_t)(i + 1)};
  }
  if (n <= INSERTED)
    insertion_sort(entries, n);
  else
    entries = radix_sort(entries, scratch + n, n);
  for (int64_t i = 0; i < n; i++) order[i] = entries[i].place;
}

static int argsort_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  int dimension;
  *type = TYPE_INT32;
  *shape = call->input[0]->shape;
  STATUS_TRY(op_dimension(call, &dimension));
  if (shape->size[dimension] > INT32_MAX) return status_error("too many elements to number them with int32");
  return STATUS_OK;
}

static int argsort_forward(struct op_call *call) {
  struct tensor *x = call->input[0];
  int dimension, last = x->shape.rank - 1;
  STATUS_TRY(op_dimension(call, &dimension));
  const int64_t n = x->shape.size[dimension], count = tensor_count(x);
  const bool reals = x->type == TYPE_REAL, descending = call->value[1].list[0];
  if (count == 0) return STATUS_OK;
  struct tensor *view = tensor_transpose(x, dimension, last), *rows = NULL, *order = NULL, *back = NULL;
  if (view) rows = reals ? tensor_contiguous(view) : tensor_convert(view, TYPE_INT32);
  if (rows) order = tensor_new(TYPE_INT32, &rows->shape);
  const size_t size = reals ? sizeof(real) : sizeof(int32_t);
  struct entry *scratch = order ? memory_acquire((size_t)(2 * n) * (size_t)parallel_threads() * sizeof *scratch) : NULL;
  if (scratch) {
    const char *from = (const char *)rows->storage->data + (size_t)rows->offset * size;
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD / 8)
    for (int64_t row = 0; row < count / n; row++)
      sort_row(tensor_int32(order) + row * n, scratch + 2 * n * omp_get_thread_num(), from + (size_t)(row * n) * size,
               reals, n, descending);
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
       "int32 positions (from 1) that put x in order along a dimension, equals as they stood; NaN counts as largest",
       SAMPLES("4x5", "4x5 dimension=1 descending=1", "2x3x4 dimension=2", "2x130", "1", "0x3"),
       PARAMETERS(TENSOR("x"), DEFAULT("dimension", OP_DIMENSION, -1), DEFAULT("descending", OP_FLAG, 0)),
       OP_NO_GRADIENT, argsort_shape, argsort_forward, NULL, NULL, .integers = argsort_forward),
    {.name = NULL}};
