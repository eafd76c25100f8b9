/* Running a plan of a fused program over blocks, on all threads. */
#include "../base/memory.h"
#include "../base/parallel.h"
#include "fuse.h"

/* Bytes of the L1 cache that a block's places may fill (less than half of it: the next block's operands come in
   meanwhile), and the least and most elements of a block: the cut depends on the program alone, so that no result
   depends on the number of threads. */
enum { CACHE_BYTES = 12 << 10, BLOCK_LEAST = 256, BLOCK_MOST = 2048, BLOCK_UNIT = 64 };

/* Bytes of operands and results from which on they are assumed to lie beyond the L2 cache: those of the next block are
   prefetched, some lines before each instruction. */
enum { PREFETCHED_BYTES = 4 << 20, LINE = 64 / sizeof(real) };

enum { PLACES = 2 * FUSE_INPUTS + FUSE_VALUES + FUSE_INPUTS + FUSE_INSTRUCTIONS + 1 };

struct run {
  const struct fuse_plan *plan;
  struct elementwise_walk walk;
  real *const *result;
  real *buffers;      /* of the first thread */
  int64_t per_thread; /* reals */
  bool prefetches;
};

/* What a thread has at hand. */
struct worker {
  const struct run *run;
  const real *at[PLACES]; /* of each place, its elements; the entry before the first is that of FUSE_NONE */
};

/* Part k of the block that follows `count` elements on: of operands to be read, of results to be written. */
static void prefetch_part(const struct fuse_plan *plan, const real *const *at, int64_t count, int k) {
  int64_t start = count * k / plan->count / LINE * LINE, end = count * (k + 1) / plan->count / LINE * LINE;
  const real *const *result = at + plan->operands + plan->numbers;
  for (int64_t i = count + start; i < count + end; i += LINE) {
    for (int o = 0; o < plan->operands; o++)
      if (at[o]) __builtin_prefetch(at[o] + i, 0, 3);
    for (int r = 0; r < plan->results; r++) __builtin_prefetch(result[r] + i, 1, 3);
  }
}

static void run_instructions(void *context, int64_t start, int64_t count) {
  struct worker *worker = context;
  const struct fuse_plan *plan = worker->run->plan;
  const real **at = worker->at + 1;
  for (int r = 0; r < plan->results; r++) at[plan->operands + plan->numbers + r] = worker->run->result[r] + start;
  for (int k = 0; k < plan->count; k++) {
    const struct fuse_instruction *i = &plan->instruction[k];
    if (worker->run->prefetches) prefetch_part(plan, at, count, k);
    i->kernel(&(struct elements){.result = (real *)at[i->result],
                                 .x = at[i->read[ELEMENTWISE_X]],
                                 .y = at[i->read[ELEMENTWISE_Y]],
                                 .z = at[i->read[ELEMENTWISE_Z]],
                                 .gradient = at[i->read[ELEMENTWISE_GRADIENT]],
                                 .output = at[i->read[ELEMENTWISE_OUTPUT]],
                                 .count = count,
                                 .value = i->value,
                                 .pair = &i->pair});
  }
}

/* The blocks of one of several threads. */
static void run_share(const struct run *run, int thread, int threads) {
  const struct fuse_plan *plan = run->plan;
  const int64_t block = run->walk.block, blocks = ceil_div(run->walk.count, block);
  struct worker worker;
  worker.run = run;
  worker.at[0] = NULL;
  const real **at = worker.at + 1;
  real *free = run->buffers + thread * run->per_thread;
  for (int k = 0; k < plan->operands; k++) at[k] = NULL;
  for (int k = 0; k < plan->numbers; k++, free += block) {
    for (int64_t i = 0; i < block; i++) free[i] = (real)plan->number[k];
    at[plan->operands + k] = free;
  }
  for (int k = 0; k < plan->buffers; k++, free += block) at[plan->operands + plan->numbers + plan->results + k] = free;
  for (int64_t b = blocks * thread / threads; b < blocks * (thread + 1) / threads; b++)
    elementwise_walk_block(&run->walk, b * block, free, at, run_instructions, &worker);
}

/* Elements of a block of so many places; no more than there are, whole lines of them. */
static int64_t block_of(int places, int64_t count) {
  int64_t block = CACHE_BYTES / (int64_t)sizeof(real) / places / BLOCK_UNIT * BLOCK_UNIT;
  if (block < BLOCK_LEAST) block = BLOCK_LEAST;
  if (block > BLOCK_MOST) block = BLOCK_MOST;
  return min(block, round_up(count, BLOCK_UNIT));
}

int fuse_run(const struct fuse_plan *plan, const struct shape *shape, struct tensor *const *operand,
             real *const *result) {
  struct run run = {.plan = plan, .result = result};
  if (shape_count(shape) == 0) return STATUS_OK;
  int64_t block = block_of(plan->operands + plan->numbers + plan->results + plan->buffers, shape_count(shape));
  struct tensor *opened[WALK_OPERANDS];
  STATUS_TRY(elementwise_open_operands(plan->operands, operand, opened));
  int status = elementwise_walk_plan(&run.walk, shape, plan->operands, opened, block);
  run.prefetches = run.walk.all_whole &&
                   run.walk.count * (int64_t)sizeof(real) * (plan->operands + plan->results) >= PREFETCHED_BYTES;
  int threads = run.walk.count > PARALLEL_THRESHOLD ? parallel_threads() : 1;
  run.per_thread = (plan->numbers + plan->buffers + (run.walk.all_whole ? 0 : plan->operands)) * block;
  run.buffers = status == STATUS_OK ? memory_acquire((size_t)(threads * run.per_thread) * sizeof(real)) : NULL;
  if (!run.buffers) {
    elementwise_release_operands(plan->operands, opened);
    return STATUS_ERROR;
  }
  if (threads == 1) {
    run_share(&run, 0, 1);
  } else {
#pragma omp parallel num_threads(threads)
    run_share(&run, omp_get_thread_num(), omp_get_num_threads());
  }
  memory_release(run.buffers);
  elementwise_release_operands(plan->operands, opened);
  return STATUS_OK;
}
