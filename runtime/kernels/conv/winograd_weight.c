/* Winograd's filtering, the gradient of the weight: products summed over all tiles, in blocks whose number depends on
   the shapes alone, each collected once. */
#include <string.h>

#include "../../base/memory.h"
#include "winograd.h"

/* to (channels × PAIR) += Σ over tiles of the spread inputs · the spread gradient */
VECTOR_INLINE void multiply_weight(const int vectors, real *to, const real *left, const real *right, int64_t tiles) {
  vector sum[WEIGHT_ROWS][2];
#pragma GCC unroll 8
  for (int i = 0; i < WEIGHT_ROWS; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) sum[i][j] = *(const vector *)(to + i * PAIR + j * LANES);
  }
  multiply(WEIGHT_ROWS, vectors, sum, left, 1, LANES, right, tiles);
#pragma GCC unroll 8
  for (int i = 0; i < WEIGHT_ROWS; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) *(vector *)(to + i * PAIR + j * LANES) = sum[i][j];
  }
}

static void multiply_weight_one(real *to, const real *left, const real *right, int64_t tiles) {
  multiply_weight(1, to, left, right, tiles);
}
static void multiply_weight_two(real *to, const real *left, const real *right, int64_t tiles) {
  multiply_weight(2, to, left, right, tiles);
}

/* Sums of one block: [pair][point][part][channel][PAIR]. */
static int64_t weight_point(const struct winograd *plan) { return plan->parts * plan->blocks * LANES * PAIR; }

static void weight_products(real *sums, const struct winograd *plan, const struct scratch *scratch, int vectors,
                            int64_t tiles) {
  for (int64_t point = 0; point < plan->points * plan->points; point++) {
    struct parts parts = winograd_parts(plan, point);
    const real *right = scratch->right + point * plan->sums_point;
    for (int64_t part = parts.first; part < parts.end; part++)
      for (int64_t c = 0; c < plan->channels; c += WEIGHT_ROWS) {
        int64_t block = part * plan->blocks + c / LANES;
        real *to = sums + point * weight_point(plan) + (block * LANES + c % LANES) * PAIR;
        const real *left = scratch->data + point * plan->data_point + block * plan->data_block + c % LANES;
        (vectors == 1 ? multiply_weight_one : multiply_weight_two)(to, left, right, tiles);
      }
  }
}

/* sums += what rows of tiles start to end − 1 of one group give. */
static void weight_chunk(real *sums, const struct winograd *plan, const struct scratch *scratch, const real *gradient,
                         const real *x, int64_t group, int64_t start, int64_t end) {
  int64_t source = plan->channels * plan->height * plan->width, area = plan->rows * plan->columns;
  int64_t pair_size = plan->points * plan->points * weight_point(plan);
  struct run run;
  for (int64_t unit = start; unit < end; unit += run.rows) {
    run = winograd_run(plan, start, unit, end);
    winograd_spread_data(plan, scratch, &run, x + (run.image * plan->groups + group) * source, 0);
  }
  for (int64_t pair = 0; pair < plan->pairs; pair++) {
    int vectors = winograd_pair_vectors(plan, pair);
    for (int64_t unit = start; unit < end; unit += run.rows) {
      run = winograd_run(plan, start, unit, end);
      for (int v = 0; v < vectors; v++) {
        int64_t output = pair * PAIR + v * LANES;
        winograd_spread_gradient(scratch->right + v * LANES, plan, scratch, &run,
                                 gradient + ((run.image * plan->groups + group) * plan->outputs + output) * area,
                                 min(LANES, plan->outputs - output));
      }
    }
    weight_products(sums + pair * pair_size, plan, scratch, vectors, (end - start) * plan->tiles);
  }
}

