/* Scan: a cell through all times, forwards, backwards, and along a tangent. The weight is packed once for all of them;
   blocks of rows are cut by the batch alone, so that results do not depend on the number of threads. */
#include <stdbool.h>
#include <string.h>

#include "../../base/memory.h"
#include "../../base/parallel.h"
#include "../../kernels/linalg/linalg.h"
#include "recurrent.h"

enum { ROWS = 28 }; /* of a block: two panels of micro-tiles */

/* What all blocks share, and one block. */
struct scan {
  const struct recurrent_sequence *s;
  int64_t gates, states, kept;  /* reals of a row and time */
  const real *weight, *tweight; /* packed: W, or its transpose backwards; its change */
  const real *x, *tbias, *tstart, *gradient;
  real *dx, *dstart, *result;
  void (*run)(const struct scan *scan, int64_t first, int64_t rows, real *scratch);
};

static real *take(real **scratch, int64_t count) {
  real *here = *scratch;
  *scratch += round_up(count, 16);
  return here;
}

static int64_t scratch_reals(const struct scan *scan) {
  int64_t row = 3 * scan->states + 2 * scan->gates;
  return round_up(ROWS * row + gemm_packed_scratch(scan->gates) + 8 * 16, 16);
}

/* Place of a row and time in batch × times. */
static int64_t place(const struct scan *scan, int64_t row, int64_t time) { return row * scan->s->times + time; }

static bool stays(const struct scan *scan, int64_t row, int64_t time) {
  return scan->s->mask && scan->s->mask[place(scan, row, time)] == 0;
}

static void copy(real *to, const real *from, int64_t count) { memcpy(to, from, (size_t)count * sizeof(real)); }
static void clear(real *to, int64_t count) { memset(to, 0, (size_t)count * sizeof(real)); }
static void fill_rows(real *to, const real *line, int64_t rows, int64_t count) {
  for (int64_t i = 0; i < rows; i++)
    if (line)
      copy(to + i * count, line, count);
    else
      clear(to + i * count, count);
}

/* The states before a time: those of the time before, or where the sequence starts; zeros is a row of them. */
static const real *before_of(const struct scan *scan, int64_t row, int64_t time, const real *zeros) {
  if (time > 0) return scan->s->states + place(scan, row, time - 1) * scan->states;
  return scan->s->start ? scan->s->start + row * scan->states : zeros;
}

/* u (rows × gates) += h · weight, h the first of the states */
static void add_product(const struct scan *scan, real *u, const real *state, int64_t rows, const real *weight,
                        real *packing) {
  gemm_packed(u, scan->gates, state, scan->states, rows, weight, scan->gates, scan->s->width, 1, packing);
}

static void forward_block(const struct scan *scan, int64_t first, int64_t rows, real *scratch) {
  const struct recurrent_sequence *s = scan->s;
  real *state = take(&scratch, rows * scan->states), *u = take(&scratch, rows * scan->gates);
  if (s->start)
    copy(state, s->start + first * scan->states, rows * scan->states);
  else
    clear(state, rows * scan->states);
  for (int64_t time = 0; time < s->times; time++) {
    fill_rows(u, s->bias, rows, scan->gates);
    add_product(scan, u, state, rows, scan->weight, scratch);
    for (int64_t i = 0; i < rows; i++) {
      int64_t at = place(scan, first + i, time);
      real *now = state + i * scan->states, *to = s->states + at * scan->states;
      if (stays(scan, first + i, time)) {
        copy(to, now, scan->states);
        clear(s->kept + at * scan->kept, scan->kept);
        continue;
      }
      s->cell->forward(to, s->kept + at * scan->kept, scan->x + at * scan->gates, u + i * scan->gates, now, s->width);
      copy(now, to, scan->states);
    }
  }
}

static void backward_block(const struct scan *scan, int64_t first, int64_t rows, real *scratch) {
  const struct recurrent_sequence *s = scan->s;
  real *d = take(&scratch, rows * scan->states), *du = take(&scratch, rows * scan->gates),
       *zeros = take(&scratch, scan->states);
  clear(d, rows * scan->states);
  clear(zeros, scan->states);
  for (int64_t time = s->times - 1; time >= 0; time--) {
    for (int64_t i = 0; i < rows; i++) {
      int64_t at = place(scan, first + i, time);
      real *di = d + i * scan->states, *dx = scan->dx + at * scan->gates;
      const real *gradient = scan->gradient + at * scan->states, *kept = s->kept + at * scan->kept;
#pragma omp simd
      for (int64_t k = 0; k < scan->states; k++) di[k] += gradient[k];
      if (stays(scan, first + i, time)) {
        clear(dx, scan->gates);
        if (s->cell->inner) clear(du + i * scan->gates, scan->gates);
        continue;
      }
      s->cell->backward(dx, di, kept, s->states + at * scan->states, before_of(scan, first + i, time, zeros), s->width);
      if (s->cell->inner) s->cell->inner(du + i * scan->gates, dx, kept, s->width);
    }
    if (time == 0 && !scan->dstart) continue;
    const real *change = s->cell->inner ? du : scan->dx + place(scan, first, time) * scan->gates;
    int64_t pitch = s->cell->inner ? scan->gates : s->times * scan->gates;
    gemm_packed(d, scan->states, change, pitch, rows, scan->weight, s->width, scan->gates, 1, scratch);
  }
  if (scan->dstart) copy(scan->dstart + first * scan->states, d, rows * scan->states);
}

