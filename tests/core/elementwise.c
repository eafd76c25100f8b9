/* Elementwise ops: values against PyTorch (2.15, in double), infinities and NaN, broadcasting against plain loops,
   comparisons of integers, dropout's statistics, and the errors. */
#include <math.h>
#include <string.h>

#include "../../runtime/base/memory.h"
#include "../../runtime/ops/op.h"
#include "check.h"

enum { GIVEN = 6 };
static const double mixed[GIVEN] = {-2, -0.5, 0, 0.3, 1, 4}, positive[GIVEN] = {0.25, 0.5, 1, 1.5, 2, 9};

/* torch.NAME or torch.nn.functional.NAME of the inputs above. */
static const struct {
  const char *name;
  const double *input;
  double expected[GIVEN];
} unary[] = {
    {"neg", mixed, {2, 0.5, -0, -0.3, -1, -4}},
    {"abs", mixed, {2, 0.5, 0, 0.3, 1, 4}},
    {"sign", mixed, {-1, -1, 0, 1, 1, 1}},
    {"floor", mixed, {-2, -1, 0, 0, 1, 4}},
    {"ceil", mixed, {-2, -0, 0, 1, 1, 4}},
    {"round", mixed, {-2, -0, 0, 0, 1, 4}},
    {"exp", mixed, {0.135335283236613, 0.606530659712633, 1, 1.349858807576, 2.71828182845905, 54.5981500331442}},
    {"expm1",
     mixed,
     {-0.864664716763387, -0.393469340287367, 0, 0.349858807576003, 1.71828182845905, 53.5981500331442}},
    {"square", mixed, {4, 0.25, 0, 0.09, 1, 16}},
    {"sin",
     mixed,
     {-0.909297426825682, -0.479425538604203, 0, 0.29552020666134, 0.841470984807897, -0.756802495307928}},
    {"cos", mixed, {-0.416146836547142, 0.877582561890373, 1, 0.955336489125606, 0.54030230586814, -0.653643620863612}},
    {"tanh",
     mixed,
     {-0.964027580075817, -0.46211715726001, 0, 0.291312612451591, 0.761594155955765, 0.999329299739067}},
    {"sigmoid",
     mixed,
     {0.119202922022118, 0.377540668798145, 0.5, 0.574442516811659, 0.731058578630005, 0.982013790037908}},
    {"softplus",
     mixed,
     {0.126928011042972, 0.474076984180107, 0.693147180559945, 0.854355244468527, 1.31326168751822, 4.01814992791781}},
    {"relu", mixed, {0, 0, 0, 0.3, 1, 4}},
    {"leaky_relu", mixed, {-0.02, -0.005, 0, 0.3, 1, 4}},
    {"elu", mixed, {-0.864664716763387, -0.393469340287367, 0, 0.3, 1, 4}},
    {"gelu",
     mixed,
     {-0.0455002638963584, -0.154268769362993, 0, 0.185373426656686, 0.841344746068543, 3.99987331503267}},
    {"silu",
     mixed,
     {-0.238405844044235, -0.188770334399073, 0, 0.172332755043498, 0.731058578630005, 3.92805516015163}},
    {"erf",
     mixed,
     {-0.995322265018953, -0.520499877813047, 0, 0.328626759459127, 0.842700792949715, 0.999999984582742}},
    {"reciprocal", positive, {4, 2, 1, 0.666666666666667, 0.5, 0.111111111111111}},
    {"log",
     positive,
     {-1.38629436111989, -0.693147180559945, 0, 0.405465108108164, 0.693147180559945, 2.19722457733622}},
    {"log1p",
     positive,
     {0.22314355131421, 0.405465108108164, 0.693147180559945, 0.916290731874155, 1.09861228866811, 2.30258509299405}},
    {"sqrt", positive, {0.5, 0.707106781186547, 1, 1.22474487139159, 1.41421356237309, 3}},
    {"rsqrt", positive, {2, 1.41421356237309, 1, 0.816496580927726, 0.707106781186547, 0.333333333333333}},
};

static const double gelu_by_tanh[GIVEN] = {-0.04540230591222494, -0.15428599017485606, 0,
                                           0.18537092354275922,  0.8411919906082768,   3.9999297540518075};

/* A vector long enough for vectorised loops and their tails, the values in turn. */
enum { LENGTH = 75 };

static struct tensor *repeated(const double *value, int count) {
  struct tensor *t = tensor_new(TYPE_REAL, &(struct shape){.rank = 1, .size = {LENGTH}});
  for (int64_t i = 0; t && i < LENGTH; i++) tensor_real(t)[i] = (real)value[i % count];
  return t;
}

