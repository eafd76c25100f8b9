/* Moving and indexing: what views share and when reshape copies, ranges and their messages, indices that repeat, the
   same sums for any number of threads, and sorting. */
#include <math.h>
#include <string.h>

#include "../../runtime/base/parallel.h"
#include "../../runtime/base/random.h"
#include "../../runtime/ops/op.h"
#include "check.h"

static struct tensor *counting(int64_t rows, int64_t columns) {
  struct shape shape = shape_of(2, rows, columns);
  struct tensor *t = tensor_new(TYPE_REAL, &shape);
  for (int64_t i = 0; i < rows * columns; i++) tensor_real(t)[i] = (real)(i + 1);
  return t;
}

static struct tensor *indices(int count, const int32_t *values) {
  struct shape shape = shape_of(1, (int64_t)count);
  struct tensor *t = tensor_new(TYPE_INT32, &shape);
  memcpy(tensor_int32(t), values, (size_t)count * sizeof *values);
  return t;
}

static struct tensor *run(const char *name, int count, struct tensor *const *input, const struct op_value *given,
                          int values) {
  struct op_value all[OP_MAX_PARAMETERS] = {0};
  memcpy(all, given, (size_t)values * sizeof *given);
  return op_run(op_find(name), count, input, all);
}

/* The op refuses, and its message has the text. */
static void refuses(const char *name, int count, struct tensor *const *input, const struct op_value *given, int values,
                    const char *text) {
  struct tensor *result = run(name, count, input, given, values);
  CHECK(!result && check_message_has(text), "%s: \"%s\" instead of \"%s\"", name, result ? "runs" : status_message(),
        text);
  tensor_release(result);
}

static void values_are(const char *what, struct tensor *t, int count, const double *expected) {
  if (!CHECK(t && tensor_count(t) == count, "%s: %s", what, t ? shape_text(&t->shape) : status_message())) return;
  struct tensor *flat = tensor_contiguous(t);
  for (int i = 0; i < count; i++) {
    double value = flat->type == TYPE_INT32 ? tensor_int32(flat)[i] : (double)tensor_real(flat)[i];
    CHECK(value == expected[i], "%s: element %d is %g instead of %g", what, i + 1, value, expected[i]);
  }
  tensor_release(flat);
}

static void check_views(void) {
  struct tensor *x = counting(3, 4), *turned = tensor_transpose(x, 0, 1);
  struct op_value flat = {.count = 1, .list = {-1}};
  struct tensor *view = run("view", 1, &x, &flat, 1), *copy = run("reshape", 1, &turned, &flat, 1);
  CHECK(view && view->storage == x->storage, "%s", "view does not share memory");
  CHECK(copy && copy->storage != x->storage, "%s", "reshape of a transposed matrix shares memory");
  values_are("reshape", copy, 12, (double[]){1, 5, 9, 2, 6, 10, 3, 7, 11, 4, 8, 12});
  refuses("view", 1, &turned, &flat, 1, "use reshape");
  tensor_release(view);
  tensor_release(copy);
  refuses("reshape", 1, &x, &(struct op_value){.count = 2, .list = {5, -1}}, 1, "(3×4) has 12 elements");
  refuses("reshape", 1, &x, &(struct op_value){.count = 2, .list = {-1, -1}}, 1, "only one can be what is left");
  refuses("permute", 1, &x, &(struct op_value){.count = 2, .list = {1, 1}}, 1, "dimension 2 is given twice");
  refuses("expand", 1, &x, &(struct op_value){.count = 2, .list = {6, 4}}, 1, "(3×4) does not broadcast to (6×4)");
  /* start and index count from 1, as the user writes them. */
  struct op_value part[4] = {{.list = {1}}, {.list = {2}}, {.list = {2}}, {.list = {2}}};
  struct tensor *narrow = run("narrow", 1, &x, part, 4);
  values_are("narrow", narrow, 6, (double[]){2, 4, 6, 8, 10, 12});
  tensor_release(narrow);
  part[2].list[0] = 3;
  refuses("narrow", 1, &x, part, 4, "dimension 2 goes from 1 to 4");
  part[1].list[0] = 0;
  refuses("narrow", 1, &x, part, 4, "start 0 is out of range: dimension 2 goes from 1 to 4");
  part[1].list[0] = 5;
  refuses("select", 1, &x, part, 2, "index 5 is out of range: dimension 2 goes from 1 to 4");
  part[1].list[0] = -1;
  struct tensor *last = run("select", 1, &x, part, 2);
  values_are("select", last, 3, (double[]){4, 8, 12});
  tensor_release(last);
  tensor_release(turned);
  tensor_release(x);
}

