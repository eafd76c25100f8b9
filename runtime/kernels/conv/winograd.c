/* Convolution by Winograd's minimal filtering (conv_transform.h), for kernels of 3×3 and 5×5: tiles of 4×4 outputs, 36
   or 64 products for each where the plain sum has 144 or 400.

   A thread takes a few rows of tiles at a time, so that what it spreads stays in its second cache:
   1. spread: the tiles of the inputs become points × channels × tiles (16 channels to a vector);
   2. at each point a matrix product, (tiles × channels) · (channels × outputs), its sums in registers;
   3. collect: points become 4×4 outputs, and are transposed to planes.
   The gradient of the data is the same with the kernel turned round. For the gradient of the weight the output's
   gradient is spread too, the products are (channels × tiles) · (tiles × outputs), and their sums over all tiles are
   collected once, in blocks whose number depends on the shapes alone.

   With steps of 2 a kernel is the sum of four, of its even or odd rows and columns, and each sees the inputs of its
   parity in steps of 1: these phases are more channels, and more outputs where the data's gradient is made. The odd
   ones have a tap less, so that nothing of them is at infinity, and of 3×3 81 products are left, of 5×5 121 (90 and 132
   for the data's gradient, whose outputs go in pairs).

   An infinity or NaN in the inputs makes NaN of all outputs of the tiles that see it. */
#include "winograd.h"

#include <string.h>

#include "../../base/memory.h"

/* ---- products ---- */

/* to (tiles × PAIR) = Σ over channels of the spread inputs · the spread kernel */
VECTOR_INLINE void multiply_data(const int rows, const int vectors, real *to, const real *left, const real *right,
                                 const struct winograd *plan, int64_t parts) {
  vector sum[PANEL_MOST][2];
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = (vector){0};
  for (int64_t part = 0; part < parts; part++)
    for (int64_t c = 0; c < plan->channels; c += LANES, left += plan->data_block) {
      int64_t steps = min(LANES, plan->channels - c);
      multiply(rows, vectors, sum, left, LANES, 1, right, steps);
      right += steps * PAIR;
    }
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) *(vector *)(to + i * PAIR + j * LANES) = sum[i][j];
  }
}

typedef void multiply_of_rows(real *to, const real *left, const real *right, const struct winograd *plan,
                              int64_t parts);

#define EACH_ROWS(use) use(2) use(4) use(6) use(8) use(10) use(12) use(14)
#define MULTIPLY(rows)                                                                                     \
  static void multiply_one_##rows(real *to, const real *left, const real *right, const struct winograd *p, \
                                  int64_t parts) {                                                         \
    multiply_data(rows <= PANEL_MOST ? rows : 2, 1, to, left, right, p, parts);                            \
  }                                                                                                        \
  static void multiply_two_##rows(real *to, const real *left, const real *right, const struct winograd *p, \
                                  int64_t parts) {                                                         \
    multiply_data(rows <= PANEL_MOST ? rows : 2, 2, to, left, right, p, parts);                            \
  }
EACH_ROWS(MULTIPLY)

#define MULTIPLY_ENTRY(rows) {multiply_one_##rows, multiply_two_##rows},
/* By half the rows less 1, and by vectors less 1. */
static multiply_of_rows *const multiply_rows[][2] = {EACH_ROWS(MULTIPLY_ENTRY)};

/* ---- collect ---- */

/* The tiles of a run, of one vector of outputs and one phase of the result, into the planes; sums: its products. */
static void collect_run(const struct winograd *plan, const struct scratch *scratch, const struct run *run, real *sums,
                        struct phase phase, vector bias) {
  const int64_t step = plan->result_step, side = TILE * step, pitch = plan->tiles * side;
  real *planes = scratch->planes + ((step - 1 - phase.row) * pitch + step - 1 - phase.column) * LANES;
  for (int64_t r = 0; r < run->rows; r++)
    for (int64_t t = 0; t < plan->tiles; t++) {
      struct transform_square to = {planes + (r * side * pitch + t * side) * LANES, step * pitch * LANES, step * LANES};
      struct transform_square from = {sums + (run->tile + r * plan->tiles + t) * PAIR, plan->points * plan->sums_point,
                                      plan->sums_point};
      if (plan->points == 5)
        transform_both_ways(TRANSFORM_SUMS, 5, TILE, 5, to, from, bias);
      else if (plan->points == 6)
        transform_both_ways(TRANSFORM_SUMS, 6, TILE, 6, to, from, bias);
      else
        transform_both_ways(TRANSFORM_SUMS, 8, TILE, 8, to, from, bias);
    }
}

