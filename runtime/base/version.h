/* Version of glsrun: of the program and of the module. */
#ifndef GLS_BASE_VERSION_H
#define GLS_BASE_VERSION_H

#define GLSRUN_VERSION "0.1.0"

#endif
