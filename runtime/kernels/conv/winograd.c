/* Convolution by Winograd's minimal filtering (transform.h), for kernels of 3×3 and 5×5 at stride 1: tiles of 4×4
   outputs, 36 or 64 products for each where the plain sum has 144 or 400.

   A thread takes a chunk of rows of tiles at a time, so that its transforms stay in its L2 cache:
   1. input transform: the tiles of the inputs become points × channels × tiles (a vector holds channels of one tile);
   2. at each point a matrix product, (tiles × channels) · (channels × outputs), its sums in registers;
   3. output transform: points become 4×4 outputs, and are transposed to planes.
   The gradient of the data is the same with the filter rotated by half a turn. For the gradient of the weight
   (winograd_weight.c) the products are (channels × tiles) · (tiles × outputs).

   An infinity or NaN in the inputs makes NaN of all outputs of the tiles that see it.

   The rows that keep it beside direct.c, single thread: conv2d 50×32×16×16, 64 of 5×5, forward in 0.38 of its time;
   128×32×16×16, 32 of 3×3, 0.68; 128×64×8×8, 64 of 3×3, 0.56; 128×16×32×32, 16 of 3×3, 0.86. Stride 2 as four filters
   of stride 1 was slower than direct.c in both rows that have it. */
#include "winograd.h"

#include <string.h>

#include "../../base/memory.h"

/* ---- products ---- */

/* to (tiles × WINOGRAD_MICRO_COLUMNS) = Σ over channels of the transformed inputs · the transformed filters */
VECTOR_INLINE void multiply(const int rows, const int vectors, real *to, const real *inputs, const real *filters,
                            const struct winograd *plan) {
  vector sum[WINOGRAD_MICRO_ROWS][2];
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = (vector){0};
  for (int64_t c = 0; c < plan->channels; c += VECTOR_LANES, inputs += plan->input_block) {
    int64_t steps = min(VECTOR_LANES, plan->channels - c);
    winograd_multiply(rows, vectors, sum, inputs, VECTOR_LANES, 1, filters, steps);
    filters += steps * WINOGRAD_MICRO_COLUMNS;
  }
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) *(vector *)(to + i * WINOGRAD_MICRO_COLUMNS + j * VECTOR_LANES) = sum[i][j];
  }
}

typedef void multiply_rows(real *to, const real *inputs, const real *filters, const struct winograd *plan);

#define EACH_ROWS(use) use(2) use(4) use(6) use(8) use(10) use(12) use(14)
#define MULTIPLY(rows)                                                                                              \
  static void multiply_one_##rows(real *to, const real *inputs, const real *filters, const struct winograd *plan) { \
    multiply(rows <= WINOGRAD_MICRO_ROWS ? rows : 2, 1, to, inputs, filters, plan);                                 \
  }                                                                                                                 \
  static void multiply_two_##rows(real *to, const real *inputs, const real *filters, const struct winograd *plan) { \
    multiply(rows <= WINOGRAD_MICRO_ROWS ? rows : 2, 2, to, inputs, filters, plan);                                 \
  }
EACH_ROWS(MULTIPLY)

#define MULTIPLY_ENTRY(rows) {multiply_one_##rows, multiply_two_##rows},
/* By half the rows less 1, and by vectors less 1. */
static multiply_rows *const multiply_by_rows[][2] = {EACH_ROWS(MULTIPLY_ENTRY)};

/* scratch->products = at every point, tiles × a panel of outputs; filters: the panel's. */
static void multiply_panel(const struct winograd_scratch *scratch, const struct winograd *plan, const real *filters,
                           int vectors, int64_t tiles) {
  int64_t micro_tiles = ceil_div(tiles, WINOGRAD_MICRO_ROWS);
  for (int64_t point = 0; point < plan->points * plan->points; point++)
    for (int64_t i = 0, at = 0; i < micro_tiles; i++) {
      int64_t rows = round_up(ceil_div(tiles - at, micro_tiles - i), 2);
      multiply_by_rows[rows / 2 - 1][vectors - 1](
          scratch->products + point * plan->product_point + at * WINOGRAD_MICRO_COLUMNS,
          scratch->inputs + point * plan->input_point + at * VECTOR_LANES, filters + point * plan->filter_point, plan);
      at += rows;
    }
}

