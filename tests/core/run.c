/* Run: runs the core's tests, all of them or those that are named on the command line, and closes with
   "N passed, N failed". */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/base/status.h"
#include "check.h"

void test_derivatives(void), test_shape(void), test_tensor(void), test_format(void), test_random(void),
    test_elementwise(void), test_loss(void), test_reduce(void), test_move(void), test_gemm(void), test_gradients(void),
    test_memory(void), test_io(void), test_gls(void), test_gls_options(void), test_conv(void), test_fuse(void),
    test_edges(void), test_integers(void);

static const struct {
  const char *name;
  void (*function)(void);
} tests[] = {
    {"shape", test_shape},
    {"tensor", test_tensor},
    {"format", test_format},
    {"random", test_random},
    {"elementwise", test_elementwise},
    {"loss", test_loss},
    {"edges", test_edges},
    {"integers", test_integers},
    {"reduce", test_reduce},
    {"move", test_move},
    {"gemm", test_gemm},
    {"conv", test_conv},
    {"fuse", test_fuse},
    {"gradients", test_gradients},
    {"derivatives", test_derivatives},
    {"memory", test_memory},
    {"io", test_io},
    {"gls", test_gls},
    {"gls_options", test_gls_options},
};
enum { TEST_COUNT = sizeof tests / sizeof tests[0] };

/* A broken row fails in every sample: this many lines are enough to see it. */
enum { PRINTED_FAILURES = 200 };

static long passed, failed;

bool check_that(bool holds, const char *file, int line, const char *format, ...) {
  if (holds) {
    passed++;
    return true;
  }
  if (failed++ < PRINTED_FAILURES) {
    const char *name = strrchr(file, '/');
    printf("%s:%d: ", name ? name + 1 : file, line);
    va_list values;
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
    printf("\n");
  }
  return false;
}

bool check_message_has(const char *text) { return strstr(status_message(), text) != NULL; }

int main(int count, char **names) {
  setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* what failed is seen before a crash */
  for (int k = 1; k < count; k++) {
    int i = 0;
    while (i < TEST_COUNT && strcmp(tests[i].name, names[k]) != 0) i++;
    if (i == TEST_COUNT) {
      fprintf(stderr, "there is no test %s; there are:", names[k]);
      for (i = 0; i < TEST_COUNT; i++) fprintf(stderr, " %s", tests[i].name);
      fprintf(stderr, "\n");
      return EXIT_FAILURE;
    }
  }
  for (int i = 0; i < TEST_COUNT; i++) {
    bool wanted = count == 1;
    for (int k = 1; k < count; k++) wanted = wanted || strcmp(tests[i].name, names[k]) == 0;
    if (!wanted) continue;
    long before = failed;
    tests[i].function();
    if (failed > before) printf("%s: %ld failed\n", tests[i].name, failed - before);
    fflush(stdout);
  }
  if (failed > PRINTED_FAILURES) printf("(the first %d failures are shown)\n", PRINTED_FAILURES);
  printf("%ld passed, %ld failed\n", passed, failed);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
