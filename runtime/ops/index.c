/* Index: picking, adding and writing by int32 indices, which start at 1 and are checked before anything is read.

   Around a dimension a contiguous tensor is (outer, n, inner). Where indices repeat, contributions are added in the
   order of the indices: work is split by destination, never by index, so that sums do not depend on threads. */
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "elementwise.h"
#include "index.h"

/* ---- indices ---- */

static int check_index_type(const struct tensor *indices) {
  if (indices->type == TYPE_INT32) return STATUS_OK;
  return status_error("indices are %s: they must be int32", type_name(indices->type));
}

/* "(2, 3)": the place, from 1, of element number at. */
static void place_text(const struct shape *shape, int64_t at, char *text, size_t length) {
  int64_t place[TENSOR_MAX_RANK] = {0};
  for (int i = shape->rank - 1; i >= 0; i--) {
    place[i] = at % shape->size[i] + 1;
    at /= shape->size[i];
  }
  int used = snprintf(text, length, "(");
  for (int i = 0; i < shape->rank; i++)
    used += snprintf(text + used, length - (size_t)used, "%s%lld", i ? ", " : "", (long long)place[i]);
  snprintf(text + used, length - (size_t)used, ")");
}

/* *result: contiguous indices, all within 1..n. */
static int take_indices(struct tensor *indices, int64_t n, struct tensor **result) {
  struct tensor *flat = tensor_contiguous(indices);
  if (!flat) return STATUS_ERROR;
  const int32_t *index = tensor_int32(flat);
  int64_t count = tensor_count(flat);
  int outside = 0;
#pragma omp simd reduction(| : outside)
  for (int64_t i = 0; i < count; i++) outside |= (index[i] < 1) | (index[i] > n);
  for (int64_t i = 0; outside && i < count; i++) {
    if (index[i] >= 1 && index[i] <= n) continue;
    char place[192];
    place_text(&flat->shape, i, place, sizeof place);
    status_error(n > 0 ? "index %d at %s is out of range: 1 to %lld"
                       : "index %d at %s is out of range: there is nothing to choose from (size %lld)",
                 (int)index[i], place, (long long)n);
    tensor_release(flat);
    return STATUS_ERROR;
  }
  return op_give(flat, result);
}

/* ---- rows: (outer, n, inner) by k indices ---- */

struct rows {
  int64_t outer, n, inner, k;
  const int32_t *index;
};

static struct rows rows_of(const struct shape *x, int dimension, const struct tensor *indices) {
  struct rows rows = {1, x->size[dimension], 1, tensor_count(indices), tensor_int32(indices)};
  for (int i = 0; i < dimension; i++) rows.outer *= x->size[i];
  for (int i = dimension + 1; i < x->rank; i++) rows.inner *= x->size[i];
  return rows;
}

enum { PICKED = 1 << 12 }; /* single elements, in one piece of work */

/* out (outer, k, inner) = rows of x (outer, n, inner); elements of any type. */
static void take_rows(const struct rows *rows, char *out, const char *x, size_t element) {
  size_t row = (size_t)rows->inner * element;
  if (rows->inner == 1 && element == sizeof(uint32_t)) {
#pragma omp parallel for collapse(2) schedule(static) if (rows->outer * rows->k > PARALLEL_THRESHOLD)
    for (int64_t o = 0; o < rows->outer; o++)
      for (int64_t start = 0; start < rows->k; start += PICKED) {
        const uint32_t *from = (const uint32_t *)x + o * rows->n;
        uint32_t *to = (uint32_t *)out + o * rows->k;
        int64_t end = min(rows->k, start + PICKED);
        for (int64_t j = start; j < end; j++) to[j] = from[rows->index[j] - 1];
      }
    return;
  }
#pragma omp parallel for collapse(2) schedule(static) if (rows->outer * rows->k * rows->inner > PARALLEL_THRESHOLD)
  for (int64_t o = 0; o < rows->outer; o++)
    for (int64_t j = 0; j < rows->k; j++)
      memcpy(out + (size_t)(o * rows->k + j) * row, x + (size_t)(o * rows->n + rows->index[j] - 1) * row, row);
}