static void check_arrange(void) {
  struct tensor *x = counting(2, 2), *wide = counting(2, 3);
  struct tensor *both[2] = {x, wide};
  struct tensor *cat = run("cat", 2, both, &(struct op_value){.list = {1}}, 1);
  values_are("cat", cat, 10, (double[]){1, 2, 1, 2, 3, 3, 4, 4, 5, 6});
  refuses("cat", 2, both, &(struct op_value){.list = {0}}, 1, "tensor 2 does not fit the first: (2×3) and (2×2)");
  refuses("stack", 2, both, &(struct op_value){.list = {0}}, 1, "tensor 2 is (2×3), the first (2×2)");
  refuses("cat", 0, both, &(struct op_value){.list = {0}}, 1, "the list of tensors is empty");
  struct tensor *flip = run("flip", 1, &x, &(struct op_value){.count = 1, .list = {1}}, 1);
  values_are("flip", flip, 4, (double[]){2, 1, 4, 3});
  struct tensor *tile = run("tile", 1, &x, &(struct op_value){.count = 2, .list = {2, 2}}, 1);
  values_are("tile", tile, 16, (double[]){1, 2, 1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4});
  struct op_value pad[2] = {{.count = 4, .list = {1, 0, 0, 1}}, {.number = 9}};
  struct tensor *padded = run("pad", 1, &x, pad, 2);
  values_are("pad", padded, 9, (double[]){9, 1, 2, 9, 3, 4, 9, 9, 9});
  struct tensor *lower = run("tril", 1, &x, &(struct op_value){.list = {0}}, 1);
  values_are("tril", lower, 4, (double[]){1, 0, 3, 4});
  struct tensor *upper = run("triu", 1, &x, &(struct op_value){.list = {1}}, 1);
  values_are("triu", upper, 4, (double[]){0, 2, 0, 0});
  struct tensor *made[] = {cat, flip, tile, padded, lower, upper, x, wide};
  for (int i = 0; i < 8; i++) tensor_release(made[i]);
}

static void check_indices(void) {
  struct tensor *x = counting(3, 2), *list = indices(4, (int32_t[]){3, 1, 3, 3});
  struct tensor *input[2] = {x, list};
  struct op_value first = {.list = {0}};
  struct tensor *rows = run("index_select", 2, input, &first, 1);
  values_are("index_select", rows, 8, (double[]){5, 6, 1, 2, 5, 6, 5, 6});
  struct tensor *zeros = tensor_zeros(TYPE_REAL, &x->shape);
  struct shape tall = shape_of(2, (int64_t)4, (int64_t)1), both = shape_of(2, (int64_t)4, (int64_t)2);
  struct tensor *column = tensor_view_shape(list, &tall), *wide = tensor_expand(column, &both);
  struct tensor *sums = run("scatter_add", 3, (struct tensor *[]){zeros, wide, rows}, &first, 1);
  values_are("scatter_add of repeated indices", sums, 6, (double[]){1, 2, 0, 0, 15, 18});
  struct tensor *hot = run("one_hot", 1, &list, &(struct op_value){.list = {3}}, 1);
  values_are("one_hot", hot, 12, (double[]){0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1});
  tensor_int32(list)[2] = 4;
  refuses("index_select", 2, input, &first, 1, "index 4 at (3) is out of range: 1 to 3");
  refuses("gather", 2, (struct tensor *[]){x, wide}, &first, 1, "index 4 at (3, 1) is out of range: 1 to 3");
  refuses("one_hot", 1, &list, &(struct op_value){.list = {3}}, 1, "index 4 at (3) is out of range: 1 to 3");
  tensor_int32(list)[2] = 0;
  refuses("index_select", 2, input, &first, 1, "index 0 at (3) is out of range: 1 to 3");
  struct tensor *made[] = {x, list, rows, zeros, column, wide, sums, hot};
  for (int i = 0; i < 8; i++) tensor_release(made[i]);
}

