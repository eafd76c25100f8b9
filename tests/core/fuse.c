/* Fuse: a program of one step against its row, bit by bit where it is one block, over the row's samples; chains against
   differences, with all that gradients.c holds of a row; against the same ops one by one; integers, errors, failing
   allocations. */
#include "../../runtime/fuse/fuse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/base/memory.h"
#include "../../runtime/base/parallel.h"
#include "../../runtime/grad/tape.h"
#include "check.h"
#include "samples.h"

enum { MOST_INPUTS = 3 };
static const enum element_type reals[MOST_INPUTS] = {TYPE_REAL, TYPE_REAL, TYPE_REAL};

/* The same bits, or the same to rounding: beyond one block, where a row is cut decides which elements the library's
   vector functions compute, and which its scalar ones. */
static bool same_values(const struct tensor *a, const struct tensor *b, bool exact) {
  if (!a || !b || !shape_equal(&a->shape, &b->shape)) return false;
  struct tensor *x = tensor_contiguous((struct tensor *)a), *y = tensor_contiguous((struct tensor *)b);
  int64_t different = 0;
  double bound = exact ? 0 : CHECK_IS_DOUBLE ? 1e-13 : 1e-5, largest = 1;
  for (int64_t i = 0; i < tensor_count(x); i++) largest = fmax(largest, fabs((double)tensor_real(y)[i]));
  for (int64_t i = 0; i < tensor_count(x); i++) {
    double p = (double)tensor_real(x)[i], q = (double)tensor_real(y)[i];
    different += p != q && !(isnan(p) && isnan(q)) && !(fabs(p - q) <= bound * largest);
  }
  tensor_release(x);
  tensor_release(y);
  return different == 0;
}

/* ---- one step ---- */

static struct op_call call_of(const struct op *op, const struct sample *sample, struct tensor **input) {
  struct op_call call = {.op = op, .input_count = sample->input_count, .input = input, .differentiable = true};
  memcpy(call.value, sample->value, sizeof call.value);
  for (int i = 0; i < sample->input_count; i++) input[i] = sample->input[i];
  return call;
}

static void release_call(struct op_call *call) {
  tensor_release(call->output);
  for (int i = 0; i < OP_MAX_SAVED; i++) tensor_release(call->saved[i]);
}

static void check_step(const struct op *op, const char *text) {
  struct sample sample;
  if (!CHECK(sample_make(&sample, op, text, 5), "%s: %s", op->name, status_message())) return;
  enum element_type type[MOST_INPUTS];
  for (int i = 0; i < sample.input_count; i++) type[i] = sample.input[i]->type;
  struct fuse *fuse = fuse_new(sample.input_count, type);
  int value;
  const struct op *row = NULL;
  if (fuse_step(fuse, op, sample.input_count, (int[]){0, 1, 2}, sample.value, &value) == STATUS_OK)
    row = fuse_finish(fuse, value);
  if (CHECK(row, "%s: %s", op->name, status_message())) {
    struct tensor *input[SAMPLE_MAX_INPUTS], *other[SAMPLE_MAX_INPUTS];
    struct op_call alone = call_of(op, &sample, input), fused = call_of(row, &sample, other);
    if (CHECK(op_call_forward(&alone) == STATUS_OK && op_call_forward(&fused) == STATUS_OK, "%s \"%s\": %s", op->name,
              text, status_message())) {
      bool exact = tensor_count(alone.output) <= 256;
      CHECK(same_values(alone.output, fused.output, exact), "%s \"%s\": other values when fused", op->name, text);
      struct tensor *gradient = sample_normal(&alone.output->shape, 7), *tangent[MOST_INPUTS] = {0};
      struct tensor *expected[MOST_INPUTS] = {0}, *got[MOST_INPUTS] = {0}, *change = NULL, *fused_change = NULL;
      for (int i = 0; i < sample.input_count; i++)
        if (sample.differentiable[i]) tangent[i] = sample_normal(&sample.input[i]->shape, 8);
      if (op->vjp) {
        CHECK(op->vjp(&alone, gradient, sample.differentiable, expected) == STATUS_OK &&
                  row->vjp(&fused, gradient, sample.differentiable, got) == STATUS_OK &&
                  op->jvp(&alone, tangent, &change) == STATUS_OK &&
                  row->jvp(&fused, tangent, &fused_change) == STATUS_OK,
              "%s \"%s\": %s", op->name, text, status_message());
        for (int i = 0; i < sample.input_count; i++)
          CHECK(!sample.differentiable[i] || same_values(expected[i], got[i], exact),
                "%s \"%s\": other gradient of input %d", op->name, text, i + 1);
        CHECK(same_values(change, fused_change, exact), "%s \"%s\": other tangent", op->name, text);
      }
      for (int i = 0; i < MOST_INPUTS; i++) {
        tensor_release(tangent[i]);
        tensor_release(expected[i]);
        tensor_release(got[i]);
      }
      tensor_release(gradient);
      tensor_release(change);
      tensor_release(fused_change);
    }
    release_call(&alone);
    release_call(&fused);
  }
  fuse_use(fuse, -1);
  sample_release(&sample);
}