/* sums (outer, n, inner) += rows of x (outer, k, inner). A piece of work owns a range of the n rows. */
static void add_rows(const struct rows *rows, real *sums, const real *x) {
  if (rows->inner == 1) {
#pragma omp parallel for schedule(static) if (rows->outer * rows->k > PARALLEL_THRESHOLD)
    for (int64_t o = 0; o < rows->outer; o++)
      for (int64_t j = 0; j < rows->k; j++) sums[o * rows->n + rows->index[j] - 1] += x[o * rows->k + j];
    return;
  }
  int64_t pieces = rows->inner >= 32 && rows->outer < 16 ? min(16, rows->n) : 1;
#pragma omp parallel for collapse(2) schedule(static) if (rows->outer * rows->k * rows->inner > PARALLEL_THRESHOLD)
  for (int64_t o = 0; o < rows->outer; o++) {
    for (int64_t p = 0; p < pieces; p++) {
      int64_t first = rows->n * p / pieces, last = rows->n * (p + 1) / pieces;
      for (int64_t j = 0; j < rows->k; j++) {
        int64_t at = rows->index[j] - 1;
        if (at < first || at >= last) continue;
        real *to = sums + (o * rows->n + at) * rows->inner;
        const real *from = x + (o * rows->k + j) * rows->inner;
        for (int64_t i = 0; i < rows->inner; i++) to[i] += from[i];
      }
    }
  }
}

/* *result: out, or when it is NULL a new tensor of the shape, with x's rows along the dimension. */
static int take(struct tensor *x, int dimension, struct tensor *indices, const struct shape *shape, struct tensor *out,
                struct tensor **result) {
  struct tensor *from = NULL, *index = NULL, *to = out ? tensor_retain(out) : tensor_new(x->type, shape);
  if (to) from = tensor_contiguous(x);
  int status = from ? take_indices(indices, x->shape.size[dimension], &index) : STATUS_ERROR;
  if (status == STATUS_OK) {
    size_t element = type_size(x->type);
    struct rows rows = rows_of(&x->shape, dimension, index);
    take_rows(&rows, (char *)to->storage->data + (size_t)to->offset * element,
              (const char *)from->storage->data + (size_t)from->offset * element, element);
  }
  tensor_release(from);
  tensor_release(index);
  if (status == STATUS_OK && result) return op_give(to, result);
  tensor_release(to);
  return status;
}

/* *result: zeros of the shape, plus gradient's rows at their places. */
static int put_back(struct tensor *gradient, int dimension, struct tensor *indices, const struct shape *shape,
                    struct tensor **result) {
  struct tensor *from = NULL, *index = NULL, *sums = tensor_zeros(TYPE_REAL, shape);
  if (sums) from = tensor_contiguous(gradient);
  int status = from ? take_indices(indices, shape->size[dimension], &index) : STATUS_ERROR;
  if (status == STATUS_OK) {
    struct rows rows = rows_of(shape, dimension, index);
    add_rows(&rows, tensor_real(sums), tensor_real(from));
  }
  tensor_release(from);
  tensor_release(index);
  return op_give_if(status, sums, result);
}

/* ---- index_select ---- */

static int index_select_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct tensor *indices = call->input[1];
  int dimension;
  *type = call->input[0]->type;
  *shape = call->input[0]->shape;
  STATUS_TRY(op_dimension(call, &dimension));
  STATUS_TRY(check_index_type(indices));
  if (indices->shape.rank != 1)
    return status_error("indices are a list (1 dimension), not %s", shape_text(&indices->shape));
  shape->size[dimension] = indices->shape.size[0];
  return STATUS_OK;
}

static int index_select_forward(struct op_call *call) {
  int dimension;
  STATUS_TRY(op_dimension(call, &dimension));
  return take(call->input[0], dimension, call->input[1], NULL, call->output, NULL);
}

static int index_select_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                            struct tensor **result) {
  int dimension;
  if (!needed[0]) return STATUS_OK;
  STATUS_TRY(op_dimension(call, &dimension));
  return put_back(gradient, dimension, call->input[1], &call->input[0]->shape, &result[0]);
}

