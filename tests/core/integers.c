/* Integers: ops over int32 and uint8 are exact and keep their types, as in NumPy (2.x: the same expressions over arrays
   of int32), save that what a type does not hold is an error, and that sums and positions are int32. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "samples.h"

/* A tensor of one dimension (or two: rows > 0) of the type. */
static struct tensor *whole(enum element_type type, int64_t rows, int64_t count, const int64_t *values) {
  struct shape shape = rows ? shape_of(2, rows, count / rows) : shape_of(1, count);
  struct tensor *t = tensor_new(type, &shape);
  for (int64_t i = 0; i < count; i++) {
    if (type == TYPE_INT32) tensor_int32(t)[i] = (int32_t)values[i];
    if (type == TYPE_UINT8) tensor_uint8(t)[i] = (uint8_t)values[i];
    if (type == TYPE_REAL) tensor_real(t)[i] = (real)values[i];
  }
  return t;
}

static const struct op_value none[OP_MAX_PARAMETERS];

static void refuses(const char *op, int inputs, struct tensor *const *input, const struct op_value *values,
                    const char *message) {
  struct tensor *result = op_run(op_find(op), inputs, input, values);
  CHECK(!result && check_message_has(message), "%s: \"%s\" instead of \"%s\"", op,
        result ? "a result" : status_message(), message);
  tensor_release(result);
}

/* The op with these inputs and values gives the type and the numbers. */
static void gives(const char *op, int inputs, struct tensor *const *input, const struct op_value *values,
                  enum element_type type, int64_t count, const double *expected) {
  struct tensor *result = op_run(op_find(op), inputs, input, values);
  if (CHECK(result && result->type == type && tensor_count(result) == count, "%s: type or size: %s", op,
            result ? type_name(result->type) : status_message())) {
    struct tensor *flat = tensor_convert(result, TYPE_REAL);
    for (int64_t i = 0; i < count; i++)
      CHECK((double)tensor_real(flat)[i] == (double)(real)expected[i], "%s: element %lld is %g instead of %g", op,
            (long long)i + 1, (double)tensor_real(flat)[i], expected[i]);
    tensor_release(flat);
  }
  tensor_release(result);
}

static void check_arithmetic(void) {
  static const struct {
    const char *op;
    enum element_type type;
    double expected[4];
  } rows[] = {{"add", TYPE_INT32, {16777219, -5, 3, -9}},
              {"sub", TYPE_INT32, {16777215, -9, 7, -5}},
              {"mul", TYPE_INT32, {33554434, -14, -10, 14}},
              {"div", TYPE_REAL, {8388608.5, -3.5, -2.5, 3.5}},
              {"floor_divide", TYPE_INT32, {8388608, -4, -3, 3}},
              {"remainder", TYPE_INT32, {1, 1, -1, -1}},
              {"maximum", TYPE_INT32, {16777217, 2, 5, -2}},
              {"minimum", TYPE_INT32, {2, -7, -2, -7}},
              {"gt", TYPE_REAL, {1, 0, 1, 0}},
              {"logical_and", TYPE_REAL, {1, 1, 1, 1}}};
  struct tensor *input[2] = {whole(TYPE_INT32, 0, 4, (int64_t[]){16777217, -7, 5, -7}),
                             whole(TYPE_INT32, 0, 4, (int64_t[]){2, 2, -2, -2})};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    gives(rows[i].op, 2, input, none, rows[i].type, 4, rows[i].expected);
  gives("neg", 1, input, none, TYPE_INT32, 4, (double[]){-16777217, 7, -5, 7});
  gives("abs", 1, input, none, TYPE_INT32, 4, (double[]){16777217, 7, 5, 7});
  gives("sign", 1, input, none, TYPE_INT32, 4, (double[]){1, -1, 1, -1});
  refuses("square", 1, input, none, "which int32 does not hold");
  refuses("pow", 2, (struct tensor *[]){input[1], input[1]}, none, "a power below 0");
  struct tensor *bytes = whole(TYPE_UINT8, 0, 3, (int64_t[]){0, 100, 200});
  struct tensor *powers = whole(TYPE_UINT8, 0, 3, (int64_t[]){0, 1, 1}), *half = tensor_scalar((real)0.5);
  gives("pow", 2, (struct tensor *[]){bytes, powers}, none, TYPE_UINT8, 3, (double[]){1, 100, 200});
  gives("maximum", 2, (struct tensor *[]){bytes, powers}, none, TYPE_UINT8, 3, (double[]){0, 100, 200});
  refuses("add", 2, (struct tensor *[]){bytes, bytes}, none, "a result is 400, which uint8 does not hold");
  refuses("floor_divide", 2, (struct tensor *[]){bytes, bytes}, none, "divided by 0");
  gives("mul", 2, (struct tensor *[]){bytes, half}, none, TYPE_REAL, 3, (double[]){0, 50, 100});
  gives("where", 3, (struct tensor *[]){half, bytes, powers}, none, TYPE_UINT8, 3, (double[]){0, 100, 200});
  struct op_value bounds[OP_MAX_PARAMETERS] = {{.number = 1}, {.number = INFINITY}};
  gives("clamp", 1, &bytes, bounds, TYPE_UINT8, 3, (double[]){1, 100, 200});
  bounds[0].number = 0.5;
  refuses("clamp", 1, &bytes, bounds, "whole number");
  struct tensor *all[] = {input[0], input[1], bytes, powers, half};
  for (int i = 0; i < 5; i++) tensor_release(all[i]);
}

