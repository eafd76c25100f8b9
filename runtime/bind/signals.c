/* Signals: SIGINT, SIGTERM and SIGHUP held back while a training loop finishes its step and writes what it must. The
   first is noted, and raised again when nothing holds it any more: who handled it before does so then. A second one
   does not wait. */
#include "bind.h"

#include <signal.h>

#define HOLD "gls.signals"

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { SIGNALS = sizeof signals / sizeof signals[0] };

static struct sigaction before[SIGNALS];
static volatile sig_atomic_t noted;
static int holds;

static void restore(void) {
  for (int i = 0; i < SIGNALS; i++) sigaction(signals[i], &before[i], NULL);
}

static void note(int number) {
  if (noted) {
    restore();
    raise(number); /* delivered once this handler has returned */
  }
  noted = number;
}

/* hold_signals() -> guard */
static int hold(lua_State *L) {
  bool *held = lua_newuserdatauv(L, sizeof *held, 0);
  *held = false;
  luaL_setmetatable(L, HOLD);
  *held = true;
  if (holds++ > 0) return 1;
  noted = 0;
  struct sigaction ours = {.sa_handler = note, .sa_flags = SA_RESTART};
  sigemptyset(&ours.sa_mask);
  for (int i = 0; i < SIGNALS; i++) {
    sigaction(signals[i], NULL, &before[i]);
    if (before[i].sa_handler != SIG_IGN) sigaction(signals[i], &ours, NULL);
  }
  return 1;
}

/* guard:noted() -> number of the signal that has come, or nil */
static int hold_noted(lua_State *L) {
  luaL_checkudata(L, 1, HOLD);
  if (!noted) return 0;
  lua_pushinteger(L, noted);
  return 1;
}

/* guard:release(): raises what has come */
static int hold_release(lua_State *L) {
  bool *held = luaL_checkudata(L, 1, HOLD);
  if (!*held) return 0;
  *held = false;
  if (--holds > 0) return 0;
  restore();
  int number = noted;
  noted = 0;
  if (number) raise(number);
  return 0;
}

static const struct bind_function methods[] = {{"__gc", hold_release, BIND_ANY, NULL},
                                               {"__close", hold_release, BIND_ANY, NULL},
                                               {"release", hold_release, BIND_ANY, NULL},
                                               {"noted", hold_noted, BIND_ANY, NULL},
                                               {NULL, NULL, 0, NULL}};

static const struct bind_function functions[] = {
    {"hold_signals", hold, 0,
     "hold_signals() -> guard\n"
     "Until guard:release() (or the end of its block, as local guard <close>) SIGINT, SIGTERM and SIGHUP wait:\n"
     "guard:noted() is the number of the first that came, or nil, and release() raises it. A second one does\n"
     "not wait."},
    {NULL, NULL, 0, NULL}};

void bind_open_signals(lua_State *L) {
  bind_class(L, HOLD, methods);
  bind_functions(L, functions);
}
