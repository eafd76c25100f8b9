/* Place: which module of a model is at work, where anomalies and profiles ask for it: what a node of the tape was made
   for, and what a span of time belongs to. One thread has places, the one that runs the model. */
#ifndef GLS_BASE_PLACE_H
#define GLS_BASE_PLACE_H

extern _Thread_local const char *place; /* "encoder.2"; NULL: none */

/* A copy of a name that lives as long as the process; NULL with message. */
const char *place_name(const char *text);
/* Within one place another begins, or ends. */
void place_enter(const char *name);
void place_leave(void);
int place_depth(void);
/* After an error: leaves all that were entered beyond this depth. */
void place_unwind(int depth);

#endif