static void check_reductions(enum element_type type) {
  struct tensor *x = whole(type, 2, 6, (int64_t[]){1, 200, 3, 100, 100, 6});
  struct op_value columns[OP_MAX_PARAMETERS] = {{.count = 1, .list = {0}}},
                  rows[OP_MAX_PARAMETERS] = {{.count = 1, .list = {1}}};
  gives("sum", 1, &x, none, TYPE_INT32, 1, (double[]){410});
  gives("sum", 1, &x, columns, TYPE_INT32, 3, (double[]){101, 300, 9});
  gives("mean", 1, &x, rows, TYPE_REAL, 2, (double[]){68, 206.0 / 3});
  gives("max", 1, &x, rows, type, 2, (double[]){200, 100});
  gives("min", 1, &x, columns, type, 3, (double[]){1, 100, 3});
  gives("argmax", 1, &x, rows, TYPE_INT32, 2, (double[]){2, 1});
  gives("argmin", 1, &x, none, TYPE_INT32, 1, (double[]){1});
  gives("any", 1, &x, columns, TYPE_REAL, 3, (double[]){1, 1, 1});
  gives("cumsum", 1, &x, rows, TYPE_INT32, 6, (double[]){1, 201, 204, 100, 200, 206});
  gives("prod", 1, &x, rows, TYPE_INT32, 2, (double[]){600, 60000});
  gives("triu", 1, &x, none, type, 6, (double[]){1, 200, 3, 0, 100, 6});
  gives("nonzero", 1, &x, none, TYPE_INT32, 12, (double[]){1, 1, 1, 2, 1, 3, 2, 1, 2, 2, 2, 3});
  struct op_value sorted[OP_MAX_PARAMETERS] = {{.list = {1}}, {.list = {0}}, {.list = {-1}}};
  gives("argsort", 1, &x, sorted, TYPE_INT32, 6, (double[]){1, 3, 2, 3, 1, 2});
  sorted[1].list[0] = 1;
  gives("argsort", 1, &x, sorted, TYPE_INT32, 6, (double[]){2, 3, 1, 1, 2, 3});
  sorted[2].list[0] = 2;
  gives("argsort", 1, &x, sorted, TYPE_INT32, 4, (double[]){2, 3, 1, 2});
  struct tensor *index = whole(TYPE_INT32, 2, 2, (int64_t[]){3, 1});
  gives("gather", 2, (struct tensor *[]){x, index}, rows, type, 2, (double[]){3, 100});
  struct tensor *source = whole(type, 2, 2, (int64_t[]){5, 6});
  gives("scatter_add", 3, (struct tensor *[]){x, index, source}, rows, type, 6, (double[]){1, 200, 8, 106, 100, 6});
  tensor_release(source);
  gives("cat", 2, (struct tensor *[]){x, x}, columns, type, 12,
        (double[]){1, 200, 3, 100, 100, 6, 1, 200, 3, 100, 100, 6});
  gives("stack", 2, (struct tensor *[]){x, x}, rows, type, 12,
        (double[]){1, 200, 3, 1, 200, 3, 100, 100, 6, 100, 100, 6});
  struct op_value fill[OP_MAX_PARAMETERS] = {{.number = 7}};
  struct tensor *mask = whole(TYPE_REAL, 0, 3, (int64_t[]){0, 1, 0});
  gives("masked_fill", 2, (struct tensor *[]){x, mask}, fill, type, 6, (double[]){1, 7, 3, 100, 7, 6});
  tensor_release(x);
  tensor_release(index);
  tensor_release(mask);
}

static void check_sums_beyond(void) {
  struct tensor *x = whole(TYPE_INT32, 0, 2, (int64_t[]){INT32_MAX, 1});
  refuses("sum", 1, &x, none, "a result is 2147483648, which int32 does not hold");
  tensor_release(x);
}

void test_integers(void) {
  check_arithmetic();
  check_reductions(TYPE_INT32);
  check_reductions(TYPE_UINT8);
  check_sums_beyond();
}
