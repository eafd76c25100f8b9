/* Winograd's filtering, its plan: sizes, the phases of steps of 2, and when it gains. */
#include <string.h>

#include "winograd.h"

/* ---- phases ---- */

struct phase winograd_phase(int step, int64_t i) {
  if (step == 1) return (struct phase){0, 0};
  return (struct phase){i == 0 || i == 3, i >= 2};
}

struct phase winograd_part_phase(const struct winograd *plan, int64_t part) {
  return winograd_phase(plan->step, part / plan->sources);
}

struct parts winograd_parts(const struct winograd *plan, int64_t point) {
  if (plan->step == 1) return (struct parts){0, plan->parts};
  bool row_last = point / plan->points == plan->points - 1, column_last = point % plan->points == plan->points - 1;
  int first = row_last ? 1 : 0, end = column_last ? 2 : row_last ? 3 : 4;
  return (struct parts){first * plan->sources, end * plan->sources};
}

/* The tap of the kernel, along one direction, that is a phase's t-th; -1 when it has not so many. */
static int tap_along(const struct winograd *plan, int phase, int t) {
  int step = plan->step * plan->result_step, count = (plan->kernel - phase + step - 1) / step;
  if (t >= count) return -1;
  return phase + step * (plan->flipped ? count - 1 - t : t);
}

int winograd_tap(const struct winograd *plan, struct phase phase, int t) {
  int size = plan->points - TILE + 1;
  int row = tap_along(plan, phase.row, t / size), column = tap_along(plan, phase.column, t % size);
  return row < 0 || column < 0 ? -1 : row * plan->kernel + column;
}

/* ---- sizes ---- */

/* For the gradient of the data: zeros before the source, and what of the first tile lies beyond the result. */
static void before_gradient(const struct conv_axis *axis, int64_t *zeros, int64_t *beyond) {
  int64_t step = axis->stride, last = (axis->kernel - 1) / step; /* the last tap of phase 0 */
  *zeros = last - (axis->padding + step - 1) / step;
  *beyond = axis->padding + step - 1 - step * (last - *zeros);
}

struct winograd winograd_plan(const struct conv_geometry *geometry, bool gradient, int64_t sources) {
  const struct conv_axis *y = &geometry->y, *x = &geometry->x;
  int64_t taps = y->kernel * x->kernel, step = y->stride;
  struct winograd plan = {.points = (int)ceil_div(y->kernel, step) + TILE - 1,
                          .kernel = (int)y->kernel,
                          .step = gradient ? 1 : (int)step,
                          .result_step = gradient ? (int)step : 1,
                          .images = geometry->images,
                          .groups = geometry->groups,
                          .sources = sources,
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
    before_gradient(y, &plan.top, &plan.above);
    before_gradient(x, &plan.left, &plan.before);
    plan.weight_output = taps, plan.weight_channel = geometry->channels * taps;
  }
  plan.parts = sources * plan.step * plan.step;
  plan.tiles = ceil_div(plan.columns + plan.before, TILE * plan.result_step);
  plan.tile_rows = ceil_div(plan.rows + plan.above, TILE * plan.result_step);
  plan.blocks = ceil_div(plan.channels, LANES);
  plan.pairs = plan.result_step == 1 ? ceil_div(plan.outputs, PAIR) : 2 * ceil_div(plan.outputs, LANES);
  return plan;
}

/* Products for those of the plain sum. */
static double share_of_products(const struct winograd *plan) {
  int points = plan->points, side = TILE * plan->result_step;
  double products = points * points; /* of a tile */
  if (plan->step == 2) products = (2 * points - 1) * (2 * points - 1);
  if (plan->result_step == 2) products = points * (points - 1) * 4 + points * 2;
  double tiles = (double)(plan->tile_rows * plan->tiles * side * side) / (double)(plan->rows * plan->columns);
  return products / (TILE * TILE * plan->kernel * plan->kernel) * tiles;
}

static bool serves(const struct conv_geometry *geometry, bool gradient) {
  const struct conv_axis *y = &geometry->y, *x = &geometry->x;
  if (geometry->images == 0 || y->kernel != x->kernel || (y->kernel != 3 && y->kernel != 5)) return false;
  if (y->stride > 2 || x->stride != y->stride || y->dilation != 1 || x->dilation != 1) return false;
  if (x->places > 1024 || x->size > 1024) return false;
  /* With few channels the products are too few to pay for the spreading, which has four phases with a step of 2. */
  int64_t least = y->stride == 1 ? (y->kernel == 5 ? 3 : 8) : (y->kernel == 5 ? 8 : 16);
  if (geometry->channels < least || geometry->outputs < 8) return false;
  double most = y->stride == 1 ? 0.6 : geometry->channels >= 64 ? 0.8 : gradient ? 0.65 : 0.6;
  struct winograd plan = winograd_plan(geometry, gradient, 1);
  return share_of_products(&plan) < most;
}

bool conv_winograd_serves(const struct conv_geometry *geometry) { return serves(geometry, false); }
bool conv_winograd_serves_data_gradient(const struct conv_geometry *geometry) { return serves(geometry, true); }

void winograd_chunk(struct winograd *plan) {
  int64_t points = plan->points * plan->points;
  int64_t bytes = points * (plan->parts * plan->blocks * LANES + PAIR * plan->result_step) * (int64_t)sizeof(real);
  int64_t tiles = min(max(SPREAD_BYTES / bytes, TILES_LEAST), TILES_MOST);
  plan->chunk = min(max(tiles / plan->tiles, 1), plan->images * plan->tile_rows);
  int64_t most = plan->chunk * plan->tiles + PANEL_MOST; /* the last panel may read beyond */
  plan->data_block = most * LANES;
  plan->data_point = plan->parts * plan->blocks * plan->data_block + APART;
  plan->sums_point = most * PAIR + APART;
}

int64_t winograd_scratch(struct scratch *scratch, real *at, const struct winograd *plan) {
  int64_t points = plan->points, rows = min(plan->chunk, plan->tile_rows);
  int64_t source = min(plan->height, (rows * TILE + points) * plan->step) * plan->width;
  int64_t side = TILE * plan->result_step, result = rows * side * plan->tiles * side;
  int64_t wide = max(plan->width, plan->columns);
  int64_t data = points * points * plan->data_point, sums = plan->result_step * points * points * plan->sums_point;
  int64_t lines = (plan->tiles * TILE + points) * points * LANES;
  if (at) {
    scratch->data = at;
    scratch->right = scratch->data + data;
    scratch->planes = scratch->right + sums;
    scratch->zeros = scratch->planes + max(source, result) * LANES;
    scratch->lines = (vector *)(scratch->zeros + wide * LANES);
    memset(scratch->zeros, 0, (size_t)(wide * LANES) * sizeof(real));
  }
  return data + sums + (max(source, result) + wide) * LANES + lines;
}

struct run winograd_run(const struct winograd *plan, int64_t start, int64_t unit, int64_t end) {
  struct run run = {.image = unit / plan->tile_rows, .row = unit % plan->tile_rows};
  run.rows = min(plan->tile_rows - run.row, end - unit);
  run.tile = (unit - start) * plan->tiles;
  return run;
}

int winograd_pair_vectors(const struct winograd *plan, int64_t pair) {
  if (plan->result_step > 1) return 2;
  return plan->outputs - pair * PAIR > LANES ? 2 : 1;
}
