/* Convolution: planes padded with zeros, so that a tap (a position of the kernel) is a constant offset. */
#include "../../base/simd.h"
#include "back_end.h"

/* Rows are too short for calls of memmove, which GCC would make of the loops. */
#pragma GCC optimize("no-tree-loop-distribute-patterns")

/* to = `count` rows of a plane, each `vectors` whole vectors and `rest` reals long. */
VECTOR_INLINE void pad_copy(real *restrict to, int64_t pitch, const real *restrict from, int64_t width, int64_t count,
                            const int64_t vectors, const int64_t rest) {
  for (; count > 0; count--, to += pitch, from += width) {
    int64_t j = 0;
    for (; j < vectors * VECTOR_LANES; j += VECTOR_LANES)
      *(vector_unaligned *)(to + j) = *(const vector_unaligned *)(from + j);
    for (int64_t k = j; k < j + rest; k++) to[k] = from[k];
  }
}

/* The same, even and odd columns apart. */
VECTOR_INLINE void pad_deal(real *restrict even, real *restrict odd, int64_t pitch, const real *restrict from,
                            int64_t width, int64_t count, const int64_t pairs, const int64_t rest) {
#define PAD_DEAL(lane, first) (2 * (lane) + (first))
  const vector_order evens = VECTOR_ORDER(PAD_DEAL, 0), odds = VECTOR_ORDER(PAD_DEAL, 1);
#undef PAD_DEAL
  for (; count > 0; count--, even += pitch, odd += pitch, from += width) {
    int64_t j = 0;
    for (; j < pairs * VECTOR_LANES; j += VECTOR_LANES) {
      vector x = *(const vector_unaligned *)(from + 2 * j);
      vector y = *(const vector_unaligned *)(from + 2 * j + VECTOR_LANES);
      *(vector_unaligned *)(even + j) = __builtin_shuffle(x, y, evens);
      *(vector_unaligned *)(odd + j) = __builtin_shuffle(x, y, odds);
    }
    for (int64_t k = 0; k < rest; k++) (k % 2 ? odd : even)[j + k / 2] = from[2 * j + k];
  }
}

/* Rows of a plane to their places between the zeros; the usual lengths as constants. */
static void pad_rows(real *to, const struct conv_padded *padded, const real *from, int64_t width, int64_t count,
                     int64_t inside) {
  int64_t pitch = padded->pitch;
  real *start = to + conv_padded_column(padded, padded->left);
  real *second = to + conv_padded_column(padded, padded->left + 1);
  if (padded->split == 1) {
    int64_t vectors = inside / VECTOR_LANES, rest = inside % VECTOR_LANES;
    if (rest == 0 && vectors == 1)
      pad_copy(start, pitch, from, width, count, 1, 0);
    else if (rest == 0 && vectors == 2)
      pad_copy(start, pitch, from, width, count, 2, 0);
    else
      pad_copy(start, pitch, from, width, count, vectors, rest);
  } else if (padded->split == 2) {
    int64_t pairs = inside / (2 * VECTOR_LANES), rest = inside % (2 * VECTOR_LANES);
    if (rest == 0 && pairs == 1)
      pad_deal(start, second, pitch, from, width, count, 1, 0);
    else
      pad_deal(start, second, pitch, from, width, count, pairs, rest);
  } else {
    for (int64_t first = 0; first < min(padded->split, inside); first++) {
      real *part = to + conv_padded_column(padded, padded->left + first);
      for (int64_t i = 0; i < count; i++)
        for (int64_t j = first, k = 0; j < inside; j += padded->split, k++) part[i * pitch + k] = from[i * width + j];
    }
  }
}

struct conv_padded conv_padded_of(const struct conv_geometry *geometry) {
  struct conv_padded padded = {.top = geometry->y.padding,
                               .left = geometry->x.padding,
                               .rows = conv_axis_extent(&geometry->y),
                               .pitch = conv_axis_extent(&geometry->x),
                               .split = 1};
  padded.part = padded.pitch, padded.plane = padded.rows * padded.pitch;
  return padded;
}

void conv_pad(real *to, const struct conv_padded *padded, const real *x, int64_t channels, int64_t height,
              int64_t width, int64_t first, int64_t rows) {
  int64_t pitch = padded->pitch, inside = min(width, pitch - padded->left);
  int64_t top = first < padded->top ? padded->top - first : 0, from = top + first - padded->top;
  int64_t count = min(rows - top, height - from);
  x += from * width;
  to += top * pitch;
  for (int64_t c = 0; c < channels; c++, to += padded->plane, x += height * width)
    pad_rows(to, padded, x, width, count, inside);
}