static int index_select_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  int dimension;
  STATUS_TRY(op_dimension(call, &dimension));
  struct shape shape = tangent[0]->shape;
  shape.size[dimension] = tensor_count(call->input[1]);
  return take(tangent[0], dimension, call->input[1], &shape, NULL, result);
}

/* ---- gather, scatter_add: x is (outer, n, inner), indices (outer, k, inner) ---- */

/* x and indices differ in the dimension alone. */
static int gather_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct shape *x = &call->input[0]->shape, *indices = &call->input[1]->shape;
  int dimension;
  *type = call->input[0]->type;
  *shape = *indices;
  STATUS_TRY(op_dimension(call, &dimension));
  STATUS_TRY(check_index_type(call->input[1]));
  bool fits = x->rank == indices->rank;
  for (int i = 0; fits && i < x->rank; i++) fits = i == dimension || x->size[i] == indices->size[i];
  if (fits) return STATUS_OK;
  return status_error("indices of shape %s do not fit %s: they may differ only in dimension %d", shape_text(indices),
                      shape_text(x), dimension + 1);
}

static int scatter_add_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const enum element_type common = *type;
  STATUS_TRY(gather_shape(call, shape, type));
  *type = common;
  if (!shape_equal(shape, &call->input[2]->shape))
    return status_error("source is %s and indices are %s: they must be of one shape",
                        shape_text(&call->input[2]->shape), shape_text(shape));
  *shape = call->input[0]->shape;
  return STATUS_OK;
}

enum { COLUMNS = 1024 }; /* of inner, in one piece of work */

/* out[o, j, i] = x[o, index[o, j, i], i], or when adding x[o, index[o, j, i], i] += out[o, j, i]. */
static void along_indices(const struct rows *rows, bool add, real *out, real *x) {
  int64_t k = rows->outer * rows->inner > 0 ? rows->k / (rows->outer * rows->inner) : 0;
  int64_t chunks = ceil_div(rows->inner, COLUMNS);
  if (rows->inner == 1 && !add) {
#pragma omp parallel for collapse(2) schedule(static) if (rows->k > PARALLEL_THRESHOLD)
    for (int64_t o = 0; o < rows->outer; o++)
      for (int64_t start = 0; start < k; start += PICKED)
        for (int64_t j = start; j < min(k, start + PICKED); j++)
          out[o * k + j] = x[o * rows->n + rows->index[o * k + j] - 1];
    return;
  }
#pragma omp parallel for collapse(2) schedule(static) if (rows->k > PARALLEL_THRESHOLD)
  for (int64_t o = 0; o < rows->outer; o++) {
    for (int64_t c = 0; c < chunks; c++) {
      int64_t end = min(rows->inner, (c + 1) * COLUMNS);
      for (int64_t j = 0; j < k; j++) {
        for (int64_t i = c * COLUMNS; i < end; i++) {
          int64_t at = (o * k + j) * rows->inner + i;
          int64_t place = (o * rows->n + rows->index[at] - 1) * rows->inner + i;
          if (add)
            x[place] += out[at];
          else
            out[at] = x[place];
        }
      }
    }
  }
}

/* *result: new tensor of the indices' shape, picked from x along the call's dimension. */
static int pick(const struct op_call *call, struct tensor *x, struct tensor **result) {
  int dimension;
  STATUS_TRY(op_resolve_dimension(call->value[0].list[0], x->shape.rank, &dimension));
  struct tensor *index = NULL, *from = NULL, *out = tensor_new(TYPE_REAL, &call->input[1]->shape);
  if (out) from = tensor_contiguous(x);
  int status = from ? take_indices(call->input[1], x->shape.size[dimension], &index) : STATUS_ERROR;
  if (status == STATUS_OK) {
    struct rows rows = rows_of(&x->shape, dimension, index);
    along_indices(&rows, false, tensor_real(out), tensor_real(from));
  }
  tensor_release(from);
  tensor_release(index);
  return op_give_if(status, out, result);
}