/* ---- chains, written as words in reverse Polish: x y z, numbers, names of rows without parameters ---- */

static const struct op *program(const char *text, struct fuse **fuse) {
  int inputs = 0, stack[FUSE_VALUES], depth = 0;
  for (int i = 0; i < MOST_INPUTS; i++)
    if (strchr(text, 'x' + i) && strstr(text, (const char[]){(char)('x' + i), ' ', 0})) inputs = i + 1;
  *fuse = fuse_new(inputs, reals);
  char copy[256], *rest = NULL;
  strncpy(copy, text, sizeof copy - 1);
  copy[sizeof copy - 1] = '\0';
  for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
    const struct op *op = op_find(word);
    if (op) {
      int count = 0;
      while (op->parameter[count].name && op->parameter[count].kind < OP_NUMBER) count++;
      depth -= count;
      if (fuse_step(*fuse, op, count, stack + depth, NULL, stack + depth) != STATUS_OK) return NULL;
    } else if (word[0] >= 'x' && word[0] <= 'z' && !word[1]) {
      stack[depth] = word[0] - 'x';
    } else if (fuse_number(*fuse, strtod(word, NULL), stack + depth) != STATUS_OK) {
      return NULL;
    }
    depth++;
  }
  return fuse_finish(*fuse, stack[0]);
}

static const char *const one_input[] = {"[4x5]", "[131x140]", "[3x130]", "[1]", "[3x0]", "[scalar]", NULL};
static const char *const two_inputs[] = {
    "[4x5 4x5]",      "[4x5 5]",         "[5 4x1]",   "[131x140 140]", "[131x140 131x1]",
    "[3x100 scalar]", "[1 3x4]",         "[1x1 1x1]", "[3x0 1]",       "[2x3x70 3x1]",
    "[2x1x3 5x1]",    "[scalar scalar]", NULL};
static const char *const distinct_inputs[] = {"[distinct:4x5 distinct:4x5]", "[distinct:4x5 distinct:5]",
                                              "[distinct:70 distinct:4x1]",  "[distinct:1 distinct:1]",
                                              "[distinct:3x0 distinct:1]",   NULL};
static const char *const three_inputs[] = {"[4x5 4x5 4x5]", "[3x130 130 3x1]", "[131x140 scalar 1]",
                                           "[1 1 1]",       "[2x0 1 2x1]",     NULL};

static const struct {
  const char *text;
  const char *const *samples;
} chains[] = {
    {"x ", one_input},
    {"x 2 x mul tanh mul sigmoid ", one_input},
    {"x square 1 add sqrt rsqrt exp x sin x cos mul sub ", one_input},
    {"x y mul x add tanh 0.5 mul y sub ", two_inputs},
    {"x y sub x y sub mul y y add add ", two_inputs}, /* a gradient that reaches values by several ways */
    {"y neg x sub neg ", two_inputs},
    {"x y mul x add tanh 0.5 mul y sub relu ", distinct_inputs},
    {"x y gt x square y 3 mul where x y maximum mul x abs add x sign mul ", distinct_inputs},
    {"x softplus y gelu mul z silu y erf add sub x z mul expm1 1e-3 mul add ", three_inputs},
    {"x z mul ", three_inputs}, /* y is not used */
};

