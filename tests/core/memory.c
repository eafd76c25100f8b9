/* Memory: when any one allocation fails, every op, its recording and its derivatives say so and release what they held.
   The nth allocation is made to fail for all n, until a run needs fewer. The sanitizer build sees the small objects;
   here the bytes in buffers are counted. */
#include "../../runtime/base/memory.h"

#include <stdio.h>
#include <string.h>

#include "../../runtime/grad/tape.h"
#include "check.h"
#include "samples.h"

/* No op needs more; a run that still fails has not noticed the end of the countdown. */
enum { LIMIT = 3000 };

static struct tensor *ones(const struct shape *shape) {
  struct tensor *t = tensor_new(TYPE_REAL, shape);
  if (t) tensor_fill(t, 1);
  return t;
}

static int run_op(const struct sample *sample, struct tensor *seed) {
  (void)seed;
  struct tensor *output = op_run(sample->op, sample->input_count, (struct tensor *const *)sample->input, sample->value);
  tensor_release(output);
  return output ? STATUS_OK : STATUS_ERROR;
}

static int run_tape(const struct sample *sample, struct tensor *seed) {
  struct tensor *output =
      tape_run(sample->op, sample->input_count, (struct tensor *const *)sample->input, sample->value);
  int status = output ? tape_backward(output, seed) : STATUS_ERROR;
  for (int i = 0; i < sample->input_count; i++) {
    struct tensor *dense, *input = sample->input[i];
    if (!input || !input->requires_gradient) continue;
    if (status == STATUS_OK) status = gradient_dense(input, &dense);
    gradient_clear(input);
  }
  tensor_release(output);
  tape_release(true);
  return status;
}

static void check_failures(const struct sample *sample, struct tensor *seed, const char *name,
                           int (*run)(const struct sample *, struct tensor *)) {
  size_t live = memory_live();
  int nodes = node_count();
  if (!CHECK(run(sample, seed) == STATUS_OK, "%s \"%s\": %s: %s", sample->op->name, sample->text, name,
             status_message()))
    return;
  long n = 1;
  for (; n < LIMIT; n++) {
    status_error("nothing was said");
    memory_fail_at(n);
    int status = run(sample, seed);
    memory_fail_at(0);
    if (!CHECK(memory_live() == live, "%s \"%s\": %s: %ld bytes are not released when allocation %ld fails",
               sample->op->name, sample->text, name, (long)(memory_live() - live), n))
      return;
    if (!CHECK(node_count() == nodes, "%s \"%s\": %s: a node stays when allocation %ld fails", sample->op->name,
               sample->text, name, n))
      return;
    if (status == STATUS_OK && !check_message_has("out of memory")) break;
    CHECK(status != STATUS_OK, "%s \"%s\": %s: succeeds although allocation %ld failed", sample->op->name, sample->text,
          name, n);
    CHECK(check_message_has("out of memory"), "%s \"%s\": %s: allocation %ld fails and the message is: %s",
          sample->op->name, sample->text, name, n, status_message());
  }
  CHECK(n > 1 && n < LIMIT, "%s \"%s\": %s: ends after %ld allocations", sample->op->name, sample->text, name, n);
}

static void check_sample(const struct op *op, const char *text) {
  struct sample sample;
  if (!CHECK(sample_make(&sample, op, text, 1), "%s \"%s\": %s", op->name, text, status_message())) return;
  int64_t largest = 0;
  for (int i = 0; i < sample.input_count; i++)
    if (sample.input[i] && tensor_count(sample.input[i]) > largest) largest = tensor_count(sample.input[i]);
  if (largest <= 1000) {
    check_failures(&sample, NULL, "forward", run_op);
    struct tensor *output = op_run(op, sample.input_count, sample.input, sample.value);
    if (output && op->vjp) {
      struct tensor *seed = ones(&output->shape);
      for (int i = 0; i < sample.input_count; i++)
        if (sample.differentiable[i]) sample.input[i]->requires_gradient = true;
      check_failures(&sample, seed, "backward", run_tape);
      tensor_release(seed);
    }
    tensor_release(output);
  }
  sample_release(&sample);
}

/* Three arrays of a layer, acquired one after another, do not begin at the same distance from a page. */
static void check_colours(void) {
  memory_trim();
  char *buffer[3];
  for (int i = 0; i < 3; i++) buffer[i] = memory_acquire(6 << 20);
  for (int i = 0; i < 3; i++) {
    uintptr_t here = (uintptr_t)buffer[i] % 4096, next = (uintptr_t)buffer[(i + 1) % 3] % 4096;
    CHECK((here > next ? here - next : next - here) >= 128, "distances %d and %d", (int)here, (int)next);
    memset(buffer[i], 1, 6 << 20); /* all of it is there */
  }
  for (int i = 0; i < 3; i++) memory_release(buffer[i]);
  memory_trim();
}

/* One buffer in use at a time, of ever larger sizes: no more is kept than half again of what was in use. Three sizes
   in turn, each used alone as a step does: from the second round on no block is new, so none is fetched from the
   system. */
static void check_kept(void) {
  memory_trim();
  size_t largest = 0;
  for (int i = 0; i < 40; i++) {
    size_t size = (size_t)((32 << 20) * (1 + i / 8.0));
    memory_release(memory_acquire(size));
    if (size > largest) largest = size;
    CHECK(memory_cached() <= largest / 8 * 13, "%zu bytes are kept after %zu in use", memory_cached(), largest);
  }
  memory_trim();
  enum { BUFFERS = 6 };
  size_t kept = 0;
  for (int round = 0; round < 20; round++) {
    void *buffer[BUFFERS];
    for (int i = 0; i < BUFFERS; i++) buffer[i] = memory_acquire((size_t)(1 + (i + round) % 3) << 21);
    for (int i = 0; i < BUFFERS; i++) memory_release(buffer[i]);
    CHECK(round == 0 || memory_cached() == kept, "%zu bytes kept in round %d, %zu before", memory_cached(), round,
          kept);
    kept = memory_cached();
  }
  memory_trim();
}

static void check_cache(void) {
  memory_trim();
  size_t live = memory_live();
  CHECK(memory_cached() == 0, "%zu bytes are cached after a trim", memory_cached());
  memory_reset_peak();
  void *buffer = memory_acquire(1 << 20);
  CHECK(buffer && (uintptr_t)buffer % 64 == 0, "a buffer starts at a multiple of 64");
  CHECK(memory_live() >= live + (1 << 20), "live bytes count the buffer");
  memory_release(buffer);
  CHECK(memory_live() == live && memory_cached() >= 1 << 20, "a released buffer is cached");
  CHECK(memory_acquire(1 << 20) == buffer, "the next buffer of the size is the same one");
  memory_release(buffer);
  CHECK(memory_peak() >= live + (1 << 20), "the peak remembers it");
  CHECK(!memory_acquire(SIZE_MAX) && check_message_has("out of memory"), "%s", status_message());
  void *nothing = memory_acquire(0);
  CHECK(nothing, "a buffer of no bytes is one");
  memory_release(nothing);
  size_t product;
  CHECK(!memory_multiply(SIZE_MAX, 2, &product) && memory_multiply(6, 7, &product) && product == 42, "products");
}

void test_memory(void) {
  check_kept();
  check_cache();
  check_colours();
  for (int k = 0; k < op_count(); k++)
    for (const char *const *text = op_at(k)->samples; text && *text; text++)
      if (!sample_is_remark(*text)) check_sample(op_at(k), *text);
}