static bool near(double got, double expected) {
  if (isnan(expected)) return isnan(got);
  if (isinf(expected)) return got == expected;
  return fabs(got - expected) <= (CHECK_IS_DOUBLE ? 1e-13 : 1e-6) * fmax(1, fabs(expected));
}

static void expect(const char *name, const struct op_value *values, const double *given, const double *expected,
                   int count) {
  struct tensor *x = repeated(given, count), *y = op_run(op_find(name), 1, &x, values);
  CHECK(y, "%s: %s", name, status_message());
  for (int64_t i = 0; y && i < LENGTH; i++)
    if (!CHECK(near((double)tensor_real(y)[i], expected[i % count]), "%s(%g) is %.15g, should be %.15g", name,
               given[i % count], (double)tensor_real(y)[i], expected[i % count]))
      break;
  tensor_release(x);
  tensor_release(y);
}

static void check_values(void) {
  struct op_value none[OP_MAX_PARAMETERS] = {0}, slope[OP_MAX_PARAMETERS] = {{.number = 0.01}};
  struct op_value alpha[OP_MAX_PARAMETERS] = {{.number = 1}}, tanh_form[OP_MAX_PARAMETERS] = {{.list = {1}}};
  for (size_t k = 0; k < sizeof unary / sizeof unary[0]; k++) {
    const char *name = unary[k].name;
    const struct op_value *values = strcmp(name, "leaky_relu") == 0 ? slope : strcmp(name, "elu") == 0 ? alpha : none;
    expect(name, values, unary[k].input, unary[k].expected, GIVEN);
  }
  expect("gelu", tanh_form, mixed, gelu_by_tanh, GIVEN);
  struct op_value numbers[OP_MAX_PARAMETERS] = {{.number = -2}, {.number = 0.5}};
  expect("affine", numbers, mixed, (double[]){4.5, 1.5, 0.5, -0.1, -1.5, -7.5}, GIVEN);
  numbers[0].number = -0.4;
  expect("clamp", numbers, mixed, (double[]){-0.4, -0.4, 0, 0.3, 0.5, 0.5}, GIVEN);
  numbers[0].number = -0.5;
  expect("power", numbers, positive, (double[]){2, M_SQRT2, 1, 0.816496580927726, M_SQRT1_2, 1.0 / 3}, GIVEN);
}

static void check_extremes(void) {
  const double given[] = {INFINITY, -INFINITY, NAN, 1000, -1000, 0};
  static const struct {
    const char *name;
    double expected[6];
  } row[] = {{"exp", {INFINITY, 0, NAN, INFINITY, 0, 1}},
             {"log", {INFINITY, NAN, NAN, 6.907755278982137, NAN, -INFINITY}},
             {"sqrt", {INFINITY, NAN, NAN, 31.622776601683793, NAN, 0}},
             {"tanh", {1, -1, NAN, 1, -1, 0}},
             {"erf", {1, -1, NAN, 1, -1, 0}},
             {"sigmoid", {1, 0, NAN, 1, 0, 0.5}},
             {"softplus", {INFINITY, 0, NAN, 1000, 0, M_LN2}},
             {"relu", {INFINITY, 0, NAN, 1000, 0, 0}},
             {"abs", {INFINITY, INFINITY, NAN, 1000, 1000, 0}},
             {"sign", {1, -1, NAN, 1, -1, 0}},
             {"reciprocal", {0, 0, NAN, 0.001, -0.001, INFINITY}},
             {"is_finite", {0, 0, 0, 1, 1, 1}}};
  for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) expect(row[k].name, NULL, given, row[k].expected, 6);
  struct op_value limits[OP_MAX_PARAMETERS] = {{.number = -1}, {.number = 1}},
                  alpha[OP_MAX_PARAMETERS] = {{.number = 1}};
  expect("clamp", limits, given, (double[]){1, -1, NAN, 1, -1, 0}, 6);
  expect("elu", alpha, given, (double[]){INFINITY, -1, NAN, 1000, -1, 0}, 6);
  expect("silu", NULL, given + 2, (double[]){NAN, 1000, 0, 0}, 4);

  struct tensor *x = repeated((double[]){NAN, 1, 2, NAN}, 4), *y = repeated((double[]){1, NAN, 3, NAN}, 4);
  struct tensor *greater = op_run2("maximum", x, y), *smaller = op_run2("minimum", x, y);
  for (int i = 0; i < 4; i++) {
    CHECK(near((double)tensor_real(greater)[i], i == 2 ? 3 : (double)NAN), "maximum lets NaN through: %d", i);
    CHECK(near((double)tensor_real(smaller)[i], i == 2 ? 2 : (double)NAN), "minimum lets NaN through: %d", i);
  }
  tensor_release(x);
  tensor_release(y);
  tensor_release(greater);
  tensor_release(smaller);
}