/* Many values at once: every step is read again at the end. */
static void check_long_chain(void) {
  struct fuse *fuse = fuse_new(1, reals);
  int value = 0, step[20], sum;
  for (int k = 0; k < 20; k++) {
    CHECK(fuse_step(fuse, op_find(k % 2 ? "tanh" : "sin"), 1, &value, NULL, &step[k]) == STATUS_OK, "%s",
          status_message());
    value = step[k];
  }
  sum = step[19];
  for (int k = 18; k >= 0; k--)
    CHECK(fuse_step(fuse, op_find("add"), 2, (int[]){sum, step[k]}, NULL, &sum) == STATUS_OK, "%s", status_message());
  const struct op *row = fuse_finish(fuse, sum);
  for (int i = 0; one_input[i]; i++) check_row(row, one_input[i], (uint64_t)(40 + i));
  fuse_use(fuse, -1);
}

/* The rows' flags and samples as the tape and gradients.c see them, and large inputs, whose blocks are prefetched. */
static void check_large(void) {
  struct fuse *fuse;
  const struct op *row = program("x y mul x add tanh 0.5 mul y sub relu ", &fuse);
  struct shape shape = shape_of(1, (int64_t)700001);
  struct tensor *input[2] = {sample_normal(&shape, 1), sample_normal(&shape, 2)};
  struct tensor *fused = op_run(row, 2, input, NULL), *half = tensor_scalar((real)0.5);
  struct tensor *product = op_run2("mul", input[0], input[1]), *sum = op_run2("add", product, input[0]);
  struct tensor *curve = op_run1("tanh", sum), *halved = op_run2("mul", curve, half);
  struct tensor *difference = op_run2("sub", halved, input[1]), *expected = op_run1("relu", difference);
  CHECK(same_values(fused, expected, true), "%s", "large inputs: other values than op by op");
  int threads = parallel_threads();
  parallel_set_threads(3);
  struct tensor *again = op_run(row, 2, input, NULL);
  parallel_set_threads(threads);
  CHECK(same_values(fused, again, true), "%s", "large inputs: other values with 3 threads");
  struct tensor *all[] = {input[0], input[1], fused, half, product, sum, curve, halved, difference, expected, again};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) tensor_release(all[i]);
  fuse_use(fuse, -1);
}

/* ---- the rest ---- */

static void check_integers(void) {
  struct fuse *fuse = fuse_new(2, (enum element_type[]){TYPE_UINT8, TYPE_REAL});
  int value;
  CHECK(fuse_step(fuse, op_find("exp"), 1, (int[]){0}, NULL, &value) != STATUS_OK &&
            check_message_has("exp: argument 1 has type uint8"),
        "%s", status_message());
  CHECK(fuse_step(fuse, op_find("eq"), 2, (int[]){0, 0}, NULL, &value) != STATUS_OK &&
            check_message_has("eq of integers alone"),
        "%s", status_message());
  CHECK(fuse_step(fuse, op_find("where"), 3, (int[]){0, 0, 0}, NULL, &value) != STATUS_OK, "%s", "integers chosen");
  int minus;
  CHECK(fuse_step(fuse, op_find("neg"), 1, (int[]){1}, NULL, &minus) == STATUS_OK, "%s", status_message());
  CHECK(fuse_step(fuse, op_find("where"), 3, (int[]){0, 1, minus}, NULL, &value) == STATUS_OK, "%s", status_message());
  struct shape shape = shape_of(1, (int64_t)3);
  struct tensor *mask = tensor_new(TYPE_UINT8, &shape), *x = sample_normal(&shape, 3);
  memcpy(tensor_uint8(mask), (uint8_t[]){0, 1, 200}, 3);
  struct tensor *y = op_run(fuse_finish(fuse, value), 2, (struct tensor *[]){mask, x}, NULL);
  for (int i = 0; y && i < 3; i++)
    CHECK(tensor_real(y)[i] == (i ? tensor_real(x)[i] : -tensor_real(x)[i]), "element %d", i + 1);
  CHECK(y, "%s", status_message());
  tensor_release(mask);
  tensor_release(x);
  tensor_release(y);
  fuse_use(fuse, -1);
}

