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
   parity in steps of 1: these phases are more channels. The odd ones have a tap less, so that nothing of them is at
   infinity, and of 3×3 81 products are left, of 5×5 121. (The gradient of the data is left to the direct kernels.)

   An infinity or NaN in the inputs makes NaN of all outputs of the tiles that see it. */
#include "conv_transform.h"

#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "conv.h"

enum {
  TILE = TRANSFORM_OUTPUTS,
  LANES = VECTOR_LANES,
  PAIR = 2 * VECTOR_LANES,                                                       /* outputs of one product */
  PANEL_MOST = VECTOR_MOST_SUMS >= 24 ? 14 : 6,                                  /* tiles of one product */
  WEIGHT_ROWS = VECTOR_SUMS / 2 < VECTOR_LANES ? VECTOR_SUMS / 2 : VECTOR_LANES, /* channels of one product */
  APART = 3 * VECTOR_LANES, /* between points, so that they do not share the lines of a cache */
  SPREAD_BYTES = 480 << 10, /* of one thread: about half of a second cache of 1 MB */
  TILES_LEAST = PANEL_MOST,
  TILES_MOST = 4 * PANEL_MOST, /* of a chunk */
  BLOCK_TILES = 128,           /* of which there is one sum at least */
  MOST_BLOCKS = 16,
  MOST_SUMS = 8 << 20 /* bytes of all blocks' sums from which on there are fewer blocks */
};

static int64_t divide_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }
static int64_t at_least(int64_t value, int64_t least) { return value < least ? least : value; }

struct winograd {
  int points;       /* in each direction */
  int step, kernel; /* in each direction */
  int64_t images, groups;
  int64_t sources, parts;          /* of the sum; of one source each phase */
  int64_t channels, outputs;       /* of one group (and part) */
  int64_t height, width;           /* of the source */
  int64_t rows, columns;           /* of the result */
  int64_t top, left;               /* zeros before the source */
  int64_t tiles, tile_rows;        /* tiles of a row, rows of an image */
  int64_t chunk;                   /* rows of tiles at a time */
  int64_t blocks, pairs;           /* of channels (of one part) in vectors, of outputs in pairs of vectors */
  int64_t data_block, data_point;  /* reals from block to block and from point to point of the spread inputs: */
  int64_t right_point, sums_point; /* [point][block][tile][lane]; of what is multiplied with it, of the products */
  bool flipped;                    /* the kernel, and its channels and outputs changed places */
  int64_t weight_output, weight_channel, weight_group;
};

/* Whether the odd rows and columns of the kernel are a part's. In this order the parts with anything at a point lie side
   by side. */
struct phase {
  int row, column;
};

static struct phase phase_of(const struct winograd *plan, int64_t part) {
  int64_t i = plan->step == 1 ? 1 : part / plan->sources;
  return (struct phase){i == 0 || i == 3, i >= 2};
}

struct parts {
  int64_t first, end;
};

static struct parts parts_at(const struct winograd *plan, int64_t point) {
  if (plan->step == 1) return (struct parts){0, plan->parts};
  bool row_last = point / plan->points == plan->points - 1, column_last = point % plan->points == plan->points - 1;
  int first = row_last ? 1 : 0, end = column_last ? 2 : row_last ? 3 : 4;
  return (struct parts){first * plan->sources, end * plan->sources};
}

/* The tap of the kernel that is a phase's t-th, or -1. */
static int tap_of(const struct winograd *plan, struct phase phase, int t) {
  int size = plan->points - TILE + 1;
  int row = phase.row + plan->step * (t / size), column = phase.column + plan->step * (t % size);
  if (row >= plan->kernel || column >= plan->kernel) return -1;
  int tap = row * plan->kernel + column;
  return plan->flipped ? plan->kernel * plan->kernel - 1 - tap : tap;
}

/* A thread's memory. */
struct scratch {
  real *data;   /* spread inputs */
  real *right;  /* the spread gradient, or the products: [point][tile][pair] */
  real *planes; /* rows of an image, a vector of channels a place */
  real *zeros;  /* a row of such */
  vector *lines;
};

/* Rows of tiles of one image; tile is the first's number within the chunk. */
struct run {
  int64_t image, row, rows, tile;
};

static struct run winograd_run(const struct winograd *plan, int64_t start, int64_t unit, int64_t end) {
  struct run run = {.image = unit / plan->tile_rows, .row = unit % plan->tile_rows};
  run.rows = parallel_minimum(plan->tile_rows - run.row, end - unit);
  run.tile = (unit - start) * plan->tiles;
  return run;
}