/* Rows of a table's gradient that many indices share: the same to the last bit for any number of threads. */
static void check_shared_rows(void) {
  enum { ENTRIES = 7, WIDTH = 64, COUNT = 5000 };
  struct shape weight_shape = shape_of(2, (int64_t)ENTRIES, (int64_t)WIDTH), list_shape = shape_of(1, (int64_t)COUNT);
  struct tensor *weight = tensor_zeros(TYPE_REAL, &weight_shape), *list = tensor_new(TYPE_INT32, &list_shape);
  for (int i = 0; i < COUNT; i++) tensor_int32(list)[i] = 1 + i * i % ENTRIES;
  struct op_call call = {.op = op_find("index_select"), .input_count = 2, .input = (struct tensor *[]){weight, list}};
  if (!CHECK(op_call_forward(&call) == STATUS_OK, "index_select: %s", status_message())) return;
  struct tensor *gradient = tensor_new(TYPE_REAL, &call.output->shape), *result[2][2] = {{NULL}};
  random_fill_normal((struct random_stream){5, 5}, tensor_real(gradient), tensor_count(gradient));
  bool needed[2] = {true, false};
  int threads = parallel_threads();
  for (int k = 0; k < 2; k++) {
    parallel_set_threads(1 + 2 * k);
    CHECK(call.op->vjp(&call, gradient, needed, result[k]) == STATUS_OK, "index_select: %s", status_message());
  }
  parallel_set_threads(threads);
  if (result[0][0] && result[1][0]) {
    CHECK(memcmp(tensor_real(result[0][0]), tensor_real(result[1][0]), ENTRIES * WIDTH * sizeof(real)) == 0, "%s",
          "a table's gradient is another with 3 threads");
    double sum = 0;
    for (int i = 0; i < COUNT; i++)
      if (tensor_int32(list)[i] == 2) sum += (double)tensor_real(gradient)[i * WIDTH];
    double got = (double)tensor_real(result[0][0])[WIDTH];
    CHECK(fabs(got - sum) < 1e-3, "the gradient of entry 2 is %g instead of %g", got, sum);
  }
  for (int k = 0; k < 2; k++) tensor_release(result[k][0]);
  tensor_release(call.output);
  tensor_release(gradient);
  tensor_release(weight);
  tensor_release(list);
}

static void check_sorting(void) {
  struct shape shape = shape_of(1, (int64_t)6);
  struct tensor *x = tensor_new(TYPE_REAL, &shape);
  const double values[] = {3, NAN, 1, 3, -2, 0};
  for (int i = 0; i < 6; i++) tensor_real(x)[i] = (real)values[i];
  struct op_value given[3] = {{.list = {-1}}, {.list = {0}}, {.list = {-1}}};
  struct tensor *up = run("argsort", 1, &x, given, 3);
  values_are("argsort", up, 6, (double[]){5, 6, 3, 1, 4, 2});
  given[1].list[0] = 1;
  struct tensor *down = run("argsort", 1, &x, given, 3);
  values_are("argsort descending", down, 6, (double[]){2, 1, 4, 3, 6, 5});
  tensor_release(up);
  tensor_release(down);
  tensor_release(x);
}

void test_move(void) {
  check_views();
  check_arrange();
  check_indices();
  check_shared_rows();
  check_sorting();
}
