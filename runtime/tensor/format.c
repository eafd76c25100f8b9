/* Format: tensors as text. A line with shape and type, then the rows with aligned columns; of more than
   SUMMARY_THRESHOLD elements only the first and last EDGE of each long dimension. From rank 3 on, one block of rows for
   each index of the leading dimensions, headed by it as a script would write it: [1][2]. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../base/memory.h"
#include "tensor.h"

enum { SUMMARY_THRESHOLD = 1000, EDGE = 3, LINE_WIDTH = 100, NUMBER_LENGTH = 40 };

struct text {
  char *start; /* NULL after a failed allocation: further appends do nothing */
  size_t length, capacity;
};

static void append(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void append(struct text *text, const char *format, ...) {
  char piece[256];
  va_list values;
  va_start(values, format);
  int written = vsnprintf(piece, sizeof piece, format, values);
  va_end(values);
  if (!text->start || written < 0) return;
  size_t length = (size_t)written < sizeof piece ? (size_t)written : sizeof piece - 1;
  if (text->length + length + 1 > text->capacity) {
    size_t capacity = 2 * (text->capacity + length);
    char *longer = memory_new(capacity, 1);
    if (longer) memcpy(longer, text->start, text->length);
    memory_delete(text->start);
    text->start = longer;
    text->capacity = capacity;
    if (!longer) return;
  }
  memcpy(text->start + text->length, piece, length + 1);
  text->length += length;
}

/* What of a tensor is shown, and how its numbers are written. */
struct layout {
  const struct tensor *tensor;
  bool summarised;
  bool scientific;
  int width; /* columns of the widest number */
};

/* Places along a dimension: its indices, or EDGE of them, one for the gap (-1), and EDGE again. */
static int64_t places(const struct layout *layout, int dimension) {
  int64_t size = layout->tensor->shape.size[dimension];
  return layout->summarised && size > 2 * EDGE ? 2 * EDGE + 1 : size;
}

static int64_t index_at(const struct layout *layout, int dimension, int64_t place) {
  int64_t shown = places(layout, dimension), size = layout->tensor->shape.size[dimension];
  if (shown == size || place < EDGE) return place;
  return place == EDGE ? -1 : size - (shown - place);
}

static void number_text(const struct layout *layout, double value, char *out) {
  if (layout->tensor->type != TYPE_REAL)
    snprintf(out, NUMBER_LENGTH, "%.0f", value);
  else if (isnan(value))
    snprintf(out, NUMBER_LENGTH, "nan");
  else if (isinf(value))
    snprintf(out, NUMBER_LENGTH, value > 0 ? "inf" : "-inf");
  else
    snprintf(out, NUMBER_LENGTH, layout->scientific ? "%.4e" : "%.4f", value);
}

/* Calls visit for every shown element, from dimension on. */
static void each_shown(const struct layout *layout, int dimension, int64_t *index,
                       void (*visit)(double value, void *result), void *result) {
  if (dimension == layout->tensor->shape.rank) {
    visit(tensor_get(layout->tensor, index), result);
    return;
  }
  for (int64_t place = 0; place < places(layout, dimension); place++) {
    index[dimension] = index_at(layout, dimension, place);
    if (index[dimension] >= 0) each_shown(layout, dimension + 1, index, visit, result);
  }
}

static void find_largest(double value, void *result) {
  double *largest = result;
  if (isfinite(value) && fabs(value) > *largest) *largest = fabs(value);
}

static void find_width(double value, void *result) {
  struct layout *layout = result;
  char number[NUMBER_LENGTH];
  number_text(layout, value, number);
  if ((int)strlen(number) > layout->width) layout->width = (int)strlen(number);
}

static void append_gap(struct text *text, int width) { append(text, "%*s…", width - 1, ""); }

/* One row, along the last dimension; what does not fit the line goes on in the next, further in. */
static void append_row(struct text *text, const struct layout *layout, int64_t *index) {
  int last = layout->tensor->shape.rank - 1, column = 0;
  for (int64_t place = 0; place < (last < 0 ? 1 : places(layout, last)); place++) {
    if (column > 0 && column + 2 + layout->width > LINE_WIDTH) {
      append(text, "\n  ");
      column = 2;
    }
    append(text, "  ");
    column += 2 + layout->width;
    if (last >= 0 && (index[last] = index_at(layout, last, place)) < 0) {
      append_gap(text, layout->width);
      continue;
    }
    char number[NUMBER_LENGTH];
    number_text(layout, tensor_get(layout->tensor, index), number);
    append(text, "%*s", layout->width, number);
  }
  append(text, "\n");
}

static void append_block(struct text *text, const struct layout *layout, int dimension, int64_t *index) {
  int rank = layout->tensor->shape.rank;
  if (dimension >= rank - 1) {
    append_row(text, layout, index);
    return;
  }
  for (int64_t place = 0; place < places(layout, dimension); place++) {
    index[dimension] = index_at(layout, dimension, place);
    if (index[dimension] < 0) {
      append(text, dimension == rank - 2 ? "  " : "");
      append_gap(text, dimension == rank - 2 ? layout->width : 1);
      append(text, "\n");
      continue;
    }
    if (dimension == rank - 3) {
      for (int i = 0; i <= dimension; i++) append(text, "[%lld]", (long long)(index[i] + 1));
      append(text, "\n");
    }
    append_block(text, layout, dimension + 1, index);
  }
}

char *tensor_format(const struct tensor *tensor) {
  struct text text = {.capacity = 256};
  text.start = memory_new(text.capacity, 1);
  append(&text, "tensor %s %s\n", shape_text(&tensor->shape), type_name(tensor->type));
  if (tensor_count(tensor) == 0) {
    append(&text, "  no elements\n");
    return text.start;
  }
  struct layout layout = {.tensor = tensor, .summarised = tensor_count(tensor) > SUMMARY_THRESHOLD, .width = 1};
  int64_t index[TENSOR_MAX_RANK];
  double largest = 0;
  each_shown(&layout, 0, index, find_largest, &largest);
  layout.scientific = largest >= 1e6 || (largest > 0 && largest < 1e-2);
  each_shown(&layout, 0, index, find_width, &layout);
  append_block(&text, &layout, 0, index);
  return text.start;
}