/* Against the C library in double, from tiny to beyond the ends of the range. */
static void check_accuracy(const char *name, double (*reference)(double), double smallest) {
  enum { COUNT = 40001 };
  struct tensor *x = tensor_new(TYPE_REAL, &(struct shape){.rank = 1, .size = {COUNT}});
  for (int i = 0; i < COUNT; i++) {
    double size = exp((double)(i / 2) / (COUNT / 2) * 30 - 25); /* 1e-11 to 150 */
    tensor_real(x)[i] = (real)(i % 2 ? size : -size);
  }
  struct tensor *y = op_run1(name, x);
  double worst = 0, where = 0;
  for (int i = 0; y && i < COUNT; i++) {
    double given = (double)tensor_real(x)[i], expected = reference(given), got = (double)tensor_real(y)[i];
    if (!CHECK_IS_DOUBLE && expected > 3.4e38) expected = INFINITY;
    double error = got == expected || fabs(got - expected) < smallest ? 0 : fabs(got - expected) / fabs(expected);
    if (!(error <= worst)) {
      worst = error;
      where = given;
    }
  }
  CHECK(y && worst <= (CHECK_IS_DOUBLE ? 1e-15 : 4e-7), "%s(%.9g) is off by %g relative", name, where, worst);
  tensor_release(x);
  tensor_release(y);
}

/* x - y by index arithmetic. */
static void check_broadcast(struct shape a, struct shape b) {
  struct tensor *x = tensor_new(TYPE_REAL, &a), *y = tensor_new(TYPE_REAL, &b);
  for (int64_t i = 0; i < tensor_count(x); i++) tensor_real(x)[i] = (real)i;
  for (int64_t i = 0; i < tensor_count(y); i++) tensor_real(y)[i] = (real)(i * i % 1013);
  struct tensor *z = op_run2("sub", x, y);
  CHECK(z, "%s", status_message());
  int64_t wrong = 0, index[TENSOR_MAX_RANK] = {0};
  for (int64_t i = 0; z && i < tensor_count(z); i++) {
    int64_t rest = i, ia[TENSOR_MAX_RANK] = {0}, ib[TENSOR_MAX_RANK] = {0};
    for (int d = z->shape.rank - 1; d >= 0; d--) {
      index[d] = rest % z->shape.size[d];
      rest /= z->shape.size[d];
      int da = d - (z->shape.rank - a.rank), db = d - (z->shape.rank - b.rank);
      if (da >= 0) ia[da] = a.size[da] == 1 ? 0 : index[d];
      if (db >= 0) ib[db] = b.size[db] == 1 ? 0 : index[d];
    }
    wrong += (double)tensor_real(z)[i] != tensor_get(x, ia) - tensor_get(y, ib);
  }
  CHECK(wrong == 0, "%s - %s has %lld wrong elements", shape_text(&a), shape_text(&b), (long long)wrong);
  tensor_release(x);
  tensor_release(y);
  tensor_release(z);
}

static void check_comparisons(void) {
  /* 2^24 + 1 is not a float. */
  struct shape shape = shape_of(1, (int64_t)3);
  struct tensor *a = tensor_new(TYPE_INT32, &shape), *b = tensor_new(TYPE_INT32, &shape);
  memcpy(tensor_int32(a), (int32_t[]){16777217, -5, 7}, 12);
  memcpy(tensor_int32(b), (int32_t[]){16777216, -5, 9}, 12);
  static const struct {
    const char *name;
    double expected[3];
  } row[] = {{"eq", {0, 1, 0}}, {"ne", {1, 0, 1}}, {"lt", {0, 0, 1}},
             {"le", {0, 1, 1}}, {"gt", {1, 0, 0}}, {"ge", {1, 1, 0}}};
  for (size_t k = 0; k < 6; k++) {
    struct tensor *c = op_run2(row[k].name, a, b);
    CHECK(c && c->type == TYPE_REAL, "%s of integers", row[k].name);
    for (int64_t i = 0; c && i < 3; i++)
      CHECK(tensor_get(c, &i) == row[k].expected[i], "%s: element %lld is %g", row[k].name, (long long)i + 1,
            tensor_get(c, &i));
    tensor_release(c);
  }
  struct tensor *seven = tensor_scalar(7), *equal = op_run2("eq", a, seven);
  CHECK(equal && tensor_real(equal)[2] == 1 && tensor_real(equal)[1] == 0, "integers against a number");
  /* A condition of any type. */
  struct tensor *mask = tensor_new(TYPE_UINT8, &shape), *chosen = NULL;
  memcpy(tensor_uint8(mask), (uint8_t[]){0, 1, 200}, 3);
  struct tensor *minus = tensor_scalar(-1);
  chosen = op_run(op_find("where"), 3, (struct tensor *[]){mask, seven, minus}, NULL);
  CHECK(chosen && tensor_real(chosen)[0] == -1 && tensor_real(chosen)[1] == 7 && tensor_real(chosen)[2] == 7,
        "where with a uint8 condition");
  struct tensor *all[] = {a, b, seven, equal, mask, chosen, minus};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) tensor_release(all[i]);
}