/* sums (contiguous) += source at the indices. */
static int add_at(const struct op_call *call, struct tensor *sums, struct tensor *source) {
  int dimension;
  STATUS_TRY(op_resolve_dimension(call->value[0].list[0], sums->shape.rank, &dimension));
  struct tensor *index = NULL, *from = source->type == TYPE_REAL ? tensor_contiguous(source) : NULL;
  if (source->type != TYPE_REAL) from = tensor_convert(source, TYPE_REAL);
  int status = from ? take_indices(call->input[1], sums->shape.size[dimension], &index) : STATUS_ERROR;
  if (status == STATUS_OK) {
    struct rows rows = rows_of(&sums->shape, dimension, index);
    along_indices(&rows, true, tensor_real(from), tensor_real(sums));
  }
  tensor_release(from);
  tensor_release(index);
  return status;
}

static int gather_forward(struct op_call *call) {
  struct tensor *picked = NULL;
  STATUS_TRY(pick(call, call->input[0], &picked));
  tensor_release(call->output);
  call->output = picked;
  return STATUS_OK;
}

/* Where in x the index at this place of the indices points. */
static int64_t along_place(const struct rows *rows, int64_t at) {
  int64_t outer = at / rows->inner / (rows->k / (rows->outer * rows->inner));
  return (outer * rows->n + rows->index[at] - 1) * rows->inner + at % rows->inner;
}

/* The same of integers of the output's type. */
static int gather_integers(struct op_call *call) {
  struct tensor *x = call->input[0], *index = NULL;
  int dimension;
  STATUS_TRY(op_dimension(call, &dimension));
  STATUS_TRY(take_indices(call->input[1], x->shape.size[dimension], &index));
  struct tensor *from = tensor_contiguous(x);
  struct rows rows = rows_of(&x->shape, dimension, index);
  const size_t element = type_size(x->type);
  char *out = call->output->storage->data;
  for (int64_t at = 0; from && at < rows.k; at++) {
    int64_t place = from->offset + along_place(&rows, at);
    memcpy(out + (size_t)at * element, (char *)from->storage->data + (size_t)place * element, element);
  }
  tensor_release(index);
  tensor_release(from);
  return from ? STATUS_OK : STATUS_ERROR;
}

static int gather_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  if (!needed[0]) return STATUS_OK;
  STATUS_TRY(op_give(tensor_zeros(TYPE_REAL, &call->input[0]->shape), &result[0]));
  return add_at(call, result[0], gradient);
}

static int gather_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return pick(call, tangent[0], result);
}

static int scatter_add_forward(struct op_call *call) {
  STATUS_TRY(tensor_assign(call->output, call->input[0]));
  return add_at(call, call->output, call->input[2]);
}

/* Of integers: in 64 bits, an error where the type does not hold a sum. */
static int scatter_add_integers(struct op_call *call) {
  struct tensor *x = call->input[0], *index = NULL, *out = call->output;
  int dimension;
  STATUS_TRY(op_dimension(call, &dimension));
  STATUS_TRY(take_indices(call->input[1], x->shape.size[dimension], &index));
  struct tensor *start = tensor_convert(x, TYPE_INT32), *source = tensor_convert(call->input[2], TYPE_INT32);
  int64_t count = tensor_count(x), *sums = memory_new((size_t)count, sizeof *sums);
  int status = start && source && sums ? STATUS_OK : STATUS_ERROR;
  if (status == STATUS_OK) {
    struct rows rows = rows_of(&x->shape, dimension, index);
    for (int64_t i = 0; i < count; i++) sums[i] = tensor_int32(start)[i];
    for (int64_t at = 0; at < rows.k; at++) sums[along_place(&rows, at)] += tensor_int32(source)[at];
  }
  const int64_t lowest = out->type == TYPE_INT32 ? INT32_MIN : 0, highest = out->type == TYPE_INT32 ? INT32_MAX : 255;
  for (int64_t i = 0; status == STATUS_OK && i < count; i++) {
    if (sums[i] < lowest || sums[i] > highest)
      status = integer_error(sums[i], out->type);
    else if (out->type == TYPE_INT32)
      tensor_int32(out)[i] = (int32_t)sums[i];
    else
      tensor_uint8(out)[i] = (uint8_t)sums[i];
  }
  memory_delete(sums);
  tensor_release(index);
  tensor_release(start);
  tensor_release(source);
  return status;
}