static void tangent_block(const struct scan *scan, int64_t first, int64_t rows, real *scratch) {
  const struct recurrent_sequence *s = scan->s;
  real *t = take(&scratch, rows * scan->states), *tu = take(&scratch, rows * scan->gates),
       *before = take(&scratch, rows * scan->states), *none = take(&scratch, scan->gates),
       *zeros = take(&scratch, scan->states);
  clear(none, scan->gates);
  clear(zeros, scan->states);
  if (scan->tstart)
    copy(t, scan->tstart + first * scan->states, rows * scan->states);
  else
    clear(t, rows * scan->states);
  for (int64_t time = 0; time < s->times; time++) {
    fill_rows(tu, scan->tbias, rows, scan->gates);
    add_product(scan, tu, t, rows, scan->weight, scratch);
    if (scan->tweight) {
      for (int64_t i = 0; i < rows; i++)
        copy(before + i * scan->states, before_of(scan, first + i, time, zeros), scan->states);
      add_product(scan, tu, before, rows, scan->tweight, scratch);
    }
    for (int64_t i = 0; i < rows; i++) {
      int64_t at = place(scan, first + i, time);
      real *ti = t + i * scan->states;
      if (!stays(scan, first + i, time))
        s->cell->tangent(ti, scan->x ? scan->x + at * scan->gates : none, tu + i * scan->gates,
                         s->kept + at * scan->kept, s->states + at * scan->states,
                         before_of(scan, first + i, time, zeros), s->width);
      copy(scan->result + at * scan->states, ti, scan->states);
    }
  }
}

/* run for every block of rows, the weight packed before: as it stands (for products of h), or transposed (of du). */
static int scan_run(struct scan *scan, bool transposed, const real *tweight) {
  const struct recurrent_sequence *s = scan->s;
  scan->gates = s->cell->gates * s->width, scan->states = s->cell->states * s->width;
  scan->kept = RECURRENT_KEPT * s->width;
  if (s->batch == 0) return STATUS_OK;
  int64_t inputs = transposed ? scan->gates : s->width, outputs = transposed ? s->width : scan->gates;
  int64_t blocks = ceil_div(s->batch, ROWS), each = scratch_reals(scan);
  int64_t packed = round_up(gemm_packed_reals(inputs, outputs), 16);
  double work = (double)s->batch * (double)s->times * (double)s->width * (double)scan->gates;
  int threads = (int)(omp_in_parallel() || work < PARALLEL_THRESHOLD ? 1 : min(parallel_threads(), blocks));
  real *memory = memory_acquire((size_t)(2 * packed + threads * each) * sizeof(real));
  if (!memory) return STATUS_ERROR;
  real *first = memory + 2 * packed;
  gemm_pack(memory, transposed, s->weight, scan->gates, outputs, inputs);
  scan->weight = memory;
  if (tweight) {
    gemm_pack(memory + packed, transposed, tweight, scan->gates, outputs, inputs);
    scan->tweight = memory + packed;
  }
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t b = 0; b < blocks; b++) {
    int64_t row = s->batch * b / blocks, end = s->batch * (b + 1) / blocks;
    scan->run(scan, row, end - row, first + omp_get_thread_num() * each);
  }
  memory_release(memory);
  return STATUS_OK;
}

int recurrent_forward(const struct recurrent_sequence *sequence, const real *x) {
  return scan_run(&(struct scan){.s = sequence, .x = x, .run = forward_block}, false, NULL);
}

int recurrent_backward(real *dx, real *dstart, const struct recurrent_sequence *sequence, const real *gradient) {
  struct scan scan = {.s = sequence, .dx = dx, .dstart = dstart, .gradient = gradient, .run = backward_block};
  return scan_run(&scan, true, NULL);
}

int recurrent_tangent(real *result, const struct recurrent_sequence *sequence, const real *tx, const real *tweight,
                      const real *tbias, const real *tstart) {
  struct scan scan = {.s = sequence, .x = tx, .tbias = tbias, .tstart = tstart, .result = result};
  scan.run = tangent_block;
  return scan_run(&scan, false, tweight);
}
