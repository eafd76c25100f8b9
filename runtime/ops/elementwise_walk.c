/* Walk: operands of any type and any strides, broadcast to a shape, cut into blocks of contiguous reals. */
#include "../base/integer.h"
#include "elementwise.h"

/* Rows at least this long are handed on one by one; shorter ones are packed together. */
enum { ROW_MINIMUM = 64 };

static int64_t operand_stride(const struct tensor *t, const struct shape *shape, int dimension) {
  int own = dimension - (shape->rank - t->shape.rank);
  return own < 0 || t->shape.size[own] == 1 ? 0 : t->stride[own];
}

/* A transpose, whose columns would be read an element a line. */
static bool is_across(const struct tensor *t) {
  enum { ACROSS_LEAST = 1 << 12 };
  int last = t->shape.rank - 1;
  if (t->type != TYPE_REAL || last < 1 || t->stride[last] < 2 || t->shape.size[last] < 8) return false;
  bool along = false;
  for (int d = 0; d < last; d++) along = along || (t->stride[d] == 1 && t->shape.size[d] >= 8);
  return along && tensor_count(t) >= ACROSS_LEAST;
}

int elementwise_open_operands(int operands, struct tensor *const *operand, struct tensor **opened) {
  bool good = true;
  for (int k = 0; k < operands; k++) {
    opened[k] = !operand[k] || !good    ? NULL
                : is_across(operand[k]) ? tensor_copy(operand[k])
                                        : tensor_retain(operand[k]);
    good = good && (opened[k] || !operand[k]);
  }
  if (good) return STATUS_OK;
  elementwise_release_operands(operands, opened);
  return STATUS_ERROR;
}

void elementwise_release_operands(int operands, struct tensor **opened) {
  for (int k = 0; k < operands; k++) tensor_release(opened[k]);
}

int elementwise_walk_plan(struct elementwise_walk *walk, const struct shape *shape, int operands,
                          struct tensor *const *operand, int64_t block) {
  walk->operands = operands;
  walk->block = block;
  walk->count = shape_count(shape);
  walk->rank = 0;
  walk->all_whole = true;
  for (int k = 0; k < operands; k++) {
    const struct tensor *t = walk->operand[k] = operand[k];
    if (!t) continue;
    struct shape both;
    if (!shape_broadcast(&t->shape, shape, &both) || !shape_equal(&both, shape))
      return status_error("a tensor of shape %s does not broadcast to %s", shape_text(&t->shape), shape_text(shape));
    walk->whole[k] = t->type == TYPE_REAL && tensor_count(t) == walk->count && tensor_is_contiguous(t);
    walk->all_whole = walk->all_whole && walk->whole[k];
  }
  if (walk->all_whole) return STATUS_OK;
  for (int d = 0; d < shape->rank; d++) {
    if (shape->size[d] == 1) continue;
    bool joins = walk->rank > 0;
    int last = walk->rank - 1;
    for (int k = 0; k < operands && joins; k++)
      if (operand[k]) joins = walk->stride[k][last] == operand_stride(operand[k], shape, d) * shape->size[d];
    if (!joins) last = walk->rank++;
    walk->size[last] = joins ? walk->size[last] * shape->size[d] : shape->size[d];
    for (int k = 0; k < operands; k++)
      if (operand[k]) walk->stride[k][last] = operand_stride(operand[k], shape, d);
  }
  if (walk->rank == 0) walk->size[walk->rank++] = 1;
  return STATUS_OK;
}

/* out = count elements of t from offset on, as reals. */
static void pack(real *out, const struct tensor *t, int64_t offset, int64_t stride, int64_t count) {
  if (t->type == TYPE_REAL) {
    const real *in = tensor_real(t) + offset;
    if (stride == 0) {
      real value = *in;
      for (int64_t i = 0; i < count; i++) out[i] = value;
    } else if (stride == 1) {
      for (int64_t i = 0; i < count; i++) out[i] = in[i];
    } else {
      for (int64_t i = 0; i < count; i++) out[i] = in[i * stride];
    }
  } else if (t->type == TYPE_INT32) {
    const int32_t *in = tensor_int32(t) + offset;
    for (int64_t i = 0; i < count; i++) out[i] = (real)in[i * stride];
  } else {
    const uint8_t *in = tensor_uint8(t) + offset;
    for (int64_t i = 0; i < count; i++) out[i] = in[i * stride];
  }
}

/* Elements start..end-1 of the shape. The walk goes run by run along the last dimension; long runs are handed on as
   they are (operands with stride 1 without a copy), short ones are gathered until the block is full. */
static void walk_strided_block(const struct elementwise_walk *walk, int64_t start, int64_t end, real *packed,
                               const real **from, elementwise_visitor *visit, void *context) {
  int64_t offset[WALK_OPERANDS], index[TENSOR_MAX_RANK];
  int64_t filled_from[WALK_OPERANDS], filled[WALK_OPERANDS]; /* repeats in packed */
  int last = walk->rank - 1, operands = walk->operands;
  int64_t inner = walk->size[last], rest = start;
  bool by_row = inner >= ROW_MINIMUM;
  for (int k = 0; k < operands; k++) offset[k] = filled_from[k] = filled[k] = 0;
  for (int d = last; d >= 0; d--) {
    index[d] = rest % walk->size[d];
    rest /= walk->size[d];
    for (int k = 0; k < operands; k++)
      if (walk->operand[k]) offset[k] += index[d] * walk->stride[k][d];
  }
  for (int64_t at = start; at < end;) {
    int64_t run = min(inner - index[last], end - at);
    for (int k = 0; k < operands; k++) {
      const struct tensor *t = walk->operand[k];
      if (!t) continue;
      int64_t stride = walk->stride[k][last];
      real *buffer = packed + k * walk->block;
      if (!by_row) {
        if (!walk->whole[k]) pack(buffer + (at - start), t, offset[k], stride, run);
      } else if (t->type == TYPE_REAL && stride == 1) {
        from[k] = tensor_real(t) + offset[k];
      } else if (stride != 0 || filled[k] < run || filled_from[k] != offset[k]) {
        pack(buffer, t, offset[k], stride, run);
        from[k] = buffer;
        filled_from[k] = offset[k];
        filled[k] = run;
      }
    }
    if (by_row) visit(context, at, run);
    at += run;
    index[last] += run;
    for (int k = 0; k < operands; k++)
      if (walk->operand[k]) offset[k] += run * walk->stride[k][last];
    for (int d = last; d > 0 && index[d] == walk->size[d]; d--) {
      index[d] = 0;
      index[d - 1]++;
      for (int k = 0; k < operands; k++)
        if (walk->operand[k]) offset[k] += walk->stride[k][d - 1] - walk->size[d] * walk->stride[k][d];
    }
  }
  if (by_row) return;
  for (int k = 0; k < operands; k++)
    if (walk->operand[k]) from[k] = walk->whole[k] ? tensor_real(walk->operand[k]) + start : packed + k * walk->block;
  visit(context, start, end - start);
}

void elementwise_walk_block(const struct elementwise_walk *walk, int64_t start, real *packed, const real **from,
                            elementwise_visitor *visit, void *context) {
  int64_t end = min(walk->count, start + walk->block);
  if (!walk->all_whole) {
    walk_strided_block(walk, start, end, packed, from, visit, context);
    return;
  }
  for (int k = 0; k < walk->operands; k++)
    if (walk->operand[k]) from[k] = tensor_real(walk->operand[k]) + start;
  visit(context, start, end - start);
}