/* A run of the result, one vector of outputs (result: the first one's image), from the planes. */
static void write_run(real *result, const struct winograd *plan, const struct scratch *scratch, const struct run *run,
                      int64_t outputs) {
  const int64_t side = TILE * plan->result_step, pitch = plan->tiles * side, area = plan->rows * plan->columns;
  int64_t above = run->row == 0 ? plan->above : 0, first = run->row * side + above - plan->above;
  int64_t count = min(run->rows * side - above, plan->rows - first);
  real *to = result + first * plan->columns;
  const real *planes = scratch->planes + (above * pitch + plan->before) * LANES;
  if (pitch == plan->columns)
    vector_transpose_matrix(to, area, planes, LANES, count * pitch, outputs);
  else
    for (int64_t y = 0; y < count; y++)
      vector_transpose_matrix(to + y * plan->columns, area, planes + y * pitch * LANES, LANES, plan->columns, outputs);
}

/* ---- the kernel ---- */

/* Where the points of one vector of outputs go, right_point apart, in kernels: [group][pair][point][part][channel][PAIR];
   items: over groups, parts, channels and vectors, the last the fastest. */
static real *kernel_place(real *kernels, const struct winograd *plan, int64_t item) {
  int64_t vectors = 2 * plan->pairs, v = item % vectors, row = item / vectors % (plan->parts * plan->channels);
  int64_t group = item / vectors / plan->channels / plan->parts;
  int64_t pair_size = plan->points * plan->points * plan->right_point;
  return kernels + (group * plan->pairs + v / 2) * pair_size + row * PAIR + v % 2 * LANES;
}

static void spread_kernels(real *kernels, const struct winograd *plan, const struct conv_part *part) {
  int size = plan->points - TILE + 1, taps = size * size;
  int64_t vectors = 2 * plan->pairs, items = plan->groups * plan->parts * plan->channels * vectors;
#pragma omp parallel for if (items * taps > 512)
  for (int64_t item = 0; item < items; item++) {
    int64_t v = item % vectors, c = item / vectors % plan->channels;
    int64_t p = item / vectors / plan->channels % plan->parts, group = item / vectors / plan->channels / plan->parts;
    int phases = plan->result_step * plan->result_step;
    int64_t output = v / phases * LANES, valid = min(LANES, plan->outputs - output);
    struct phase phase =
        plan->result_step == 1 ? winograd_part_phase(plan, p) : winograd_phase(plan->result_step, v % phases);
    int tap[TRANSFORM_MOST_KERNEL * TRANSFORM_MOST_KERNEL];
    for (int t = 0; t < taps; t++) tap[t] = winograd_tap(plan, phase, t);
    const real *from = part[p % plan->sources].weight + group * plan->weight_group + c * plan->weight_channel;
    const real *next = kernel_place(kernels, plan, min(item + 1, items - 1));
    for (int i = 0; i < plan->points * plan->points; i++) __builtin_prefetch(next + i * plan->right_point, 1, 3);
    vector kernel[TRANSFORM_MOST_KERNEL * TRANSFORM_MOST_KERNEL];
    memset(kernel, 0, sizeof kernel);
    real *values = (real *)kernel;
    for (int64_t lane = 0; lane < valid; lane++) {
      const real *taps_at = from + (output + lane) * plan->weight_output;
      for (int t = 0; t < taps; t++)
        if (tap[t] >= 0) values[t * LANES + lane] = taps_at[tap[t]];
    }
    struct transform_square square = {kernel_place(kernels, plan, item), plan->points * plan->right_point,
                                      plan->right_point};
    struct transform_square taps_square = {values, size * LANES, LANES};
    if (plan->points == 5)
      transform_both_ways(TRANSFORM_KERNEL, 5, 5, 2, square, taps_square, (vector){0});
    else if (plan->points == 6)
      transform_both_ways(TRANSFORM_KERNEL, 6, 6, 3, square, taps_square, (vector){0});
    else
      transform_both_ways(TRANSFORM_KERNEL, 8, 8, 5, square, taps_square, (vector){0});
  }
}

/* ---- forward, and the gradient of the data ---- */

