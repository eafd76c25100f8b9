/* Tensors: views share and copies do not, strides and offsets are right, conversions are defined, wrong requests are
   errors that say what was wrong. Elements are numbered row by row: element (i, j) of a (3×4) tensor is 4 i + j. */
#include <math.h>

#include "../../runtime/base/memory.h"
#include "../../runtime/tensor/tensor.h"
#include "check.h"

static struct tensor *numbered(struct shape shape) {
  struct tensor *t = tensor_new(TYPE_REAL, &shape);
  for (int64_t i = 0; t && i < tensor_count(t); i++) tensor_real(t)[i] = (real)i;
  return t;
}

static double at2(const struct tensor *t, int64_t i, int64_t j) { return tensor_get(t, (int64_t[]){i, j}); }

static void check_views(void) {
  struct tensor *t = numbered(shape_of(2, (int64_t)3, (int64_t)4));
  struct tensor *turned = tensor_transpose(t, 0, 1);
  CHECK(turned->shape.size[0] == 4 && at2(turned, 1, 2) == 9, "transposed (1, 2) is %g", at2(turned, 1, 2));
  CHECK(!tensor_is_contiguous(turned) && tensor_is_contiguous(t), "a transpose is strided");
  tensor_set(turned, (int64_t[]){1, 2}, -1);
  CHECK(at2(t, 2, 1) == -1, "a view writes to its source");
  tensor_set(t, (int64_t[]){2, 1}, 9);

  struct tensor *narrow = tensor_narrow(t, 1, 1, 2, 2);
  CHECK(narrow->shape.size[1] == 2 && at2(narrow, 2, 1) == 11, "columns 1 and 3: last is %g", at2(narrow, 2, 1));
  struct tensor *row = tensor_select(t, 0, 2);
  CHECK(row->shape.rank == 1 && tensor_get(row, (int64_t[]){3}) == 11, "row 2 ends in %g",
        tensor_get(row, (int64_t[]){3}));
  struct tensor *copy = tensor_copy(narrow);
  CHECK(tensor_is_contiguous(copy) && tensor_real(copy)[5] == 11, "the copy of a strided view is contiguous");
  tensor_set(copy, (int64_t[]){0, 0}, 100);
  CHECK(at2(narrow, 0, 0) == 1, "a copy does not write to its source");
  struct tensor *same = tensor_contiguous(t), *fresh = tensor_contiguous(turned);
  CHECK(same == t, "a contiguous tensor is its own contiguous form");
  CHECK(fresh->storage != t->storage && tensor_real(fresh)[1] == 4, "a strided one is copied");

  struct shape six = shape_of(2, (int64_t)6, (int64_t)2), seven = shape_of(1, (int64_t)7);
  struct tensor *seen = tensor_view_shape(t, &six);
  CHECK(seen && seen->storage == t->storage && at2(seen, 5, 1) == 11, "(3×4) as (6×2)");
  CHECK(!tensor_view_shape(t, &seven) && check_message_has("(3×4)") && check_message_has("(7)"), "as (7): %s",
        status_message());
  CHECK(!tensor_view_shape(turned, &six) && check_message_has("strided"), "a transpose has no other view: %s",
        status_message());
  struct shape outer = shape_of(3, (int64_t)3, (int64_t)1, (int64_t)2);
  struct tensor *split = tensor_view_shape(narrow, &outer);
  CHECK(split && tensor_get(split, (int64_t[]){1, 0, 1}) == 7, "a size of 1 can be put into a strided tensor");

  struct tensor *flat = tensor_flatten_rows(turned);
  CHECK(flat && flat->shape.size[0] == 4 && at2(flat, 3, 2) == 11, "rows of a transpose");
  struct tensor *cube = numbered(shape_of(3, (int64_t)2, (int64_t)3, (int64_t)4));
  struct tensor *order = tensor_permute(cube, (int[]){2, 0, 1});
  CHECK(order->shape.size[0] == 4 && tensor_get(order, (int64_t[]){3, 1, 2}) == 23, "permuted (3, 1, 2) is %g",
        tensor_get(order, (int64_t[]){3, 1, 2}));
  struct tensor *all[] = {t, turned, narrow, row, copy, same, fresh, seen, split, flat, cube, order};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) tensor_release(all[i]);
}

