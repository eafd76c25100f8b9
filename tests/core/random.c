/* Random numbers: the generator is Philox4x32-10, its numbers are distributed as they should be, and neither depends on
   the number of threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/base/parallel.h"
#include "../../runtime/base/random.h"
#include "check.h"

/* Known answers for philox4x32 with 10 rounds, from the file kat_vectors of the Random123 distribution
   (D. E. Shaw Research): counter, key, result. */
static const uint32_t known[][10] = {{0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                                     {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
                                      0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                                     {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0,
                                      0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};

static uint64_t wide(const uint32_t *low_first) { return low_first[0] | (uint64_t)low_first[1] << 32; }

static void check_known_answers(void) {
  for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) {
    uint32_t word[4];
    struct random_stream stream = {.seed = wide(known[k] + 4), .stream = wide(known[k] + 2)};
    random_block(stream, wide(known[k]), word);
    for (int i = 0; i < 4; i++)
      CHECK(word[i] == known[k][6 + i], "vector %zu: word %d is %08x, should be %08x", k + 1, i, word[i],
            known[k][6 + i]);
  }
}

/* Mean and variance within five standard errors. */
static void check_moments(const char *name, const real *x, int64_t count, double mean, double variance,
                          double fourth_moment) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < count; i++) sum += (double)x[i];
  for (int64_t i = 0; i < count; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
  double n = (double)count, error = 5 * sqrt(variance / n),
         spread = 5 * sqrt((fourth_moment - variance * variance) / n);
  CHECK(fabs(sum / n - mean) < error, "%s: mean is %g", name, sum / n);
  CHECK(fabs(squares / n - variance) < spread, "%s: variance is %g", name, squares / n);
}

enum { COUNT = 200001 };

static void check_fills(void) {
  real *x = malloc(COUNT * sizeof *x), *y = malloc(COUNT * sizeof *y);
  if (!x || !y) abort();
  struct random_stream stream = {7, 3};
  int threads = parallel_threads();
  void (*const fill[])(struct random_stream, real *, int64_t) = {random_fill_uniform, random_fill_normal};
  for (int f = 0; f < 2; f++) {
    const char *name = f ? "normal" : "uniform";
    parallel_set_threads(1);
    fill[f](stream, x, COUNT);
    parallel_set_threads(3);
    fill[f](stream, y, COUNT);
    parallel_set_threads(threads);
    CHECK(memcmp(x, y, COUNT * sizeof *x) == 0, "%s: 3 threads give other numbers than 1", name);
    fill[f](stream, y, 5);
    CHECK(memcmp(x, y, 5 * sizeof *x) == 0, "%s: a short fill is not the start of a long one", name);
    fill[f]((struct random_stream){7, 4}, y, COUNT);
    int64_t equal = 0;
    for (int64_t i = 0; i < COUNT; i++) equal += x[i] == y[i];
    CHECK(equal < 10, "%s: two streams agree in %lld places", name, (long long)equal);
    if (f)
      check_moments(name, x, COUNT, 0, 1, 3);
    else
      check_moments(name, x, COUNT, 0.5, 1.0 / 12, 1.0 / 80);
    int64_t outside = 0;
    for (int64_t i = 0; i < COUNT; i++) outside += f ? !isfinite(x[i]) : !(x[i] >= 0 && x[i] < 1);
    CHECK(outside == 0, "%s: %lld numbers are out of range", name, (long long)outside);
  }
  free(x);
  free(y);
}

static void check_permutation(void) {
  enum { LENGTH = 1000 };
  int32_t order[LENGTH], again[LENGTH];
  bool seen[LENGTH] = {false};
  random_permutation((struct random_stream){1, 2}, order, LENGTH);
  random_permutation((struct random_stream){1, 2}, again, LENGTH);
  int64_t fixed = 0, distinct = 0;
  for (int i = 0; i < LENGTH; i++) {
    bool inside = order[i] >= 0 && order[i] < LENGTH;
    if (inside && !seen[order[i]]) distinct++;
    if (inside) seen[order[i]] = true;
    fixed += order[i] == i;
  }
  CHECK(distinct == LENGTH, "%lld distinct of %d", (long long)distinct, LENGTH);
  CHECK(fixed < 15, "%lld elements stay in place", (long long)fixed);
  CHECK(memcmp(order, again, sizeof order) == 0, "the same stream gives another permutation");
  random_permutation((struct random_stream){1, 2}, order, 1);
  CHECK(order[0] == 0, "the permutation of one element is %d", order[0]);
}

static void check_state(void) {
  uint64_t seed, next;
  random_seed(5);
  struct random_stream first = random_next_stream();
  random_get_state(&seed, &next);
  struct random_stream second = random_next_stream();
  random_set_state(seed, next);
  struct random_stream repeated = random_next_stream();
  CHECK(first.seed == 5 && first.stream != second.stream, "streams follow each other");
  CHECK(second.seed == repeated.seed && second.stream == repeated.stream, "a restored state goes on where it was");
  random_seed(5);
  CHECK(random_next_stream().stream == first.stream, "a seed starts from the beginning");
}

void test_random(void) {
  check_known_answers();
  check_fills();
  check_permutation();
  check_state();
}
