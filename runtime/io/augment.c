/* Augment: an image turned, and one of its rectangles erased, as it is put into a batch. */
#include <math.h>

#include "io.h"

static real pixel(const real *plane, int64_t height, int64_t width, int64_t y, int64_t x, real blank) {
  return y >= 0 && y < height && x >= 0 && x < width ? plane[y * width + x] : blank;
}

void augment_turn(real *out, const real *in, const real *offset, int64_t channels, int64_t height, int64_t width,
                  double degrees) {
  const double PI = 3.14159265358979323846;
  double cosine = cos(degrees * PI / 180), sine = sin(degrees * PI / 180);
  double middle_y = 0.5 * (double)(height - 1), middle_x = 0.5 * (double)(width - 1);
  for (int64_t y = 0; y < height; y++)
    for (int64_t x = 0; x < width; x++) {
      double down = (double)y - middle_y, right = (double)x - middle_x;
      double from_y = cosine * down + sine * right + middle_y, from_x = cosine * right - sine * down + middle_x;
      int64_t above = (int64_t)floor(from_y), left = (int64_t)floor(from_x);
      real lower = (real)(from_y - (double)above), righter = (real)(from_x - (double)left);
      for (int64_t c = 0; c < channels; c++) {
        const real *plane = in + c * height * width;
        real blank = -offset[c];
        real top = (1 - righter) * pixel(plane, height, width, above, left, blank) +
                   righter * pixel(plane, height, width, above, left + 1, blank);
        real bottom = (1 - righter) * pixel(plane, height, width, above + 1, left, blank) +
                      righter * pixel(plane, height, width, above + 1, left + 1, blank);
        out[(c * height + y) * width + x] = (1 - lower) * top + lower * bottom;
      }
    }
}

static double between(uint32_t word, double low, double high) { return low + (high - low) * (word * 0x1p-32); }

static int64_t side(double length, int64_t most) {
  int64_t whole = (int64_t)(length + 0.5);
  return whole < 1 ? 1 : whole > most ? most : whole;
}

/* Share of the area and ratio of the sides as PyTorch draws them. */
void augment_erase(real *image, int64_t channels, int64_t height, int64_t width, const uint32_t word[4]) {
  double area = between(word[0], 0.02, 0.33) * (double)(height * width);
  double ratio = exp(between(word[1], log(0.3), log(3.3)));
  int64_t rows = side(sqrt(area * ratio), height), columns = side(sqrt(area / ratio), width);
  int64_t top = (int64_t)(word[2] * (uint64_t)(height - rows + 1) >> 32);
  int64_t left = (int64_t)(word[3] * (uint64_t)(width - columns + 1) >> 32);
  for (int64_t c = 0; c < channels; c++)
    for (int64_t y = top; y < top + rows; y++)
      for (int64_t x = left; x < left + columns; x++) image[(c * height + y) * width + x] = 0;
}
