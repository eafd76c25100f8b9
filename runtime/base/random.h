/* Random numbers by counter (Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as
   1, 2, 3", SC 2011; Random123). Number i of a stream is a function of (seed, stream, i) alone, so a
   fill is the same for any number of threads. The generator hands every caller a fresh stream. */
#ifndef GLS_BASE_RANDOM_H
#define GLS_BASE_RANDOM_H

#include <stdint.h>

#include "real.h"

struct random_stream {
  uint64_t seed, stream;
};

/* The process's generator. Its whole state is (seed, streams handed out). */
void random_seed(uint64_t seed);
void random_get_state(uint64_t *seed, uint64_t *next_stream);
void random_set_state(uint64_t seed, uint64_t next_stream);
struct random_stream random_next_stream(void);

/* Four 32-bit words for counter i. */
void random_block(struct random_stream stream, uint64_t i, uint32_t word[4]);

/* out[0..count): uniform on [0, 1), standard normal (Box-Muller), or the permutation of
   0..count-1. Parallel, and independent of the number of threads. */
void random_fill_uniform(struct random_stream stream, real *out, int64_t count);
void random_fill_normal(struct random_stream stream, real *out, int64_t count);
void random_permutation(struct random_stream stream, int32_t *out, int64_t count);

#endif