static int scatter_add_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                           struct tensor **result) {
  if (needed[0]) STATUS_TRY(op_give(tensor_retain(gradient), &result[0]));
  return needed[2] ? pick(call, gradient, &result[2]) : STATUS_OK;
}

static int scatter_add_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct tensor *change = tangent[0] ? tensor_copy(tangent[0]) : tensor_zeros(TYPE_REAL, &call->output->shape);
  if (change && !tangent[2]) return op_give(change, result);
  return op_give_if(change ? add_at(call, change, tangent[2]) : STATUS_ERROR, change, result);
}

/* ---- one_hot ---- */

static int one_hot_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  int64_t classes = call->value[0].list[0];
  *shape = call->input[0]->shape;
  STATUS_TRY(check_index_type(call->input[0]));
  if (classes < 0) return status_error("%lld classes: a number of classes is 0 or more", (long long)classes);
  if (shape->rank == TENSOR_MAX_RANK) return status_error("a tensor has at most %d dimensions", TENSOR_MAX_RANK);
  shape->size[shape->rank++] = classes;
  return STATUS_OK;
}

static int one_hot_forward(struct op_call *call) {
  int64_t classes = call->value[0].list[0];
  struct tensor *index = NULL;
  STATUS_TRY(take_indices(call->input[0], classes, &index));
  real *out = tensor_real(call->output);
  memset(out, 0, (size_t)tensor_count(call->output) * sizeof *out);
  for (int64_t i = 0; i < tensor_count(index); i++) out[i * classes + tensor_int32(index)[i] - 1] = 1;
  tensor_release(index);
  return STATUS_OK;
}

/* ---- index_assign ---- */

int index_assign(struct tensor *x, int dimension, int covered, struct tensor *indices, const struct tensor *source) {
  struct shape flat = {.rank = 3, .size = {1, 1, 1}}; /* what lies before, the places, what lies behind */
  for (int i = 0; i < x->shape.rank; i++)
    flat.size[i < dimension ? 0 : i < dimension + covered ? 1 : 2] *= x->shape.size[i];
  struct tensor *index = NULL, *whole = tensor_contiguous(x), *from = NULL;
  if (whole) from = tensor_convert(source, x->type);
  int status = from ? take_indices(indices, flat.size[1], &index) : STATUS_ERROR;
  if (status == STATUS_OK) {
    const size_t element = type_size(x->type);
    struct rows rows = rows_of(&flat, 1, index);
    size_t row = (size_t)rows.inner * element;
    char *to = (char *)whole->storage->data + (size_t)whole->offset * element;
    for (int64_t o = 0; o < rows.outer; o++)
      for (int64_t j = 0; j < rows.k; j++)
        memcpy(to + (size_t)(o * rows.n + rows.index[j] - 1) * row,
               (char *)from->storage->data + (size_t)(o * rows.k + j) * row, row);
    tensor_modified(x);
    if (whole->storage != x->storage) status = tensor_assign(x, whole);
  }
  tensor_release(whole);
  tensor_release(from);
  tensor_release(index);
  return status;
}

/* ---- nonzero ---- */

static int64_t count_nonzero(const struct tensor *flat) {
  int64_t found = 0, count = tensor_count(flat);
  if (flat->type == TYPE_REAL)
    for (int64_t i = 0; i < count; i++) found += tensor_real(flat)[i] != 0;
  else if (flat->type == TYPE_INT32)
    for (int64_t i = 0; i < count; i++) found += tensor_int32(flat)[i] != 0;
  else
    for (int64_t i = 0; i < count; i++) found += tensor_uint8(flat)[i] != 0;
  return found;
}

/* out (total × rank): the places, from 1, of the elements that are not 0, in row-major order. Every place is written,
   and kept when its element counts: nothing hangs on a branch. */