/* ---- products ---- */

/* sum (rows × vectors) += Σ over steps of left (a row left_row apart, a step left_step) · right (PAIR a step) */
VECTOR_INLINE void multiply(const int rows, const int vectors, vector (*sum)[2], const real *left, const int left_row,
                            const int left_step, const real *right, int64_t steps) {
  for (int64_t k = 0; k < steps; k++, left += left_step, right += PAIR) {
    vector line[2];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) line[j] = *(const vector *)(right + j * LANES);
#pragma GCC unroll 14
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++) sum[i][j] += left[i * left_row] * line[j];
    }
  }
}

/* to (tiles × PAIR) = Σ over channels of the spread inputs · the spread kernel */
VECTOR_INLINE void multiply_data(const int rows, const int vectors, real *to, const real *left, const real *right,
                                 const struct winograd *plan, int64_t parts) {
  vector sum[PANEL_MOST][2];
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = (vector){0};
  for (int64_t part = 0; part < parts; part++)
    for (int64_t c = 0; c < plan->channels; c += LANES, left += plan->data_block) {
      int64_t steps = parallel_minimum(LANES, plan->channels - c);
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

static int pair_vectors(const struct winograd *plan, int64_t pair) {
  return plan->outputs - pair * PAIR > LANES ? 2 : 1;
}

/* ---- spread and collect ---- */

/* planes (places × LANES) = channels of an image, zeros beyond the last */
static void gather(real *planes, const real *from, int64_t area, int64_t places, int64_t channels) {
  if (channels < LANES) memset(planes, 0, (size_t)(places * LANES) * sizeof(real));
  vector_transpose_matrix(planes, LANES, from, area, parallel_minimum(channels, LANES), places);
}

/* The rows of a plane that a row of tiles reads: width places each, of which every step-th is read, the first left places
   before them. point_rows: rows of points that are wanted. */
struct source_rows {
  const real *line[TRANSFORM_MOST_POINTS];
  int64_t left, width, step;
  int point_rows;
};

/* to ([point][tile], point reals apart) = one row of tiles; a tile reads `inputs` rows and columns, `points` of data,
   TILE of a gradient. lines holds the columns after the transform along them. */
VECTOR_INLINE void spread_row(const int points, const int inputs, real *to, int64_t point, int64_t to_tile,
                              const struct source_rows *source, int64_t tiles, vector *lines) {
  const enum transform transform = inputs == points ? TRANSFORM_DATA : TRANSFORM_GRADIENT;
  int64_t columns = TILE * (tiles - 1) + inputs, step = source->step;
  int64_t begin = parallel_minimum(at_least(divide_up(source->left, step), 0), columns);
  int64_t end = at_least(parallel_minimum(divide_up(source->width + source->left, step), columns), begin);
  const real *line[TRANSFORM_MOST_POINTS];
#pragma GCC unroll 8
  for (int i = 0; i < inputs; i++) line[i] = source->line[i] - source->left * LANES;
  vector from[TRANSFORM_MOST_POINTS], result[TRANSFORM_MOST_POINTS];
  for (int64_t x = begin; x < end; x++) {
#pragma GCC unroll 8
    for (int i = 0; i < inputs; i++) from[i] = *(const vector *)(line[i] + x * step * LANES);
    transform_line(transform, points, result, from);
#pragma GCC unroll 8
    for (int i = 0; i < points; i++) lines[x * points + i] = result[i];
  }
  for (int64_t i = 0; i < begin * points; i++) lines[i] = (vector){0};
  for (int64_t i = end * points; i < columns * points; i++) lines[i] = (vector){0};
  for (int64_t t = 0; t < tiles; t++, to += to_tile) {
    real *at = to;
    for (int i = 0; i < source->point_rows; i++, at += points * point) {
#pragma GCC unroll 8
      for (int j = 0; j < inputs; j++) from[j] = lines[(TILE * t + j) * points + i];
      transform_line(transform, points, result, from);
#pragma GCC unroll 8
      for (int j = 0; j < points; j++) *(vector *)(at + j * point) = result[j];
    }
  }
}

static void spread_data_5(real *to, int64_t point, const struct source_rows *source, int64_t tiles, vector *lines) {
  spread_row(5, 5, to, point, LANES, source, tiles, lines);
}
static void spread_data_6(real *to, int64_t point, const struct source_rows *source, int64_t tiles, vector *lines) {
  spread_row(6, 6, to, point, LANES, source, tiles, lines);
}
static void spread_data_8(real *to, int64_t point, const struct source_rows *source, int64_t tiles, vector *lines) {
  spread_row(8, 8, to, point, LANES, source, tiles, lines);
}
static void spread_gradient_5(real *to, int64_t point, const struct source_rows *source, int64_t tiles, vector *lines) {
  spread_row(5, TILE, to, point, PAIR, source, tiles, lines);
}
static void spread_gradient_6(real *to, int64_t point, const struct source_rows *source, int64_t tiles, vector *lines) {
  spread_row(6, TILE, to, point, PAIR, source, tiles, lines);
}
static void spread_gradient_8(real *to, int64_t point, const struct source_rows *source, int64_t tiles, vector *lines) {
  spread_row(8, TILE, to, point, PAIR, source, tiles, lines);
}

typedef void spread_of_row(real *to, int64_t point, const struct source_rows *source, int64_t tiles, vector *lines);

/* By points less 5. */
static spread_of_row *const spread_data_rows[] = {spread_data_5, spread_data_6, NULL, spread_data_8};
static spread_of_row *const spread_gradient_rows[] = {spread_gradient_5, spread_gradient_6, NULL, spread_gradient_8};

/* A run of tiles from planes (the image's rows from `first` up to `last`) of height × width, `top` and `left` zeros
   before them. */
struct spread {
  int64_t height, width, top, left, step;
  int points, inputs;
  spread_of_row *row;
};

static void spread_run(real *to, int64_t point, int64_t to_tile, const struct spread *spread, struct phase phase,
                       const struct run *run, int64_t tiles, int64_t first, int64_t last,
                       const struct scratch *scratch) {
  for (int64_t r = 0; r < run->rows; r++) {
    struct source_rows source = {.left = spread->left - phase.column, .width = spread->width, .step = spread->step};
    source.point_rows = spread->points - phase.row;
    for (int i = 0; i < spread->inputs; i++) {
      int64_t y = ((run->row + r) * TILE + i) * spread->step - spread->top + phase.row;
      source.line[i] = y >= first && y < last ? scratch->planes + (y - first) * spread->width * LANES : scratch->zeros;
    }
    spread->row(to + (run->tile + r * tiles) * to_tile, point, &source, tiles, scratch->lines);
  }
}

/* Rows of an image that a run of tiles reads: first to last − 1. */
static void spread_range(int64_t *first, int64_t *last, const struct spread *spread, const struct run *run) {
  int64_t begin = run->row * TILE * spread->step - spread->top;
  int64_t end = begin + ((run->rows - 1) * TILE + spread->inputs) * spread->step;
  *first = parallel_minimum(at_least(begin, 0), spread->height);
  *last = at_least(parallel_minimum(end, spread->height), *first);
}

static void spread_data(const struct winograd *plan, const struct scratch *scratch, const struct run *run,
                        const real *from, int64_t source) {
  const struct spread spread = {plan->height, plan->width,  plan->top,    plan->left,
                                plan->step,   plan->points, plan->points, spread_data_rows[plan->points - 5]};
  int64_t first, last, area = plan->height * plan->width;
  spread_range(&first, &last, &spread, run);
  for (int64_t block = 0; block < plan->blocks; block++) {
    gather(scratch->planes, from + block * LANES * area + first * plan->width, area, (last - first) * plan->width,
           plan->channels - block * LANES);
    for (int64_t part = source; part < plan->parts; part += plan->sources)
      spread_run(scratch->data + (part * plan->blocks + block) * plan->data_block, plan->data_point, LANES, &spread,
                 phase_of(plan, part), run, plan->tiles, first, last, scratch);
  }
}

/* A run of the result, for one vector of outputs; sums: its products. */
static void collect_run(real *result, const struct winograd *plan, const struct scratch *scratch, const struct run *run,
                        real *sums, vector bias, int64_t outputs) {
  int64_t pitch = plan->tiles * TILE, area = plan->rows * plan->columns;
  for (int64_t r = 0; r < run->rows; r++)
    for (int64_t t = 0; t < plan->tiles; t++) {
      struct transform_square to = {scratch->planes + (r * TILE * pitch + t * TILE) * LANES, pitch * LANES, LANES};
      struct transform_square from = {sums + (run->tile + r * plan->tiles + t) * PAIR, plan->points * plan->sums_point,
                                      plan->sums_point};
      if (plan->points == 5)
        transform_both_ways(TRANSFORM_SUMS, 5, TILE, 5, to, from, bias);
      else if (plan->points == 6)
        transform_both_ways(TRANSFORM_SUMS, 6, TILE, 6, to, from, bias);
      else
        transform_both_ways(TRANSFORM_SUMS, 8, TILE, 8, to, from, bias);
    }
  int64_t first = run->row * TILE, count = parallel_minimum(run->rows * TILE, plan->rows - first);
  real *to = result + first * plan->columns;
  if (pitch == plan->columns)
    vector_transpose_matrix(to, area, scratch->planes, LANES, count * pitch, outputs);
  else
    for (int64_t y = 0; y < count; y++)
      vector_transpose_matrix(to + y * plan->columns, area, scratch->planes + y * pitch * LANES, LANES, plan->columns,
                              outputs);
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
    int64_t valid = parallel_minimum(LANES, plan->outputs - v * LANES);
    const struct phase phase = phase_of(plan, p);
    int tap[TRANSFORM_MOST_KERNEL * TRANSFORM_MOST_KERNEL];
    for (int t = 0; t < taps; t++) tap[t] = tap_of(plan, phase, t);
    const real *from = part[p % plan->sources].weight + group * plan->weight_group + c * plan->weight_channel;
    const real *next = kernel_place(kernels, plan, parallel_minimum(item + 1, items - 1));
    for (int i = 0; i < plan->points * plan->points; i++) __builtin_prefetch(next + i * plan->right_point, 1, 3);
    vector kernel[TRANSFORM_MOST_KERNEL * TRANSFORM_MOST_KERNEL];
    memset(kernel, 0, sizeof kernel);
    real *values = (real *)kernel;
    for (int64_t lane = 0; lane < valid; lane++) {
      const real *taps_at = from + (v * LANES + lane) * plan->weight_output;
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

/* ---- plans ---- */

bool conv_winograd_serves(const struct conv_geometry *geometry) {
  const struct conv_axis *y = &geometry->y, *x = &geometry->x;
  if (geometry->images == 0 || y->kernel != x->kernel || (y->kernel != 3 && y->kernel != 5)) return false;
  if (y->stride > 2 || x->stride != y->stride || y->dilation != 1 || x->dilation != 1) return false;
  /* With few channels the products are too few to pay for the spreading, which has four phases with a step of 2. */
  int64_t least = y->stride == 1 ? (y->kernel == 5 ? 3 : 8) : (y->kernel == 5 ? 8 : 16);
  if (geometry->channels < least || geometry->outputs < 8) return false;
  /* Products for those of the plain sum, in the result and (for its gradient) in the source. */
  double points = (double)(divide_up(y->kernel, y->stride) + TILE - 1);
  if (y->stride == 2) points += points - 1;
  double whole = points * points / (TILE * TILE), plain = (double)(y->kernel * x->kernel);
  double forward = (double)(divide_up(y->places, TILE) * divide_up(x->places, TILE) * TILE * TILE);
  double backward = (double)(divide_up(y->size, TILE) * divide_up(x->size, TILE) * TILE * TILE);
  double gain = y->stride == 2 && geometry->channels >= 64 ? 0.8 : 0.6;
  return whole * forward < gain * plain * (double)(y->places * x->places) &&
         (y->stride == 2 || whole * backward < gain * plain * (double)(y->size * x->size)) && x->places <= 1024 &&
         x->size <= 1024;
}

bool conv_winograd_serves_data_gradient(const struct conv_geometry *geometry) {
  return geometry->y.stride == 1 && conv_winograd_serves(geometry);
}

/* gradient: of the data. */
static struct winograd winograd_plan(const struct conv_geometry *geometry, bool gradient, int64_t sources) {
  const struct conv_axis *y = &geometry->y, *x = &geometry->x;
  int64_t taps = y->kernel * x->kernel, step = y->stride;
  struct winograd plan = {.points = (int)divide_up(y->kernel, step) + TILE - 1,
                          .step = (int)step,
                          .kernel = (int)y->kernel,
                          .images = geometry->images,
                          .groups = geometry->groups,
                          .sources = sources,
                          .parts = sources * step * step,
                          .channels = geometry->channels,
                          .outputs = geometry->outputs,
                          .height = y->size,
                          .width = x->size,
                          .rows = y->places,
                          .columns = x->places,
                          .top = y->padding,
                          .left = x->padding,
                          .flipped = gradient,
                          .weight_output = geometry->channels * taps,
                          .weight_channel = taps,
                          .weight_group = geometry->outputs * geometry->channels * taps};
  if (gradient) {
    plan.channels = geometry->outputs, plan.outputs = geometry->channels;
    plan.height = y->places, plan.width = x->places, plan.rows = y->size, plan.columns = x->size;
    plan.top = y->kernel - 1 - y->padding, plan.left = x->kernel - 1 - x->padding;
    plan.weight_output = taps, plan.weight_channel = geometry->channels * taps;
  }
  plan.tiles = divide_up(plan.columns, TILE);
  plan.tile_rows = divide_up(plan.rows, TILE);
  plan.blocks = divide_up(plan.channels, LANES);
  plan.pairs = divide_up(plan.outputs, PAIR);
  return plan;
}

/* Decides the chunk for so many bytes a tile. */
static void winograd_chunk(struct winograd *plan) {
  int64_t points = plan->points * plan->points;
  int64_t bytes = points * (plan->parts * plan->blocks * LANES + PAIR) * (int64_t)sizeof(real);
  int64_t tiles = parallel_minimum(at_least(SPREAD_BYTES / bytes, TILES_LEAST), TILES_MOST);
  plan->chunk = parallel_minimum(at_least(tiles / plan->tiles, 1), plan->images * plan->tile_rows);
  int64_t most = plan->chunk * plan->tiles + PANEL_MOST; /* the last panel may read beyond */
  plan->data_block = most * LANES;
  plan->data_point = plan->parts * plan->blocks * plan->data_block + APART;
  plan->sums_point = most * PAIR + APART;
}

/* Reals of a thread's scratch, and where its parts lie. */
static int64_t scratch_place(struct scratch *scratch, real *at, const struct winograd *plan) {
  int64_t points = plan->points, rows = parallel_minimum(plan->chunk, plan->tile_rows);
  int64_t source = parallel_minimum(plan->height, (rows * TILE + points) * plan->step) * plan->width;
  int64_t result = rows * TILE * plan->tiles * TILE, wide = at_least(plan->width, plan->columns);
  int64_t data = points * points * plan->data_point, sums = points * points * plan->sums_point;
  int64_t lines = (plan->tiles * TILE + points) * points * LANES;
  if (at) {
    scratch->data = at;
    scratch->right = scratch->data + data;
    scratch->planes = scratch->right + sums;
    scratch->zeros = scratch->planes + at_least(source, result) * LANES;
    scratch->lines = (vector *)(scratch->zeros + wide * LANES);
    memset(scratch->zeros, 0, (size_t)(wide * LANES) * sizeof(real));
  }
  return data + sums + (at_least(source, result) + wide) * LANES + lines;
}

/* ---- forward, and the gradient of the data ---- */

static void winograd_pair(real *sums, const struct winograd *plan, const real *data, const real *kernels, int vectors,
                          int64_t tiles) {
  int64_t panels = divide_up(tiles, PANEL_MOST);
  for (int64_t point = 0; point < plan->points * plan->points; point++) {
    struct parts parts = parts_at(plan, point);
    const real *left = data + point * plan->data_point + parts.first * plan->blocks * plan->data_block;
    const real *right = kernels + point * plan->right_point + parts.first * plan->channels * PAIR;
    for (int64_t panel = 0, at = 0; panel < panels; panel++) {
      int64_t rows = divide_up(divide_up(tiles - at, panels - panel), 2) * 2;
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
  int64_t chunks = divide_up(units, plan->chunk), source = plan->channels * plan->height * plan->width;
  int64_t group_size = plan->pairs * points * plan->right_point, each = scratch_place(NULL, NULL, plan);
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
    scratch_place(&scratch, memory + omp_get_thread_num() * each, plan);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < plan->groups * chunks; item++) {
      int64_t group = item / chunks, start = item % chunks * plan->chunk;
      int64_t end = parallel_minimum(start + plan->chunk, units);
      struct run run;
      for (int64_t unit = start; unit < end; unit += run.rows) {
        run = winograd_run(plan, start, unit, end);
        for (int64_t p = 0; p < plan->sources; p++)
          spread_data(plan, &scratch, &run, part[p].x + (run.image * plan->groups + group) * source, p);
      }
      for (int64_t pair = 0; pair < plan->pairs; pair++) {
        int vectors = pair_vectors(plan, pair);
        winograd_pair(scratch.right, plan, scratch.data,
                      kernels + group * group_size + pair * points * plan->right_point, vectors,
                      (end - start) * plan->tiles);
        for (int64_t unit = start; unit < end; unit += run.rows) {
          run = winograd_run(plan, start, unit, end);
          for (int v = 0; v < vectors; v++) {
            int64_t output = pair * PAIR + v * LANES, valid = parallel_minimum(LANES, plan->outputs - output);
            vector offset = {0};
            if (bias) memcpy(&offset, bias + group * plan->outputs + output, (size_t)valid * sizeof(real));
            collect_run(
                result + ((run.image * plan->groups + group) * plan->outputs + output) * plan->rows * plan->columns,
                plan, &scratch, &run, scratch.right + v * LANES, offset, valid);
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

/* ---- gradient of the weight ---- */

/* Sums of one block: [pair][point][part][channel][PAIR]. */
static int64_t weight_point(const struct winograd *plan) { return plan->parts * plan->blocks * LANES * PAIR; }

static void weight_products(real *sums, const struct winograd *plan, const struct scratch *scratch, int vectors,
                            int64_t tiles) {
  for (int64_t point = 0; point < plan->points * plan->points; point++) {
    struct parts parts = parts_at(plan, point);
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

/* The gradient of one vector of outputs, spread. */
static void spread_gradient(real *to, const struct winograd *plan, const struct scratch *scratch, const struct run *run,
                            const real *gradient, int64_t outputs) {
  const struct spread spread = {plan->rows, plan->columns, 0,    0,
                                1,          plan->points,  TILE, spread_gradient_rows[plan->points - 5]};
  int64_t first, last, area = plan->rows * plan->columns;
  spread_range(&first, &last, &spread, run);
  gather(scratch->planes, gradient + first * plan->columns, area, (last - first) * plan->columns, outputs);
  spread_run(to, plan->sums_point, PAIR, &spread, (struct phase){0}, run, plan->tiles, first, last, scratch);
}

/* sums += what rows of tiles start to end − 1 of one group give. */
static void weight_chunk(real *sums, const struct winograd *plan, const struct scratch *scratch, const real *gradient,
                         const real *x, int64_t group, int64_t start, int64_t end) {
  int64_t source = plan->channels * plan->height * plan->width, area = plan->rows * plan->columns;
  int64_t pair_size = plan->points * plan->points * weight_point(plan);
  struct run run;
  for (int64_t unit = start; unit < end; unit += run.rows) {
    run = winograd_run(plan, start, unit, end);
    spread_data(plan, scratch, &run, x + (run.image * plan->groups + group) * source, 0);
  }
  for (int64_t pair = 0; pair < plan->pairs; pair++) {
    int vectors = pair_vectors(plan, pair);
    for (int64_t unit = start; unit < end; unit += run.rows) {
      run = winograd_run(plan, start, unit, end);
      for (int v = 0; v < vectors; v++) {
        int64_t output = pair * PAIR + v * LANES;
        spread_gradient(scratch->right + v * LANES, plan, scratch, &run,
                        gradient + ((run.image * plan->groups + group) * plan->outputs + output) * area,
                        parallel_minimum(LANES, plan->outputs - output));
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
  int64_t valid = parallel_minimum(LANES, plan->outputs - v * LANES);
  for (int t = 0; t < size * size; t++) {
    int tap = tap_of(plan, phase_of(plan, part), t);
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
  int64_t blocks = parallel_minimum(MOST_BLOCKS, MOST_SUMS / (block_size * (int64_t)sizeof(real)));
  blocks = parallel_minimum(blocks, units * plan.tiles / BLOCK_TILES);
  blocks = parallel_minimum(at_least(blocks, 2), units);
  int64_t each = scratch_place(NULL, NULL, &plan);
  real *sums = memory_acquire((size_t)(blocks * block_size) * sizeof(real));
  real *memory = sums ? memory_acquire((size_t)(threads * each) * sizeof(real)) : NULL;
  if (!memory) {
    memory_release(sums);
    return STATUS_ERROR;
  }
#pragma omp parallel num_threads(threads) if (units * groups > 1)
  {
    struct scratch scratch;
    scratch_place(&scratch, memory + omp_get_thread_num() * each, &plan);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < blocks * groups; item++) {
      int64_t block = item / groups, group = item % groups;
      real *to = sums + block * block_size + group * group_size;
      memset(to, 0, (size_t)group_size * sizeof(real));
      int64_t last = (block + 1) * units / blocks;
      for (int64_t start = block * units / blocks, end; start < last; start = end) {
        end = parallel_minimum(start + plan.chunk, last);
        weight_chunk(to, &plan, &scratch, gradient, x, group, start, end);
      }
    }
    int64_t vectors = divide_up(plan.outputs, LANES);
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
