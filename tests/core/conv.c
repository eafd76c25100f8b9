/* Convolution: forward, the gradients of data, weight and bias, and patches against plain loops, over many drawn
   geometries (strides, padding, dilation, groups, sizes about those of vectors); and the same bits for any number of
   threads. */
#include <math.h>
#include <string.h>

#include "../../runtime/base/memory.h"
#include "../../runtime/base/parallel.h"
#include "../../runtime/ops/conv.h"
#include "check.h"

static uint64_t drawn;

static int64_t draw(int64_t least, int64_t most) {
  drawn = drawn * 6364136223846793005u + 1442695040888963407u;
  return least + (int64_t)((drawn >> 33) % (uint64_t)(most - least + 1));
}

static real *filled(int64_t count) {
  real *values = memory_acquire((size_t)count * sizeof(real));
  random_fill_normal(random_next_stream(), values, count);
  return values;
}

static double *zeros(int64_t count) {
  double *values = memory_acquire((size_t)count * sizeof(double));
  memset(values, 0, (size_t)count * sizeof(double));
  return values;
}

static struct conv_axis draw_axis(int64_t most) {
  struct conv_axis axis;
  do {
    axis = (struct conv_axis){.size = draw(1, most),
                              .kernel = draw(1, 5),
                              .stride = draw(1, 3),
                              .padding = draw(0, 3),
                              .dilation = draw(1, 2)};
    int64_t reach = axis.size + 2 * axis.padding - (axis.kernel - 1) * axis.dilation;
    axis.places = reach < 1 ? 0 : (reach - 1) / axis.stride + 1;
  } while (axis.places < 1);
  return axis;
}

static struct conv_geometry draw_geometry(void) {
  return (struct conv_geometry){.images = draw(0, 3) ? draw(1, 4) : draw(8, 20),
                                .groups = draw(0, 2) ? 1 : draw(2, 3),
                                .channels = draw(0, 2) ? draw(1, 6) : draw(7, 34),
                                .outputs = draw(0, 2) ? draw(1, 18) : draw(19, 70),
                                .y = draw_axis(draw(0, 2) ? 9 : 20),
                                .x = draw_axis(draw(0, 2) ? 12 : 40)};
}

static int64_t input_count(const struct conv_geometry *geometry) {
  return geometry->images * geometry->groups * geometry->channels * geometry->y.size * geometry->x.size;
}
static int64_t output_count(const struct conv_geometry *geometry) {
  return geometry->images * geometry->groups * geometry->outputs * geometry->y.places * geometry->x.places;
}
static int64_t weight_count(const struct conv_geometry *geometry) {
  return geometry->groups * geometry->outputs * geometry->channels * geometry->y.kernel * geometry->x.kernel;
}

/* What each product of the sum gives to the gradients; scale: the same with sizes. */
static void naive_gradients(double *dx, double *dweight, double *dbias, const real *gradient, const real *x,
                            const real *weight, const struct conv_geometry *geometry) {
  const struct conv_axis *y = &geometry->y, *z = &geometry->x;
  int64_t channels = geometry->channels, outputs = geometry->groups * geometry->outputs;
  for (int64_t at = 0; at < output_count(geometry); at++) {
    int64_t j = at % z->places, i = at / z->places % y->places, o = at / z->places / y->places % outputs;
    int64_t image = at / z->places / y->places / outputs, group = o / geometry->outputs;
    dbias[o] += (double)gradient[at];
    for (int64_t tap = 0; tap < channels * y->kernel * z->kernel; tap++) {
      int64_t c = tap / (y->kernel * z->kernel), ky = tap / z->kernel % y->kernel, kx = tap % z->kernel;
      int64_t from_y = i * y->stride - y->padding + ky * y->dilation;
      int64_t from_x = j * z->stride - z->padding + kx * z->dilation;
      if (from_y < 0 || from_y >= y->size || from_x < 0 || from_x >= z->size) continue;
      int64_t input = (((image * geometry->groups + group) * channels + c) * y->size + from_y) * z->size + from_x;
      int64_t parameter = o * channels * y->kernel * z->kernel + tap;
      dx[input] += (double)gradient[at] * (double)weight[parameter];
      dweight[parameter] += (double)gradient[at] * (double)x[input];
    }
  }
}

/* The largest difference over the largest value. */
static double difference(const real *values, const double *reference, int64_t count) {
  double worst = 0, size = 1e-3;
  for (int64_t i = 0; i < count; i++) {
    double here = fabs((double)values[i] - reference[i]);
    if (!(here <= worst)) worst = isnan(here) ? INFINITY : here;
    if (fabs(reference[i]) > size) size = fabs(reference[i]);
  }
  return worst / size;
}

