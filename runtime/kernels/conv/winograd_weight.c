/* Winograd's filtering: the gradient of the weight. At each point it is a matrix product, (channels × tiles) · (tiles ×
   outputs), summed over all tiles in blocks whose number depends on the shapes alone; the adjoint filter transform
   makes the gradient of each sum, once.
   The row that keeps it beside weight.c: conv2d 50×32×16×16, 64 of 5×5, in 0.39 of its time. */
#include <string.h>

#include "../../base/memory.h"
#include "winograd.h"

enum {
  MICRO_ROWS = VECTOR_SUMS / 2 < VECTOR_LANES ? VECTOR_SUMS / 2 : VECTOR_LANES, /* of a micro-tile: channels */
  BLOCK_TILES = 128,                                                            /* least of a block */
  MOST_BLOCKS = 16,
  MOST_SUMS = 8 << 20 /* bytes of all blocks' sums; beyond there are fewer blocks */
};

/* to (channels × WINOGRAD_MICRO_COLUMNS) += Σ over tiles of the transformed inputs · the transformed gradient */
VECTOR_INLINE void multiply(const int vectors, real *to, const real *inputs, const real *gradient, int64_t tiles) {
  vector sum[MICRO_ROWS][2];
#pragma GCC unroll 8
  for (int i = 0; i < MICRO_ROWS; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) sum[i][j] = *(const vector *)(to + i * WINOGRAD_MICRO_COLUMNS + j * VECTOR_LANES);
  }
  winograd_multiply(MICRO_ROWS, vectors, sum, inputs, 1, VECTOR_LANES, gradient, tiles);
#pragma GCC unroll 8
  for (int i = 0; i < MICRO_ROWS; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) *(vector *)(to + i * WINOGRAD_MICRO_COLUMNS + j * VECTOR_LANES) = sum[i][j];
  }
}

static void multiply_one(real *to, const real *inputs, const real *gradient, int64_t tiles) {
  multiply(1, to, inputs, gradient, tiles);
}
static void multiply_two(real *to, const real *inputs, const real *gradient, int64_t tiles) {
  multiply(2, to, inputs, gradient, tiles);
}

/* Sums of one block: [group][panel][point][channel][column]; reals from point to point. */
static int64_t sums_point(const struct winograd *plan) { return plan->blocks * VECTOR_LANES * WINOGRAD_MICRO_COLUMNS; }

static void multiply_panel(real *sums, const struct winograd *plan, const struct winograd_scratch *scratch, int vectors,
                           int64_t tiles) {
  for (int64_t point = 0; point < plan->points * plan->points; point++)
    for (int64_t c = 0; c < plan->channels; c += MICRO_ROWS) {
      const real *inputs = scratch->inputs + point * plan->input_point;
      inputs += c / VECTOR_LANES * plan->input_block + c % VECTOR_LANES;
      (vectors == 1 ? multiply_one : multiply_two)(sums + point * sums_point(plan) + c * WINOGRAD_MICRO_COLUMNS, inputs,
                                                   scratch->products + point * plan->product_point, tiles);
    }
}

/* sums += what rows of tiles start to end − 1 of one group give. */
static void weight_chunk(real *sums, const struct winograd *plan, const struct winograd_scratch *scratch,
                         const real *gradient, const real *x, int64_t group, int64_t start, int64_t end) {
  int64_t source = plan->channels * plan->height * plan->width, area = plan->rows * plan->columns;
  int64_t panel_size = plan->points * plan->points * sums_point(plan);
  struct winograd_band band;
  for (int64_t row = start; row < end; row += band.rows) {
    band = winograd_band(plan, start, row, end);
    winograd_transform_input(scratch, plan, &band, x + (band.image * plan->groups + group) * source);
  }
  for (int64_t panel = 0; panel < plan->panels; panel++) {
    int vectors = winograd_panel_vectors(plan, panel);
    for (int64_t row = start; row < end; row += band.rows) {
      band = winograd_band(plan, start, row, end);
      for (int v = 0; v < vectors; v++) {
        int64_t output = panel * WINOGRAD_MICRO_COLUMNS + v * VECTOR_LANES;
        winograd_transform_gradient(scratch->products + v * VECTOR_LANES, plan, scratch, &band,
                                    gradient + ((band.image * plan->groups + group) * plan->outputs + output) * area,
                                    min(VECTOR_LANES, plan->outputs - output));
      }
    }
    multiply_panel(sums + panel * panel_size, plan, scratch, vectors, (end - start) * plan->tiles);
  }
}

