/* real: the one floating type of the runtime. float; the tests also build with GLS_DOUBLE, so that
   gradient checks are sharp. */
#ifndef GLS_BASE_REAL_H
#define GLS_BASE_REAL_H

#ifdef GLS_DOUBLE
typedef double real;
#else
typedef float real;
#endif

#endif