/* absent: the pair has nothing at the last point of a row. */
static void winograd_pair(real *sums, const struct winograd *plan, const real *data, const real *kernels, int vectors,
                          int64_t tiles, bool absent) {
  int64_t panels = ceil_div(tiles, PANEL_MOST);
  for (int64_t point = 0; point < plan->points * plan->points; point++) {
    struct parts parts = winograd_parts(plan, point);
    if (absent && point % plan->points == plan->points - 1) {
      memset(sums + point * plan->sums_point, 0, (size_t)(tiles * PAIR) * sizeof(real));
      continue;
    }
    const real *left = data + point * plan->data_point + parts.first * plan->blocks * plan->data_block;
    const real *right = kernels + point * plan->right_point + parts.first * plan->channels * PAIR;
    for (int64_t panel = 0, at = 0; panel < panels; panel++) {
      int64_t rows = ceil_div(ceil_div(tiles - at, panels - panel), 2) * 2;
      multiply_rows[rows / 2 - 1][vectors - 1](sums + point * plan->sums_point + at * PAIR, left + at * LANES, right,
                                               plan, parts.end - parts.first);
      at += rows;
    }
  }
}

static int winograd_apply(real *result, const struct conv_part *part, const real *bias, struct winograd *plan) {
  winograd_chunk(plan);
  plan->right_point = plan->parts * plan->channels * PAIR + APART;
  int threads = parallel_threads();
  int64_t points = plan->points * plan->points, units = plan->images * plan->tile_rows;
  int64_t chunks = ceil_div(units, plan->chunk), source = plan->channels * plan->height * plan->width;
  int64_t group_size = plan->pairs * points * plan->right_point, each = winograd_scratch(NULL, NULL, plan);
  real *kernels = memory_acquire((size_t)(plan->groups * group_size) * sizeof(real));
  real *memory = kernels ? memory_acquire((size_t)(threads * each) * sizeof(real)) : NULL;
  if (!memory) {
    memory_release(kernels);
    return STATUS_ERROR;
  }
  spread_kernels(kernels, plan, part);
#pragma omp parallel num_threads(threads) if (plan->groups * chunks > 1)
  {
    struct scratch scratch;
    winograd_scratch(&scratch, memory + omp_get_thread_num() * each, plan);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < plan->groups * chunks; item++) {
      int64_t group = item / chunks, start = item % chunks * plan->chunk;
      int64_t end = min(start + plan->chunk, units);
      struct run run;
      for (int64_t unit = start; unit < end; unit += run.rows) {
        run = winograd_run(plan, start, unit, end);
        for (int64_t p = 0; p < plan->sources; p++)
          winograd_spread_data(plan, &scratch, &run, part[p].x + (run.image * plan->groups + group) * source, p);
      }
      int64_t together = plan->result_step,
              pair_sums = points * plan->sums_point; /* pairs with the phases of one vector */
      for (int64_t pair = 0; pair < plan->pairs; pair += together) {
        int vectors = winograd_pair_vectors(plan, pair), phases = (int)(together * together);
        for (int64_t i = 0; i < together; i++)
          winograd_pair(scratch.right + i * pair_sums, plan, scratch.data,
                        kernels + group * group_size + (pair + i) * points * plan->right_point, vectors,
                        (end - start) * plan->tiles, i == 1);
        for (int64_t unit = start; unit < end; unit += run.rows) {
          run = winograd_run(plan, start, unit, end);
          for (int v = 0; v < vectors / together; v++) {
            int64_t output = pair / together * PAIR / together + v * LANES;
            int64_t valid = min(LANES, plan->outputs - output);
            vector offset = {0};
            if (bias) memcpy(&offset, bias + group * plan->outputs + output, (size_t)valid * sizeof(real));
            for (int f = 0; f < phases; f++)
              collect_run(plan, &scratch, &run, scratch.right + f / 2 * pair_sums + (f % 2 + v) * LANES,
                          winograd_phase(plan->result_step, f), offset);
            write_run(
                result + ((run.image * plan->groups + group) * plan->outputs + output) * plan->rows * plan->columns,
                plan, &scratch, &run, valid);
          }
        }
      }
    }
  }
  memory_release(memory);
  memory_release(kernels);
  return STATUS_OK;
}

int conv_winograd_forward(real *output, const struct conv_part *part, int parts, const real *bias,
                          const struct conv_geometry *geometry) {
  struct winograd plan = winograd_plan(geometry, false, parts);
  return winograd_apply(output, part, bias, &plan);
}

int conv_winograd_data_gradient(real *dx, const real *gradient, const real *weight,
                                const struct conv_geometry *geometry) {
  struct winograd plan = winograd_plan(geometry, true, 1);
  return winograd_apply(dx, &(struct conv_part){gradient, weight}, NULL, &plan);
}