static void check_dropout(void) {
  struct shape shape = shape_of(2, (int64_t)300, (int64_t)400);
  struct tensor *x = tensor_new(TYPE_REAL, &shape);
  tensor_fill(x, 3);
  struct op_value values[OP_MAX_PARAMETERS] = {{.number = 0.25}, {.stream = {1, 2}}};
  struct tensor *y = op_run(op_find("dropout"), 1, &x, values);
  int64_t dropped = 0, other = 0, count = tensor_count(x);
  for (int64_t i = 0; y && i < count; i++) {
    dropped += tensor_real(y)[i] == 0;
    other += tensor_real(y)[i] != 0 && tensor_real(y)[i] != 4;
  }
  CHECK(y && other == 0, "what stays is scaled by 4/3: %lld are not", (long long)other);
  CHECK(fabs((double)dropped / (double)count - 0.25) < 5 * sqrt(0.25 * 0.75 / (double)count),
        "%lld of %lld are dropped", (long long)dropped, (long long)count);
  tensor_release(y);
  const double refused[] = {1, -0.1, 2, NAN};
  for (int i = 0; i < 4; i++) {
    values[0].number = refused[i];
    CHECK(!op_run(op_find("dropout"), 1, &x, values) && check_message_has("dropout: probability"), "%g: %s", refused[i],
          status_message());
  }
  tensor_release(x);
}

static void check_errors(void) {
  struct tensor *x = tensor_zeros(TYPE_REAL, &(struct shape){.rank = 2, .size = {2, 3}});
  struct tensor *y = tensor_zeros(TYPE_REAL, &(struct shape){.rank = 1, .size = {4}});
  CHECK(!op_run2("add", x, y) && check_message_has("add: shapes do not broadcast: (2×3) and (4)"), "%s",
        status_message());
  struct op_value limits[OP_MAX_PARAMETERS] = {{.number = 2}, {.number = 1}};
  CHECK(!op_run(op_find("clamp"), 1, &x, limits) && check_message_has("min 2 is above max 1"), "%s", status_message());
  limits[0].number = 0;
  CHECK(!op_run(op_find("elu"), 1, &x, limits) && check_message_has("alpha"), "%s", status_message());
  tensor_release(x);
  tensor_release(y);
}

void test_elementwise(void) {
  size_t live = memory_live();
  check_values();
  check_extremes();
  check_accuracy("exp", exp, 2.4e-38);
  check_accuracy("tanh", tanh, 0);
  check_accuracy("erf", erf, 0);
  struct shape matrix = {2, {131, 140}}, row = {1, {140}}, column = {2, {131, 1}}, scalar = {0}, narrow = {2, {700, 5}};
  struct shape five = {1, {5}}, images = {4, {3, 5, 9, 11}}, channels = {3, {5, 1, 1}},
               mixed_sizes = {4, {1, 5, 1, 11}};
  struct shape tall = {4, {3, 1, 9, 1}};
  check_broadcast(matrix, matrix);
  check_broadcast(matrix, row);
  check_broadcast(row, matrix);
  check_broadcast(matrix, column);
  check_broadcast(matrix, scalar);
  check_broadcast(row, column);
  check_broadcast(narrow, five);
  check_broadcast(images, channels);
  check_broadcast(mixed_sizes, tall);
  check_broadcast(scalar, scalar);
  check_comparisons();
  check_dropout();
  check_errors();
  CHECK(memory_live() == live, "%zu bytes are not released", memory_live() - live);
}