static void check_expand(void) {
  struct tensor *row = numbered(shape_of(1, (int64_t)4));
  struct shape matrix = shape_of(2, (int64_t)3, (int64_t)4), wrong = shape_of(2, (int64_t)4, (int64_t)3);
  struct tensor *wide = tensor_expand(row, &matrix);
  CHECK(wide && wide->stride[0] == 0 && at2(wide, 2, 3) == 3, "a row repeated");
  CHECK(!tensor_expand(row, &wrong) && check_message_has("(4)") && check_message_has("(4×3)"), "%s", status_message());
  CHECK(!tensor_expand(wide, &row->shape), "a matrix does not become a row");
  tensor_release(row);
  tensor_release(wide);
}

static void check_assign(void) {
  struct tensor *t = tensor_zeros(TYPE_REAL, &(struct shape){.rank = 2, .size = {3, 4}});
  struct tensor *row = numbered(shape_of(1, (int64_t)4)), *turned = tensor_transpose(t, 0, 1);
  uint32_t version = t->storage->version;
  CHECK(tensor_assign(t, row) == STATUS_OK && at2(t, 2, 3) == 3, "assigning a row to all rows");
  CHECK(t->storage->version > version, "a write raises the version");
  CHECK(tensor_assign(turned, row) == STATUS_ERROR && check_message_has("(4×3)"), "%s", status_message());
  struct tensor *column = tensor_narrow(t, 1, 2, 1, 1);
  CHECK(tensor_fill(column, 7) == STATUS_OK && at2(t, 1, 2) == 7 && at2(t, 1, 1) == 1 && at2(t, 1, 3) == 3,
        "filling one column leaves the others");
  tensor_release(t);
  tensor_release(row);
  tensor_release(turned);
  tensor_release(column);

  /* Large enough for tiles and threads. */
  struct tensor *large = numbered(shape_of(2, (int64_t)301, (int64_t)203)), *across = tensor_transpose(large, 0, 1);
  struct tensor *copy = tensor_copy(across);
  bool equal = true;
  for (int64_t i = 0; i < 203; i++)
    for (int64_t j = 0; j < 301; j++) equal = equal && tensor_real(copy)[i * 301 + j] == (real)(j * 203 + i);
  CHECK(equal, "the copy of a large transpose");
  tensor_release(large);
  tensor_release(across);
  tensor_release(copy);
}

static uint64_t drawn;

static int64_t draw(int64_t least, int64_t most) {
  drawn = drawn * 6364136223846793005u + 1442695040888963407u;
  return least + (int64_t)((drawn >> 33) % (uint64_t)(most - least + 1));
}

/* A view of this shape of larger, numbered storage: dimensions in another order, every second or all of their places;
   of a source some are one place repeated. */
static struct tensor *drawn_layout(const struct shape *shape, bool repeats) {
  int order[3] = {0, 1, 2}, place[3];
  for (int i = 2; i > 0; i--) {
    int j = (int)draw(0, i), other = order[i];
    order[i] = order[j], order[j] = other;
  }
  struct shape wide = {.rank = 3};
  int64_t step[3];
  bool repeated[3];
  for (int i = 0; i < 3; i++) {
    int d = order[i];
    place[d] = i;
    repeated[d] = repeats && draw(0, 2) == 0;
    step[d] = draw(0, 3) == 0 ? 2 : 1;
    wide.size[i] = repeated[d] ? 1 : shape->size[d] * step[d];
  }
  struct tensor *storage = numbered(wide), *turned = tensor_permute(storage, place);
  tensor_release(storage);
  for (int d = 0; d < 3; d++) {
    if (repeated[d]) continue;
    struct tensor *next = tensor_narrow(turned, d, 0, shape->size[d], step[d]);
    tensor_release(turned);
    turned = next;
  }
  struct tensor *view = tensor_expand(turned, shape);
  tensor_release(turned);
  return view;
}