static void list_nonzero(const struct tensor *flat, int64_t total, int32_t *out) {
  const int64_t rank = flat->shape.rank;
  int64_t found = 0;
  if (rank == 0) return;
  if (flat->type == TYPE_REAL)
    for (int32_t i = 0; found < total; found += tensor_real(flat)[i++] != 0) out[found * rank] = i;
  else if (flat->type == TYPE_INT32)
    for (int32_t i = 0; found < total; found += tensor_int32(flat)[i++] != 0) out[found * rank] = i;
  else
    for (int32_t i = 0; found < total; found += tensor_uint8(flat)[i++] != 0) out[found * rank] = i;
  for (int64_t k = 0; k < total; k++) {
    int64_t at = out[k * rank];
    for (int64_t d = rank - 1; d > 0; at /= flat->shape.size[d], d--)
      out[k * rank + d] = (int32_t)(at % flat->shape.size[d] + 1);
    out[k * rank] = (int32_t)(at + 1);
  }
}

static int nonzero_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  struct tensor *x = call->input[0];
  *type = TYPE_INT32;
  if (tensor_count(x) > INT32_MAX) return status_error("too many elements to number them with int32");
  struct tensor *flat = tensor_contiguous(x);
  if (!flat) return STATUS_ERROR;
  *shape = shape_of(2, count_nonzero(flat), (int64_t)x->shape.rank);
  tensor_release(flat);
  return STATUS_OK;
}

static int nonzero_forward(struct op_call *call) {
  struct tensor *flat = tensor_contiguous(call->input[0]);
  if (!flat) return STATUS_ERROR;
  list_nonzero(flat, call->output->shape.size[0], tensor_int32(call->output));
  tensor_release(flat);
  return STATUS_OK;
}

/* ---- masked_fill ---- */

static int masked_fill_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  struct shape both;
  *shape = call->input[0]->shape;
  const struct shape *condition = &call->input[1]->shape;
  const double value = call->value[0].number;
  if (*type != TYPE_REAL && !(value == floor(value) && fabs(value) <= INT32_MAX))
    return status_error("value is %g: among integers it is a whole number", value);
  if (!shape_broadcast(shape, condition, &both) || !shape_equal(shape, &both))
    return status_error("a condition of shape %s does not broadcast to %s", shape_text(condition), shape_text(shape));
  return STATUS_OK;
}

static void masked_fill_values(const struct elements *e) {
  real value = e->value ? (real)e->value[0].number : 0;
  foreach (i, e) {
    real x = e->x[i], condition = e->y[i]; /* both, so that nothing hangs on a branch */
    e->result[i] = condition != 0 ? value : x;
  }
}

static int64_t masked_fill_integer(struct integers e) { return e.y != 0 ? (int64_t)e.value[0].number : e.x; }

static int masked_fill_forward(struct op_call *call) {
  struct tensor *operand[ELEMENTWISE_OPERANDS] = {call->input[0], call->input[1]};
  return elementwise_run(masked_fill_values, call->value, operand, call->output);
}

/* Changes pass where the condition is 0; its own change does nothing. */
static int masked_fill_change(const struct op_call *call, struct tensor *change, struct tensor **result) {
  struct tensor *operand[ELEMENTWISE_OPERANDS] = {change, call->input[1]};
  struct tensor *out = tensor_zeros(TYPE_REAL, &call->input[0]->shape);
  if (out && !change) return op_give(out, result);
  return op_give_if(out ? elementwise_run(masked_fill_values, NULL, operand, out) : STATUS_ERROR, out, result);
}

static int masked_fill_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                           struct tensor **result) {
  if (needed[0]) STATUS_TRY(masked_fill_change(call, gradient, &result[0]));
  return needed[1] ? op_give(tensor_zeros(TYPE_REAL, &call->input[1]->shape), &result[1]) : STATUS_OK;
}

static int masked_fill_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return masked_fill_change(call, tangent[0], result);
}

/* ---- rows ---- */

static const char *const index_select_samples[] = {"5x3 labels5:4 dimension=1",
                                                   "3x5 labels5:7 dimension=2",
                                                   "2x3x4 labels3:5 dimension=-2",
                                                   "1 labels1:3 dimension=1",
                                                   "5x3 labels5:0 dimension=1",
                                                   "0x3 labels3:2 dimension=2",
                                                   NULL};
