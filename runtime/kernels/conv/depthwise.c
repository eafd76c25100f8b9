/* Convolution: gradient of the weight where every channel is a group of its own with one output. For each tap it is the
   inner product of the output's gradient with the inputs under it, vectors along a row. Threads have blocks of images,
   whose number depends on the shapes alone.
   The row that keeps it: conv2d 128×16×32×32, 16 of 3×3, 16 groups, whose gradient of the weight takes 3.2 times as
   long in weight.c. */
#include <string.h>

#include "../../base/memory.h"
#include "../../base/parallel.h"
#include "../../base/simd.h"
#include "back_end.h"

enum { MOST_BLOCKS = 16 }; /* of images */

/* total[tap] += ⟨gradient, the inputs that the tap sees⟩ of one image; sum: a vector for each tap. */
static void add_image(double *total, vector *sum, const real *gradient, const real *padded, int64_t pitch,
                      const struct conv_geometry *geometry) {
  const struct conv_axis *y = &geometry->y, *x = &geometry->x;
  int64_t taps = y->kernel * x->kernel, whole = x->places - x->places % VECTOR_LANES;
  for (int64_t tap = 0; tap < taps; tap++) sum[tap] = (vector){0};
  for (int64_t i = 0; i < y->places; i++, gradient += x->places) {
    const real *line = padded + i * y->stride * pitch;
    for (int64_t j = 0; j < whole; j += VECTOR_LANES) {
      vector g = *(const vector_unaligned *)(gradient + j);
      for (int64_t ky = 0, tap = 0; ky < y->kernel; ky++)
        for (int64_t kx = 0; kx < x->kernel; kx++, tap++)
          sum[tap] += g * *(const vector_unaligned *)(line + ky * y->dilation * pitch + kx * x->dilation + j);
    }
    for (int64_t ky = 0, tap = 0; ky < y->kernel && whole < x->places; ky++)
      for (int64_t kx = 0; kx < x->kernel; kx++, tap++) {
        const real *under = line + ky * y->dilation * pitch + kx * x->dilation;
        real rest = 0;
        for (int64_t j = whole; j < x->places; j++) rest += gradient[j] * under[j];
        total[tap] += (double)rest;
      }
  }
  for (int64_t tap = 0; tap < taps; tap++)
    for (int lane = 0; lane < VECTOR_LANES; lane++) total[tap] += (double)sum[tap][lane];
}

int conv_depthwise_weight_gradient(real *dweight, const real *gradient, const real *x,
                                   const struct conv_geometry *geometry) {
  const struct conv_axis *vertical = &geometry->y, *horizontal = &geometry->x;
  const struct conv_padded padded = conv_padded_of(geometry);
  int64_t taps = vertical->kernel * horizontal->kernel, groups = geometry->groups, images = geometry->images;
  int64_t input = vertical->size * horizontal->size, output = vertical->places * horizontal->places;
  int64_t plane = round_up(padded.plane, VECTOR_LANES);
  int64_t blocks = min(images, MOST_BLOCKS), block_size = groups * taps;
  size_t each = (size_t)plane * sizeof(real) + (size_t)taps * sizeof(vector);
  int threads = parallel_threads();
  double *totals = memory_acquire((size_t)(blocks * block_size) * sizeof(double));
  char *scratch = totals ? memory_acquire((size_t)threads * each) : NULL;
  if (!scratch) {
    memory_release(totals);
    return STATUS_ERROR;
  }
  memset(totals, 0, (size_t)(blocks * block_size) * sizeof(double));
#pragma omp parallel for schedule(dynamic) \
    num_threads(threads) if (images * groups * output * taps > PARALLEL_THRESHOLD)
  for (int64_t block = 0; block < blocks; block++) {
    vector *sum = (vector *)(scratch + (size_t)omp_get_thread_num() * each);
    real *image = (real *)(sum + taps);
    memset(image, 0, (size_t)plane * sizeof(real));
    for (int64_t n = block * images / blocks; n < (block + 1) * images / blocks; n++)
      for (int64_t group = 0; group < groups; group++) {
        int64_t at = n * groups + group;
        conv_pad(image, &padded, x + at * input, 1, vertical->size, horizontal->size, 0, padded.rows);
        add_image(totals + block * block_size + group * taps, sum, gradient + at * output, image, padded.pitch,
                  geometry);
      }
  }
  for (int64_t i = 0; i < block_size; i++) {
    double total = 0;
    for (int64_t block = 0; block < blocks; block++) total += totals[block * block_size + i];
    dweight[i] = (real)total;
  }
  memory_release(scratch);
  memory_release(totals);
  return STATUS_OK;
}