/* Any layout to any layout, element by element. */
static void check_layouts(void) {
  for (int number = 0; number < 300; number++) {
    drawn = (uint64_t)number * 31 + 7;
    bool large = number % 10 == 0;
    struct shape shape = {.rank = 3};
    for (int d = 0; d < 3; d++) shape.size[d] = draw(0, 3) == 0 ? 1 : draw(1, large ? 60 : 9);
    struct tensor *from = drawn_layout(&shape, true), *to = drawn_layout(&shape, false);
    bool equal = tensor_assign(to, from) == STATUS_OK;
    for (int64_t i = 0; i < tensor_count(to) && equal; i++) {
      const int64_t rows = shape.size[1], columns = shape.size[2];
      const int64_t index[] = {i / columns / rows, i / columns % rows, i % columns};
      equal = tensor_get(to, index) == tensor_get(from, index);
    }
    CHECK(equal, "drawn layouts %d of %s", number, shape_text(&shape));
    tensor_release(from);
    tensor_release(to);
  }
  /* One number a million times over: shared by threads. */
  struct shape shape = shape_of(2, (int64_t)1000, (int64_t)1001);
  struct tensor *one = numbered(shape_of(1, (int64_t)1)), *all = tensor_new(TYPE_REAL, &shape);
  *tensor_real(one) = 3;
  bool equal = tensor_assign(all, one) == STATUS_OK;
  for (int64_t i = 0; i < 1001000; i++) equal = equal && tensor_real(all)[i] == 3;
  CHECK(equal, "a number repeated");
  tensor_release(one);
  tensor_release(all);
}

/* A part of a tensor assigned to another part of it that it overlaps. */
static void check_overlap(void) {
  struct tensor *t = numbered(shape_of(2, (int64_t)40, (int64_t)40)), *turned = tensor_transpose(t, 0, 1);
  bool equal = tensor_assign(t, turned) == STATUS_OK;
  for (int64_t i = 0; i < 1600; i++) equal = equal && tensor_real(t)[i] == (real)(i % 40 * 40 + i / 40);
  CHECK(equal, "a square becomes its transpose");
  struct tensor *line = numbered(shape_of(1, (int64_t)300000));
  struct tensor *first = tensor_narrow(line, 0, 0, 299990, 1), *last = tensor_narrow(line, 0, 10, 299990, 1);
  equal = tensor_assign(last, first) == STATUS_OK;
  for (int64_t i = 0; i < 300000; i++) equal = equal && tensor_real(line)[i] == (real)(i < 10 ? i : i - 10);
  CHECK(equal, "a line moved on by ten places");
  struct tensor *used[] = {t, turned, line, first, last};
  for (int i = 0; i < 5; i++) tensor_release(used[i]);
}

static void check_convert(void) {
  const double given[] = {-3.7, 2.9, 300, -1e30, 1e30, NAN, 0};
  const double int32[] = {-3, 2, 300, INT32_MIN, INT32_MAX, 0, 0}, uint8[] = {0, 2, 255, 0, 255, 0, 0};
  struct shape shape = shape_of(1, (int64_t)7);
  struct tensor *t = tensor_new(TYPE_REAL, &shape);
  for (int64_t i = 0; i < 7; i++) tensor_set(t, &i, given[i]);
  struct tensor *whole = tensor_convert(t, TYPE_INT32), *bytes = tensor_convert(t, TYPE_UINT8);
  struct tensor *back = tensor_convert(bytes, TYPE_REAL);
  for (int64_t i = 0; i < 7; i++) {
    CHECK(tensor_get(whole, &i) == int32[i], "%g as int32 is %g", given[i], tensor_get(whole, &i));
    CHECK(tensor_get(bytes, &i) == uint8[i], "%g as uint8 is %g", given[i], tensor_get(bytes, &i));
    CHECK(tensor_get(back, &i) == uint8[i], "uint8 %g as real is %g", uint8[i], tensor_get(back, &i));
  }
  tensor_release(t);
  tensor_release(whole);
  tensor_release(bytes);
  tensor_release(back);
}

static void check_empty(void) {
  struct tensor *t = numbered(shape_of(2, (int64_t)0, (int64_t)4)), *copy = tensor_copy(t);
  struct shape other = shape_of(3, (int64_t)2, (int64_t)0, (int64_t)5);
  struct tensor *view = tensor_view_shape(t, &other), *turned = tensor_transpose(t, 0, 1);
  CHECK(copy && tensor_count(copy) == 0, "copy of an empty tensor");
  CHECK(view && turned && tensor_is_contiguous(turned), "views of an empty tensor");
  CHECK(tensor_fill(t, 3) == STATUS_OK, "filling nothing");
  tensor_release(t);
  tensor_release(copy);
  tensor_release(view);
  tensor_release(turned);
}

void test_tensor(void) {
  size_t live = memory_live();
  check_views();
  check_expand();
  check_assign();
  check_layouts();
  check_overlap();
  check_convert();
  check_empty();
  CHECK(memory_live() == live, "%zu bytes are not released", memory_live() - live);
}