static const char *const gather_samples[] = {"4x5 labels5:4x1 dimension=2",     "4x5 labels4:3x5 dimension=1",
                                             "2x3x4 labels3:2x6x4 dimension=2", "1 labels1:3 dimension=1",
                                             "0x3 labels3:0x2 dimension=2",     NULL};
static const char *const scatter_add_samples[] = {
    "4x5 labels5:4x2 4x2 dimension=2", "4x5 labels4:6x5 6x5 dimension=1", "2x3x4 labels3:2x5x4 2x5x4 dimension=-2",
    "1 labels1:3 3 dimension=1",       "0x3 labels3:0x2 0x2 dimension=2", NULL};
static const char *const one_hot_samples[] = {"labels5:4 classes=5", "labels3:2x3 classes=4", "labels3:1 classes=3",
                                              "labels3:0 classes=3", NULL};
static const char *const masked_fill_samples[] = {"4x5 mask:4x5 value=2",   "4x5 mask:5 value=-1",
                                                  "2x3x4 mask:3x1 value=0", "1 mask:1 value=3",
                                                  "0x3 mask:3 value=1",     NULL};

const struct op index_ops[] = {
    OP("index_select", "the places of a dimension that a list of indices names, in its order; they may repeat",
       index_select_samples,
       PARAMETERS(GIVEN("x", OP_ANY_TENSOR), GIVEN("dimension", OP_DIMENSION), GIVEN("indices", OP_INDICES)),
       OP_SAVES_INPUTS | OP_LINEAR, index_select_shape, index_select_forward, index_select_vjp, index_select_jvp,
       .batch_inputs = 1, .rowwise = op_later_dimension),
    OP("gather", "one element for each index: dimension 2 of a matrix gives y[i][j] = x[i][indices[i][j]]",
       gather_samples, PARAMETERS(TENSOR("x"), GIVEN("dimension", OP_DIMENSION), GIVEN("indices", OP_INDICES)),
       OP_SAVES_INPUTS | OP_LINEAR, gather_shape, gather_forward, gather_vjp, gather_jvp, .integers = gather_integers,
       .batch_inputs = 3, .rowwise = op_later_dimension),
    OP("scatter_add", "x plus source at the indices: dimension 2 of a matrix adds source[i][j] to y[i][indices[i][j]]",
       scatter_add_samples,
       PARAMETERS(TENSOR("x"), GIVEN("dimension", OP_DIMENSION), GIVEN("indices", OP_INDICES), TENSOR("source")),
       OP_SAVES_INPUTS | OP_LINEAR, scatter_add_shape, scatter_add_forward, scatter_add_vjp, scatter_add_jvp,
       .integers = scatter_add_integers, .batch_inputs = 7, .rowwise = op_later_dimension),
    OP("one_hot", "1 at the index, 0 elsewhere: (…) to (…, classes)", one_hot_samples,
       PARAMETERS(GIVEN("indices", OP_INDICES), GIVEN("classes", OP_INTEGER)), OP_NO_GRADIENT, one_hot_shape,
       one_hot_forward, NULL, NULL),
    OP("nonzero", "int32 places (from 1) of the elements that are not 0, a row for each, in row-major order",
       SAMPLES("4x5", "mask:2x3x4", "mask:7", "1", "0x3"), PARAMETERS(GIVEN("x", OP_ANY_TENSOR)), OP_NO_GRADIENT,
       nonzero_shape, nonzero_forward, NULL, NULL),
    OP("masked_fill", "value where the condition (broadcast to x) is not 0, x elsewhere", masked_fill_samples,
       PARAMETERS(TENSOR("x"), GIVEN("condition", OP_ANY_TENSOR), GIVEN("value", OP_NUMBER)),
       OP_SAVES_INPUTS | OP_ROWWISE | OP_LINEAR, masked_fill_shape, masked_fill_forward, masked_fill_vjp,
       masked_fill_jvp, .integers = elementwise_integers, .batch_inputs = 3,
       .family = &(const struct elementwise_rule){.integers = masked_fill_integer}),
    {.name = NULL}};
