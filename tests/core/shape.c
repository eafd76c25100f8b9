/* Shapes: products, broadcasting, checks and text. */
#include <string.h>

#include "../../runtime/tensor/tensor.h"
#include "check.h"

void test_shape(void) {
  struct shape scalar = {.rank = 0}, matrix = shape_of(2, (int64_t)3, (int64_t)4),
               empty = shape_of(2, (int64_t)3, (int64_t)0);
  CHECK(shape_count(&scalar) == 1, "a scalar has one element");
  CHECK(shape_count(&matrix) == 12 && shape_count(&empty) == 0, "count of (3×4) and (3×0)");
  CHECK(strcmp(shape_text(&matrix), "(3×4)") == 0, "text is %s", shape_text(&matrix));
  CHECK(strcmp(shape_text(&scalar), "()") == 0, "text is %s", shape_text(&scalar));

  struct shape out, row = shape_of(1, (int64_t)4), column = shape_of(2, (int64_t)3, (int64_t)1);
  struct shape cube = shape_of(3, (int64_t)2, (int64_t)1, (int64_t)4), five = shape_of(1, (int64_t)5);
  CHECK(shape_broadcast(&row, &column, &out) && shape_equal(&out, &matrix), "(4) with (3×1) is %s", shape_text(&out));
  CHECK(shape_broadcast(&cube, &matrix, &out) && out.rank == 3 && out.size[1] == 3, "(2×1×4) with (3×4) is %s",
        shape_text(&out));
  CHECK(shape_broadcast(&empty, &column, &out) && shape_equal(&out, &empty), "(3×0) with (3×1) is %s",
        shape_text(&out));
  CHECK(shape_broadcast(&scalar, &matrix, &out) && shape_equal(&out, &matrix), "a scalar fits every shape");
  CHECK(!shape_broadcast(&matrix, &five, &out), "(3×4) does not fit (5)");
  CHECK(!shape_broadcast(&empty, &matrix, &out), "(3×0) does not fit (3×4)");

  struct shape negative = shape_of(2, (int64_t)3, (int64_t)-4), huge = shape_of(3, INT64_MAX, INT64_MAX, (int64_t)2);
  struct shape huge_empty = shape_of(2, INT64_MAX, (int64_t)0);
  CHECK(shape_check(&matrix) == STATUS_OK && shape_check(&empty) == STATUS_OK, "(3×4) and (3×0) are shapes");
  CHECK(shape_check(&negative) == STATUS_ERROR && check_message_has("-4"), "message names the size: %s",
        status_message());
  CHECK(shape_check(&huge) == STATUS_ERROR && check_message_has("too large"), "overflow: %s", status_message());
  CHECK(shape_check(&huge_empty) == STATUS_ERROR, "strides of an empty tensor must fit too");
  struct shape deep = {.rank = TENSOR_MAX_RANK + 1};
  CHECK(shape_check(&deep) == STATUS_ERROR, "rank %d is refused", deep.rank);
}
