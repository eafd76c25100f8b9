/* Random numbers by counter, over Random123's Philox4x32-10. */
#include "random.h"

#include <Random123/philox.h>
#include <math.h>

#include "memory.h"
#include "parallel.h"

static uint64_t current_seed = 0, next_stream = 0;

void random_seed(uint64_t seed) { random_set_state(seed, 0); }

void random_get_state(uint64_t *seed, uint64_t *stream) {
  *seed = current_seed;
  *stream = next_stream;
}

void random_set_state(uint64_t seed, uint64_t stream) {
  current_seed = seed;
  next_stream = stream;
}

struct random_stream random_next_stream(void) {
  return (struct random_stream){current_seed, next_stream++};
}

void random_block(struct random_stream stream, uint64_t i, uint32_t word[4]) {
  philox4x32_ctr_t counter = {
      {(uint32_t)i, (uint32_t)(i >> 32), (uint32_t)stream.stream, (uint32_t)(stream.stream >> 32)}};
  philox4x32_key_t key = {{(uint32_t)stream.seed, (uint32_t)(stream.seed >> 32)}};
  philox4x32_ctr_t result = philox4x32(counter, key);
  for (int k = 0; k < 4; k++) word[k] = result.v[k];
}

/* 24 bits: every value is exact in float, and below 1. */
static real unit_interval(uint32_t word) { return (real)(word >> 8) * (real)0x1p-24; }

static void fill_blocks(struct random_stream stream, real *out, int64_t count,
                        void (*convert)(const uint32_t *, real *)) {
  int64_t blocks = (count + 3) / 4;
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < blocks; i++) {
    uint32_t word[4];
    real value[4];
    random_block(stream, (uint64_t)i, word);
    convert(word, value);
    int64_t left = parallel_minimum(4, count - 4 * i);
    for (int64_t k = 0; k < left; k++) out[4 * i + k] = value[k];
  }
}

static void uniform_block(const uint32_t *word, real *value) {
  for (int k = 0; k < 4; k++) value[k] = unit_interval(word[k]);
}

static void normal_block(const uint32_t *word, real *value) {
  for (int k = 0; k < 4; k += 2) {
    double radius = sqrt(-2 * log1p(-(double)unit_interval(word[k])));
    double angle = 2 * M_PI * ((double)word[k + 1] * 0x1p-32);
    value[k] = (real)(radius * cos(angle));
    value[k + 1] = (real)(radius * sin(angle));
  }
}

void random_fill_uniform(struct random_stream stream, real *out, int64_t count) {
  fill_blocks(stream, out, count, uniform_block);
}

void random_fill_normal(struct random_stream stream, real *out, int64_t count) {
  fill_blocks(stream, out, count, normal_block);
}

/* Fisher-Yates; number i of the stream picks the partner of place i. */
void random_permutation(struct random_stream stream, int32_t *out, int64_t count) {
  for (int64_t i = 0; i < count; i++) out[i] = (int32_t)i;
  for (int64_t i = count - 1; i > 0; i--) {
    uint32_t word[4];
    random_block(stream, (uint64_t)i, word);
    uint64_t wide = (uint64_t)word[0] << 32 | word[1];
    int64_t j = (int64_t)((unsigned __int128)wide * (uint64_t)(i + 1) >> 64);
    int32_t other = out[j];
    out[j] = out[i];
    out[i] = other;
  }
}