/* dweight of one part, one channel and one vector of outputs = the sums of all blocks, collected. */
static void weight_collect(real *dweight, const struct winograd *plan, const real *sums, int64_t block_size,
                           int64_t blocks, int64_t part, int64_t channel, int64_t v) {
  int64_t points = plan->points * plan->points;
  int size = plan->points - TILE + 1;
  const real *from = sums + v / 2 * points * weight_point(plan);
  from += (part * plan->blocks * LANES + channel) * PAIR + v % 2 * LANES;
  vector sum[TRANSFORM_MOST_POINTS * TRANSFORM_MOST_POINTS], kernel[TRANSFORM_MOST_KERNEL * TRANSFORM_MOST_KERNEL];
  for (int64_t p = 0; p < points; p++) {
    sum[p] = *(const vector *)(from + p * weight_point(plan));
    for (int64_t b = 1; b < blocks; b++) sum[p] += *(const vector *)(from + b * block_size + p * weight_point(plan));
  }
  struct transform_square to = {(real *)kernel, size * LANES, LANES}, all = {(real *)sum, plan->points * LANES, LANES};
  if (plan->points == 5)
    transform_both_ways(TRANSFORM_KERNEL_SUMS, 5, 2, 5, to, all, (vector){0});
  else if (plan->points == 6)
    transform_both_ways(TRANSFORM_KERNEL_SUMS, 6, 3, 6, to, all, (vector){0});
  else
    transform_both_ways(TRANSFORM_KERNEL_SUMS, 8, 5, 8, to, all, (vector){0});
  const real *values = (const real *)kernel;
  int64_t valid = min(LANES, plan->outputs - v * LANES);
  for (int t = 0; t < size * size; t++) {
    int tap = winograd_tap(plan, winograd_part_phase(plan, part), t);
    real *tap_at = dweight + v * LANES * plan->weight_output + channel * plan->weight_channel + tap;
    for (int64_t lane = 0; lane < valid && tap >= 0; lane++)
      tap_at[lane * plan->weight_output] = values[t * LANES + lane];
  }
}

int conv_winograd_weight_gradient(real *dweight, const real *gradient, const real *x,
                                  const struct conv_geometry *geometry) {
  struct winograd plan = winograd_plan(geometry, false, 1);
  winograd_chunk(&plan);
  int threads = parallel_threads();
  int64_t units = plan.images * plan.tile_rows, points = plan.points * plan.points, groups = plan.groups;
  int64_t group_size = plan.pairs * points * weight_point(&plan), block_size = groups * group_size;
  int64_t blocks = min(MOST_BLOCKS, MOST_SUMS / (block_size * (int64_t)sizeof(real)));
  blocks = min(blocks, units * plan.tiles / BLOCK_TILES);
  blocks = min(max(blocks, 2), units);
  int64_t each = winograd_scratch(NULL, NULL, &plan);
  real *sums = memory_acquire((size_t)(blocks * block_size) * sizeof(real));
  real *memory = sums ? memory_acquire((size_t)(threads * each) * sizeof(real)) : NULL;
  if (!memory) {
    memory_release(sums);
    return STATUS_ERROR;
  }
#pragma omp parallel num_threads(threads) if (units * groups > 1)
  {
    struct scratch scratch;
    winograd_scratch(&scratch, memory + omp_get_thread_num() * each, &plan);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < blocks * groups; item++) {
      int64_t block = item / groups, group = item % groups;
      real *to = sums + block * block_size + group * group_size;
      memset(to, 0, (size_t)group_size * sizeof(real));
      int64_t last = (block + 1) * units / blocks;
      for (int64_t start = block * units / blocks, end; start < last; start = end) {
        end = min(start + plan.chunk, last);
        weight_chunk(to, &plan, &scratch, gradient, x, group, start, end);
      }
    }
    int64_t vectors = ceil_div(plan.outputs, LANES);
#pragma omp for schedule(static)
    for (int64_t item = 0; item < groups * plan.channels * vectors; item++) {
      int64_t group = item / vectors / plan.channels, channel = item / vectors % plan.channels;
      for (int64_t part = 0; part < plan.parts; part++)
        weight_collect(dweight + group * plan.weight_group, &plan, sums + group * group_size, block_size, blocks, part,
                       channel, item % vectors);
    }
  }
  memory_release(memory);
  memory_release(sums);
  return STATUS_OK;
}
