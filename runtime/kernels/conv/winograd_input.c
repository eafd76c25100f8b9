/* Winograd's filtering, its spreading: the tiles of inputs and of gradients become points. */
#include <string.h>

#include "winograd.h"

/* planes (places × LANES) = channels of an image, zeros beyond the last */
static void gather(real *planes, const real *from, int64_t area, int64_t places, int64_t channels) {
  if (channels < LANES) memset(planes, 0, (size_t)(places * LANES) * sizeof(real));
  vector_transpose_matrix(planes, LANES, from, area, min(channels, LANES), places);
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
  int64_t begin = min(max(ceil_div(source->left, step), 0), columns);
  int64_t end = max(min(ceil_div(source->width + source->left, step), columns), begin);
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
  *first = min(max(begin, 0), spread->height);
  *last = max(min(end, spread->height), *first);
}

void winograd_spread_data(const struct winograd *plan, const struct scratch *scratch, const struct run *run,
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
                 winograd_part_phase(plan, part), run, plan->tiles, first, last, scratch);
  }
}

void winograd_spread_gradient(real *to, const struct winograd *plan, const struct scratch *scratch,
                              const struct run *run, const real *gradient, int64_t outputs) {
  const struct spread spread = {plan->rows, plan->columns, 0,    0,
                                1,          plan->points,  TILE, spread_gradient_rows[plan->points - 5]};
  int64_t first, last, area = plan->rows * plan->columns;
  spread_range(&first, &last, &spread, run);
  gather(scratch->planes, gradient + first * plan->columns, area, (last - first) * plan->columns, outputs);
  spread_run(to, plan->sums_point, PAIR, &spread, (struct phase){0}, run, plan->tiles, first, last, scratch);
}
