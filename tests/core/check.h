/* Check: the test runner's whole vocabulary. A test file is named after its subject and exports void
   test_SUBJECT(void), listed in run.c; it states what must hold with CHECK. */
#ifndef GLS_TESTS_CORE_CHECK_H
#define GLS_TESTS_CORE_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "../../runtime/base/real.h"

/* CHECK(condition, "message %g", …): counts it, and prints place and message when the condition does not hold. */
#define CHECK(condition, ...) check_that((condition), __FILE__, __LINE__, __VA_ARGS__)
bool check_that(bool holds, const char *file, int line, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The core's message contains text. */
bool check_message_has(const char *text);

/* What a calculation in real is good to. */
#ifdef GLS_DOUBLE
#define CHECK_IS_DOUBLE true
#define CHECK_ROUNDING 1e-11
#else
#define CHECK_IS_DOUBLE false
#define CHECK_ROUNDING 2e-4
#endif

#endif