/* ---- output transform ---- */

/* The tiles of a band, of one vector of outputs, into the planes; products: of that vector. */
static void transform_band(const struct winograd_scratch *scratch, const struct winograd *plan,
                           const struct winograd_band *band, real *products, vector bias) {
  int64_t pitch = plan->tiles * WINOGRAD_TILE;
  for (int64_t r = 0; r < band->rows; r++)
    for (int64_t t = 0; t < plan->tiles; t++) {
      struct transform_square to = {scratch->planes + (r * pitch + t) * WINOGRAD_TILE * VECTOR_LANES,
                                    pitch * VECTOR_LANES, VECTOR_LANES};
      struct transform_square from = {products + (band->tile + r * plan->tiles + t) * WINOGRAD_MICRO_COLUMNS,
                                      plan->points * plan->product_point, plan->product_point};
      transform_both_ways(TRANSFORM_OUTPUT, plan->points, to, from, bias);
    }
}

/* A band of the result from the planes; result: the image of the vector's first output. */
static void write_band(real *result, const struct winograd *plan, const struct winograd_scratch *scratch,
                       const struct winograd_band *band, int64_t outputs) {
  int64_t pitch = plan->tiles * WINOGRAD_TILE, area = plan->rows * plan->columns, first = band->row * WINOGRAD_TILE;
  int64_t count = min(band->rows * WINOGRAD_TILE, plan->rows - first);
  real *to = result + first * plan->columns;
  if (pitch == plan->columns)
    vector_transpose_matrix(to, area, scratch->planes, VECTOR_LANES, count * pitch, outputs);
  else
    for (int64_t y = 0; y < count; y++)
      vector_transpose_matrix(to + y * plan->columns, area, scratch->planes + y * pitch * VECTOR_LANES, VECTOR_LANES,
                              plan->columns, outputs);
}

/* ---- filter transform ---- */

/* Of one vector of outputs, in filters ([group][panel][point][channel][column]) the first of its points; item: over
   groups, channels and vectors, the last the fastest. */
static real *filter_place(real *filters, const struct winograd *plan, int64_t item) {
  int64_t vectors = 2 * plan->panels, v = item % vectors, channel = item / vectors % plan->channels;
  int64_t group = item / vectors / plan->channels;
  int64_t panel_size = plan->points * plan->points * plan->filter_point;
  return filters + (group * plan->panels + v / 2) * panel_size + channel * WINOGRAD_MICRO_COLUMNS +
         v % 2 * VECTOR_LANES;
}

static void transform_filters(real *filters, const struct winograd *plan, const real *weight) {
  int side = plan->points - WINOGRAD_TILE + 1, taps = side * side;
  int64_t vectors = 2 * plan->panels, items = plan->groups * plan->channels * vectors;
#pragma omp parallel for if (items * taps > 512)
  for (int64_t item = 0; item < items; item++) {
    int64_t v = item % vectors, c = item / vectors % plan->channels, group = item / vectors / plan->channels;
    int64_t output = v * VECTOR_LANES, valid = min(VECTOR_LANES, plan->outputs - output);
    const real *from = weight + group * plan->weight_group + c * plan->weight_channel + output * plan->weight_output;
    const real *next = filter_place(filters, plan, min(item + 1, items - 1));
    for (int i = 0; i < plan->points * plan->points; i++) __builtin_prefetch(next + i * plan->filter_point, 1, 3);
    vector filter[TRANSFORM_MOST_TAPS * TRANSFORM_MOST_TAPS];
    memset(filter, 0, sizeof filter);
    real *values = (real *)filter;
    for (int64_t lane = 0; lane < valid; lane++, from += plan->weight_output)
      for (int t = 0; t < taps; t++) values[t * VECTOR_LANES + lane] = from[winograd_tap(plan, t)];
    struct transform_square to = {filter_place(filters, plan, item), plan->points * plan->filter_point,
                                  plan->filter_point};
    transform_both_ways(TRANSFORM_FILTER, plan->points, to,
                        (struct transform_square){values, side * VECTOR_LANES, VECTOR_LANES}, (vector){0});
  }
}

