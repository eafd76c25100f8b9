/* Random numbers by counter, over Random123's Philox4x32-10. */
#include "random.h"

#include <Random123/philox.h>
#include <string.h>

#include "parallel.h"
#include "vector_math.h"

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

/* Numbers are made so many at a time, the last ones too, so that their vectors are cut alike for any count. */
enum { CHUNK = 256 };

static void uniform_chunk(struct random_stream stream, int64_t chunk, real *out) {
  for (int i = 0; i < CHUNK / 4; i++) {
    uint32_t word[4];
    random_block(stream, (uint64_t)(chunk * (CHUNK / 4) + i), word);
    for (int k = 0; k < 4; k++) out[4 * i + k] = unit_interval(word[k]);
  }
}

/* Two of a pair of words: Box and Muller, "A note on the generation of random normal deviates", 1958. */
static void normal_chunk(struct random_stream stream, int64_t chunk, real *out) {
  double distance[CHUNK / 2], turn[CHUNK / 2];
  for (int i = 0; i < CHUNK / 4; i++) {
    uint32_t word[4];
    random_block(stream, (uint64_t)(chunk * (CHUNK / 4) + i), word);
    for (int k = 0; k < 2; k++) {
      distance[2 * i + k] = (double)unit_interval(word[2 * k]);
      turn[2 * i + k] = (double)word[2 * k + 1] * 0x1p-32;
    }
  }
#pragma omp simd
  for (int i = 0; i < CHUNK / 2; i++) distance[i] = sqrt(-2 * log1p(-distance[i]));
#pragma omp simd
  for (int i = 0; i < CHUNK / 2; i++) out[2 * i] = (real)(distance[i] * cos(2 * M_PI * turn[i]));
#pragma omp simd
  for (int i = 0; i < CHUNK / 2; i++) out[2 * i + 1] = (real)(distance[i] * sin(2 * M_PI * turn[i]));
}

static void fill(struct random_stream stream, real *out, int64_t count,
                 void (*make)(struct random_stream, int64_t, real *)) {
  int64_t chunks = ceil_div(count, CHUNK);
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    int64_t left = min(CHUNK, count - chunk * CHUNK);
    real last[CHUNK];
    make(stream, chunk, left == CHUNK ? out + chunk * CHUNK : last);
    if (left < CHUNK) memcpy(out + chunk * CHUNK, last, (size_t)left * sizeof(real));
  }
}

void random_fill_uniform(struct random_stream stream, real *out, int64_t count) {
  fill(stream, out, count, uniform_chunk);
}

void random_fill_normal(struct random_stream stream, real *out, int64_t count) {
  fill(stream, out, count, normal_chunk);
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