static void check_fuse_errors(void) {
  CHECK(!fuse_new(0, reals) && check_message_has("0 arguments given: 1 to 16"), "%s", status_message());
  struct fuse *fuse = fuse_new(2, reals);
  int value, number;
  CHECK(fuse_step(fuse, op_find("sum"), 1, (int[]){0}, NULL, &value) != STATUS_OK &&
            check_message_has("sum is not elementwise"),
        "%s", status_message());
  struct op_value limits[OP_MAX_PARAMETERS] = {{.number = 2}, {.number = 1}};
  CHECK(fuse_step(fuse, op_find("clamp"), 1, (int[]){0}, limits, &value) != STATUS_OK &&
            check_message_has("clamp: min 2 is above max 1"),
        "%s", status_message());
  CHECK(fuse_number(fuse, 3, &number) == STATUS_OK && !fuse_finish(fuse, number) &&
            check_message_has("does not depend on any argument"),
        "%s", status_message());
  CHECK(fuse_step(fuse, op_find("add"), 2, (int[]){0, 1}, NULL, &value) == STATUS_OK, "%s", status_message());
  const struct op *row = fuse_finish(fuse, value);
  struct tensor *x = tensor_zeros(TYPE_REAL, &(struct shape){.rank = 2, .size = {2, 3}});
  struct tensor *y = tensor_zeros(TYPE_REAL, &(struct shape){.rank = 1, .size = {4}});
  CHECK(!op_run(row, 2, (struct tensor *[]){x, y}, NULL) &&
            check_message_has("fuse: shapes do not broadcast: (2×3) and (4)"),
        "%s", status_message());
  tensor_release(x);
  tensor_release(y);
  int status = STATUS_OK, steps = 0;
  while (status == STATUS_OK && steps++ < 2 * FUSE_VALUES)
    status = fuse_step(fuse, op_find("neg"), 1, (int[]){value}, NULL, &value);
  CHECK(status != STATUS_OK && check_message_has("more than 64"), "%s", status_message());
  fuse_use(fuse, -1);
}

/* A program goes with the last node that it is in, also when an allocation fails on the way. */
static void check_life(void) {
  struct shape shape = shape_of(2, (int64_t)3, (int64_t)4), narrow = shape_of(1, (int64_t)4);
  struct tensor *x = sample_normal(&shape, 1), *y = sample_normal(&narrow, 2);
  x->requires_gradient = y->requires_gradient = true;
  struct fuse *fuse;
  const struct op *row = program("x y mul x add tanh 0.5 mul y sub relu ", &fuse);
  size_t before = memory_live();
  long n = 0;
  bool done = false;
  while (!done && n++ < 100) {
    memory_fail_at(n);
    struct tensor *z = tape_run(row, 2, (struct tensor *[]){x, y}, NULL), *ones = NULL;
    if (z) ones = tensor_new(TYPE_REAL, &z->shape);
    if (ones) tensor_fill(ones, 1);
    done = ones && tape_backward(z, ones) == STATUS_OK;
    memory_fail_at(0);
    CHECK(done || check_message_has("out of memory"), "%s", status_message());
    CHECK(fuse->references == (z ? 2 : 1), "%d references", fuse->references);
    tensor_release(ones);
    gradient_clear(x);
    gradient_clear(y);
    if (n % 2) tape_release(true); /* before or after the last holder of its output */
    tensor_release(z);
    tape_release(true);
    CHECK(fuse->references == 1, "%d references at the end", fuse->references);
    CHECK(memory_live() == before, "allocation %ld fails: %zu bytes are not released", n, memory_live() - before);
  }
  CHECK(done && n > 8, "%ld allocations", n);
  tensor_release(x);
  tensor_release(y);
  fuse_use(fuse, -1);
}

void test_fuse(void) {
  size_t live = memory_live();
  for (const struct op *op = elementwise_ops; op->name; op++)
    for (int s = 0; op->samples[s]; s++) check_step(op, op->samples[s]);
  for (size_t k = 0; k < sizeof chains / sizeof chains[0]; k++) {
    struct fuse *fuse;
    const struct op *row = program(chains[k].text, &fuse);
    if (CHECK(row, "%s: %s", chains[k].text, status_message()))
      for (int i = 0; chains[k].samples[i]; i++) check_row(row, chains[k].samples[i], 100 * k + (uint64_t)i);
    fuse_use(fuse, -1);
  }
  check_long_chain();
  check_large();
  check_integers();
  check_fuse_errors();
  check_life();
  CHECK(memory_live() == live, "%zu bytes are not released", memory_live() - live);
}