static double *widened(const real *values, int64_t count) {
  double *wide = zeros(count);
  for (int64_t i = 0; i < count; i++) wide[i] = (double)values[i];
  return wide;
}

static void check_geometry(const struct conv_geometry *geometry, int number) {
  int64_t inputs = input_count(geometry), results = output_count(geometry), weights = weight_count(geometry);
  int64_t outputs = geometry->groups * geometry->outputs;
  real *x = filled(inputs), *weight = filled(weights), *bias = filled(outputs), *gradient = filled(results);
  real *output = filled(results), *naive = filled(results), *dx = filled(inputs), *dweight = filled(weights),
       *dbias = filled(outputs);
  double *dx_naive = zeros(inputs), *dweight_naive = zeros(weights), *dbias_naive = zeros(outputs);

  conv_naive_forward(naive, x, weight, bias, geometry);
  naive_gradients(dx_naive, dweight_naive, dbias_naive, gradient, x, weight, geometry);
  double *forward_naive = widened(naive, results);
  const double allowed = CHECK_IS_DOUBLE ? 1e-12 : 2e-5;
  bool ran = conv_forward(output, x, weight, bias, geometry) == 0 &&
             conv_data_gradient(dx, gradient, weight, geometry) == 0 &&
             conv_weight_gradient(dweight, dbias, gradient, x, geometry) == 0;
  const struct {
    const char *name;
    double difference;
  } result[] = {{"forward", difference(output, forward_naive, results)},
                {"gradient of data", difference(dx, dx_naive, inputs)},
                {"gradient of weight", difference(dweight, dweight_naive, weights)},
                {"gradient of bias", difference(dbias, dbias_naive, outputs)}};
  for (int i = 0; i < 4; i++)
    CHECK(ran && result[i].difference <= allowed, "drawn geometry %d: %s off by %g", number, result[i].name,
          result[i].difference);

  int threads = parallel_threads();
  real *again = filled(results), *dx_again = filled(inputs), *dweight_again = filled(weights);
  parallel_set_threads(threads == 1 ? 3 : 1);
  ran = conv_forward(again, x, weight, bias, geometry) == 0 &&
        conv_data_gradient(dx_again, gradient, weight, geometry) == 0 &&
        conv_weight_gradient(dweight_again, dbias, gradient, x, geometry) == 0;
  parallel_set_threads(threads);
  CHECK(ran && memcmp(output, again, (size_t)results * sizeof(real)) == 0 &&
            memcmp(dx, dx_again, (size_t)inputs * sizeof(real)) == 0 &&
            memcmp(dweight, dweight_again, (size_t)weights * sizeof(real)) == 0,
        "drawn geometry %d: other bits with another number of threads", number);

  void *buffers[] = {x,     weight,   bias,          gradient,    output,        naive, dx,       dweight,
                     dbias, dx_naive, dweight_naive, dbias_naive, forward_naive, again, dx_again, dweight_again};
  for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) memory_release(buffers[i]);
}

/* Forward is patches times weight: what the factors of conv2d rest on. */
static void patches(void) {
  const struct conv_geometry geometry = {
      .images = 1,
      .groups = 1,
      .channels = 3,
      .outputs = 5,
      .y = {.size = 7, .places = 4, .kernel = 3, .stride = 2, .padding = 1, .dilation = 1},
      .x = {.size = 9, .places = 8, .kernel = 2, .stride = 1, .padding = 1, .dilation = 3}};
  int64_t places = geometry.y.places * geometry.x.places, width = geometry.channels * 6;
  real *x = filled(input_count(&geometry)), *weight = filled(weight_count(&geometry));
  real *output = filled(output_count(&geometry)), *rows = filled(places * width),
       *product = filled(output_count(&geometry));
  conv_naive_forward(output, x, weight, NULL, &geometry);
  conv_patches(rows, x, &geometry, 0, places / 2);
  conv_patches(rows + places / 2 * width, x, &geometry, places / 2, places - places / 2);
  matmul_gemm_naive(false, true, geometry.outputs, places, width, 1, weight, width, rows, width, 0, product, places);
  double *reference = widened(output, output_count(&geometry));
  double off = difference(product, reference, output_count(&geometry));
  CHECK(off <= (CHECK_IS_DOUBLE ? 1e-13 : 1e-5), "weight times patches is off by %g", off);
  void *buffers[] = {x, weight, output, rows, product, reference};
  for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) memory_release(buffers[i]);
}

void test_conv(void) {
  patches();
  for (int number = 0; number < 150; number++) {
    drawn = (uint64_t)number * 77 + 1;
    struct conv_geometry geometry = draw_geometry();
    if ((double)output_count(&geometry) * (double)geometry.channels * (double)(geometry.y.kernel * geometry.x.kernel) <
        2e7)
      check_geometry(&geometry, number);
  }
}
