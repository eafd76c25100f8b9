/* Formatting: what print(x) shows. */
#include <math.h>
#include <string.h>

#include "../../runtime/base/memory.h"
#include "../../runtime/tensor/tensor.h"
#include "check.h"

static void expect(struct tensor *t, const char *expected) {
  /* The same in both builds. */
  char *text = tensor_format(t), *wide = text ? strstr(text, "float64") : NULL;
  if (wide) memcpy(wide, "float32", 7);
  CHECK(text && strcmp(text, expected) == 0, "formatted as\n%swhere this was expected\n%s", text ? text : "nothing ",
        expected);
  memory_delete(text);
  tensor_release(t);
}

static struct tensor *filled(enum element_type type, struct shape shape, const double *value) {
  struct tensor *t = tensor_zeros(TYPE_REAL, &shape);
  for (int64_t i = 0; i < tensor_count(t); i++) tensor_real(t)[i] = (real)(value ? value[i] : (double)(i + 1));
  struct tensor *converted = tensor_convert(t, type);
  tensor_release(t);
  return converted;
}

void test_format(void) {
  expect(tensor_scalar((real)2.5), "tensor () float32\n  2.5000\n");
  expect(filled(TYPE_REAL, shape_of(2, (int64_t)2, (int64_t)3), (double[]){1, -2.5, 3, 100, 0.25, 0}),
         "tensor (2×3) float32\n"
         "    1.0000   -2.5000    3.0000\n"
         "  100.0000    0.2500    0.0000\n");
  expect(filled(TYPE_INT32, shape_of(1, (int64_t)4), (double[]){1, -20, 300, 4}),
         "tensor (4) int32\n    1  -20  300    4\n");
  expect(filled(TYPE_UINT8, shape_of(2, (int64_t)1, (int64_t)2), NULL), "tensor (1×2) uint8\n  1  2\n");
  expect(filled(TYPE_REAL, shape_of(1, (int64_t)4), (double[]){NAN, INFINITY, -INFINITY, 1}),
         "tensor (4) float32\n     nan     inf    -inf  1.0000\n");
  expect(filled(TYPE_REAL, shape_of(1, (int64_t)2), (double[]){1e-5, -2e-5}),
         "tensor (2) float32\n   1.0000e-05  -2.0000e-05\n");
  expect(filled(TYPE_REAL, shape_of(2, (int64_t)3, (int64_t)0), NULL), "tensor (3×0) float32\n  no elements\n");
  expect(filled(TYPE_INT32, shape_of(3, (int64_t)2, (int64_t)1, (int64_t)2), NULL),
         "tensor (2×1×2) int32\n[1]\n  1  2\n[2]\n  3  4\n");
  expect(filled(TYPE_INT32, shape_of(2, (int64_t)40, (int64_t)30), NULL),
         "tensor (40×30) int32\n"
         "     1     2     3     …    28    29    30\n"
         "    31    32    33     …    58    59    60\n"
         "    61    62    63     …    88    89    90\n"
         "     …\n"
         "  1111  1112  1113     …  1138  1139  1140\n"
         "  1141  1142  1143     …  1168  1169  1170\n"
         "  1171  1172  1173     …  1198  1199  1200\n");
  struct tensor *t = filled(TYPE_INT32, shape_of(2, (int64_t)2, (int64_t)3), NULL);
  expect(tensor_transpose(t, 0, 1), "tensor (3×2) int32\n  1  4\n  2  5\n  3  6\n");
  tensor_release(t);

  /* A long row is wrapped, and nothing of it is lost. */
  t = filled(TYPE_INT32, shape_of(1, (int64_t)200), NULL);
  char *text = tensor_format(t);
  size_t longest = 0;
  for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
    if (strcspn(line, "\n") > longest) longest = strcspn(line, "\n");
  CHECK(longest <= 100 && strstr(text, " 200\n"), "longest line has %zu bytes", longest);
  memory_delete(text);
  tensor_release(t);
}
