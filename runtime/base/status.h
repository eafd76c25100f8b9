/* Status: how the core reports failure. A function that can fail returns an int, STATUS_OK or
   STATUS_ERROR; the message is in a buffer of the calling thread, written for the user of a script:
   what was wrong, where, what would be right. The core never exits, aborts or jumps. */
#ifndef GLS_BASE_STATUS_H
#define GLS_BASE_STATUS_H

enum { STATUS_OK = 0, STATUS_ERROR = -1 };

/* Writes the message (printf form) and returns STATUS_ERROR. */
int status_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Puts "prefix: " before the present message and returns STATUS_ERROR. */
int status_prefix(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The calling thread's last message; never NULL. */
const char *status_message(void);

/* Returns from the calling function when the expression failed and there is nothing to release. */
#define STATUS_TRY(expression)                          \
  do {                                                  \
    if ((expression) != STATUS_OK) return STATUS_ERROR; \
  } while (0)

#endif