/* ---- forward, and the gradient of the data ---- */

/* Rows start to end − 1 of tiles of one group's images; filters, bias: the group's. */
static void apply_chunk(real *result, const real *source, const real *filters, const real *bias,
                        const struct winograd *plan, const struct winograd_scratch *scratch, int64_t group,
                        int64_t start, int64_t end) {
  int64_t source_size = plan->channels * plan->height * plan->width, area = plan->rows * plan->columns;
  struct winograd_band band;
  for (int64_t row = start; row < end; row += band.rows) {
    band = winograd_band(plan, start, row, end);
    winograd_transform_input(scratch, plan, &band, source + (band.image * plan->groups + group) * source_size);
  }
  for (int64_t panel = 0; panel < plan->panels; panel++) {
    int vectors = winograd_panel_vectors(plan, panel);
    multiply_panel(scratch, plan, filters + panel * plan->points * plan->points * plan->filter_point, vectors,
                   (end - start) * plan->tiles);
    for (int64_t row = start; row < end; row += band.rows) {
      band = winograd_band(plan, start, row, end);
      for (int v = 0; v < vectors; v++) {
        int64_t output = panel * WINOGRAD_MICRO_COLUMNS + v * VECTOR_LANES;
        int64_t valid = min(VECTOR_LANES, plan->outputs - output);
        vector offset = {0};
        if (bias) memcpy(&offset, bias + output, (size_t)valid * sizeof(real));
        transform_band(scratch, plan, &band, scratch->products + v * VECTOR_LANES, offset);
        write_band(result + ((band.image * plan->groups + group) * plan->outputs + output) * area, plan, scratch, &band,
                   valid);
      }
    }
  }
}

static int winograd_apply(real *result, const real *source, const real *weight, const real *bias,
                          const struct winograd *plan) {
  int threads = parallel_threads();
  int64_t rows = plan->images * plan->tile_rows, chunks = ceil_div(rows, plan->chunk);
  int64_t group_size = plan->panels * plan->points * plan->points * plan->filter_point;
  int64_t each = winograd_scratch(NULL, NULL, plan);
  real *filters = memory_acquire((size_t)(plan->groups * group_size) * sizeof(real));
  real *memory = filters ? memory_acquire((size_t)(threads * each) * sizeof(real)) : NULL;
  if (!memory) {
    memory_release(filters);
    return STATUS_ERROR;
  }
  transform_filters(filters, plan, weight);
#pragma omp parallel num_threads(threads) if (plan->groups * chunks > 1)
  {
    struct winograd_scratch scratch;
    winograd_scratch(&scratch, memory + omp_get_thread_num() * each, plan);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < plan->groups * chunks; item++) {
      int64_t group = item / chunks, start = item % chunks * plan->chunk;
      apply_chunk(result, source, filters + group * group_size, bias ? bias + group * plan->outputs : NULL, plan,
                  &scratch, group, start, min(start + plan->chunk, rows));
    }
  }
  memory_release(memory);
  memory_release(filters);
  return STATUS_OK;
}

int conv_winograd_forward(real *output, const real *x, const real *weight, const real *bias,
                          const struct conv_geometry *geometry) {
  const struct winograd plan = winograd_plan(geometry, false);
  return winograd_apply(output, x, weight, bias, &plan);
}

int conv_winograd_data_gradient(real *dx, const real *gradient, const real *weight, const real *bias,
                                const struct conv_geometry *geometry) {
  const struct winograd plan = winograd_plan(geometry, true);
  return winograd_apply(dx, gradient, weight, bias, &plan);
}