/* dweight of one channel and vector of outputs from the sums of all blocks, added up in order. */
static void transform_sums(real *dweight, const struct winograd *plan, const real *sums, int64_t block_size,
                           int64_t blocks, int64_t channel, int64_t v) {
  int points = plan->points * plan->points, side = plan->points - WINOGRAD_TILE + 1;
  const real *from = sums + v / 2 * points * sums_point(plan) + channel * WINOGRAD_MICRO_COLUMNS + v % 2 * VECTOR_LANES;
  vector sum[TRANSFORM_MOST_POINTS * TRANSFORM_MOST_POINTS], filter[TRANSFORM_MOST_TAPS * TRANSFORM_MOST_TAPS];
  for (int64_t p = 0; p < points; p++) {
    sum[p] = *(const vector *)(from + p * sums_point(plan));
    for (int64_t b = 1; b < blocks; b++) sum[p] += *(const vector *)(from + b * block_size + p * sums_point(plan));
  }
  transform_both_ways(TRANSFORM_FILTER_ADJOINT, plan->points,
                      (struct transform_square){(real *)filter, side * VECTOR_LANES, VECTOR_LANES},
                      (struct transform_square){(real *)sum, plan->points * VECTOR_LANES, VECTOR_LANES}, (vector){0});
  const real *values = (const real *)filter;
  real *to = dweight + v * VECTOR_LANES * plan->weight_output + channel * plan->weight_channel;
  for (int64_t lane = 0; lane < min(VECTOR_LANES, plan->outputs - v * VECTOR_LANES); lane++)
    for (int t = 0; t < side * side; t++)
      to[lane * plan->weight_output + winograd_tap(plan, t)] = values[t * VECTOR_LANES + lane];
}

int conv_winograd_weight_gradient(real *dweight, const real *gradient, const real *x,
                                  const struct conv_geometry *geometry) {
  const struct winograd plan = winograd_plan(geometry, false);
  int threads = parallel_threads();
  int64_t rows = plan.images * plan.tile_rows, groups = plan.groups;
  int64_t group_size = plan.panels * plan.points * plan.points * sums_point(&plan), block_size = groups * group_size;
  int64_t blocks = min(MOST_BLOCKS, MOST_SUMS / (block_size * (int64_t)sizeof(real)));
  blocks = min(blocks, rows * plan.tiles / BLOCK_TILES);
  blocks = min(max(blocks, 2), rows);
  int64_t each = winograd_scratch(NULL, NULL, &plan);
  real *sums = memory_acquire((size_t)(blocks * block_size) * sizeof(real));
  real *memory = sums ? memory_acquire((size_t)(threads * each) * sizeof(real)) : NULL;
  if (!memory) {
    memory_release(sums);
    return STATUS_ERROR;
  }
#pragma omp parallel num_threads(threads) if (rows * groups > 1)
  {
    struct winograd_scratch scratch;
    winograd_scratch(&scratch, memory + omp_get_thread_num() * each, &plan);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < blocks * groups; item++) {
      int64_t block = item / groups, group = item % groups;
      real *to = sums + block * block_size + group * group_size;
      memset(to, 0, (size_t)group_size * sizeof(real));
      int64_t last = (block + 1) * rows / blocks;
      for (int64_t start = block * rows / blocks, end; start < last; start = end) {
        end = min(start + plan.chunk, last);
        weight_chunk(to, &plan, &scratch, gradient, x, group, start, end);
      }
    }
    int64_t vectors = ceil_div(plan.outputs, VECTOR_LANES);
#pragma omp for schedule(static)
    for (int64_t item = 0; item < groups * plan.channels * vectors; item++) {
      int64_t group = item / vectors / plan.channels, channel = item / vectors % plan.channels;
      transform_sums(dweight + group * plan.weight_group, &plan, sums + group * group_size, block_size, blocks, channel,
                     item % vectors);
    }
  }
  memory_release(memory);
  memory_release(sums);
  return STATUS_OK;
}
