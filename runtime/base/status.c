/* Status: the calling thread's message of failure. */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_SIZE = 1024 };

static _Thread_local char message[MESSAGE_SIZE];

int status_error(const char *format, ...) {
  char fresh[MESSAGE_SIZE]; /* the arguments may point into the present message */
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(fresh, sizeof fresh, format, arguments);
  va_end(arguments);
  memcpy(message, fresh, sizeof message);
  return STATUS_ERROR;
}

int status_prefix(const char *format, ...) {
  char prefix[MESSAGE_SIZE / 2];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(prefix, sizeof prefix, format, arguments);
  va_end(arguments);
  char old[MESSAGE_SIZE];
  memcpy(old, message, sizeof old);
  size_t length = strlen(prefix);
  snprintf(message, sizeof message, "%s: ", prefix);
  strncat(message, old, sizeof message - length - 3);
  return STATUS_ERROR;
}

const char *status_message(void) { return message[0] ? message : "unknown error"; }
