/* Call: scripts run with a traceback of the user's own lines on errors, and signals as an error that a script may
   catch. */
#include "cli.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *cli_program = "glsrun";

/* ---- coroutines ----
   A hook belongs to one coroutine, and Lua tells nobody which one runs. So every resume passes through here: the
   dynamic linker gives Lua's library the program's lua_resume before its own. */

struct running {
  lua_State *L;
  struct running *outer; /* who resumed it */
};

static struct running *volatile running;

__attribute__((visibility("default"))) int lua_resume(lua_State *L, lua_State *from, int arguments, int *results) {
  static int (*resume)(lua_State *, lua_State *, int, int *);
  if (!resume) *(void **)&resume = dlsym(RTLD_NEXT, "lua_resume");
  struct running inner = {L, running};
  running = &inner;
  int status = resume(L, from, arguments, results);
  running = inner.outer;
  return status;
}

/* ---- signals ---- */

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { SIGNALS = sizeof signals / sizeof signals[0] };

static volatile sig_atomic_t patient_call, received, insists;
static int ended_by;

static void set_hooks(lua_Hook hook, int mask) {
  for (struct running *r = running; r; r = r->outer) lua_sethook(r->L, hook, mask, 1);
}

static bool is_library(const lua_Debug *frame) {
  return frame->source[0] == '@' && strstr(frame->source, "lua/gls/") != NULL;
}

/* "file:line: " of the script's innermost line; nothing where no script runs. */
static void push_place(lua_State *L) {
  lua_Debug frame;
  for (int level = 0; lua_getstack(L, level, &frame); level++) {
    lua_getinfo(L, "Sl", &frame);
    if (frame.currentline <= 0 || is_library(&frame)) continue;
    lua_pushfstring(L, "%s:%d: ", frame.short_src, frame.currentline);
    return;
  }
  lua_pushliteral(L, "");
}

/* A second signal is not caught by the script: the error is raised anew after every pcall. */
static void interrupt_hook(lua_State *L, lua_Debug *record) {
  (void)record;
  if (!insists) set_hooks(NULL, 0);
  push_place(L);
  lua_pushliteral(L, "interrupted!");
  lua_concat(L, 2);
  lua_error(L);
}

/* Only sets hooks, as a signal handler may do little: Lua runs them before its next instruction. */
static void interrupt_handler(int number) {
  if (!patient_call) signal(number, SIG_DFL);
  insists = received != 0;
  received = number;
  set_hooks(interrupt_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT);
}

int cli_ended_by(void) { return ended_by; }

/* ---- tracebacks ---- */

enum { FRAMES = 20, LEVELS = 1000 /* looked through; Lua finds a level by going through those within */ };

/* Adds the frames of scripts, where there are any; those of the library and of C, which the user did not write, are
   left out. */
static void add_frames(lua_State *L, luaL_Buffer *text) {
  lua_Debug frame;
  bool library = false;
  int shown = 0, level;
  for (level = 1; level < LEVELS && lua_getstack(L, level, &frame); level++) {
    lua_getinfo(L, "Slnt", &frame);
    if (strcmp(frame.what, "C") == 0) continue;
    library |= is_library(&frame) && !strstr(frame.source, "lua/gls/repl/");
    if (is_library(&frame)) continue;
    if (++shown > FRAMES) continue;
    if (shown == 1) luaL_addstring(text, "\nstack traceback:");
    if (strcmp(frame.what, "main") == 0)
      lua_pushfstring(L, "\n\t%s:%d: in main chunk", frame.short_src, frame.currentline);
    else if (frame.namewhat[0])
      lua_pushfstring(L, "\n\t%s:%d: in %s '%s'", frame.short_src, frame.currentline, frame.namewhat, frame.name);
    else
      lua_pushfstring(L, "\n\t%s:%d: in function <%s:%d>", frame.short_src, frame.currentline, frame.short_src,
                      frame.linedefined);
    luaL_addvalue(text);
  }
  if (shown > FRAMES) {
    lua_pushfstring(L, "\n\t... (%s%d more)", level == LEVELS ? "over " : "", shown - FRAMES);
    luaL_addvalue(text);
  }
  if (library && shown > 0) luaL_addstring(text, "\n\t(GLS_TRACEBACK=full shows the library's own frames too)");
}

/* At the prompt the variables of the calls that end are kept, for locals(). */
static void keep_variables(lua_State *L) {
  int top = lua_gettop(L);
  if (patient_call && cli_push_function(L, "caught")) lua_pcall(L, 0, 0, 0);
  lua_settop(L, top);
}

static int add_traceback(lua_State *L) {
  keep_variables(L);
  const char *wanted = getenv("GLS_TRACEBACK"), *message = lua_tostring(L, 1);
  if (message == NULL) {
    if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING) return 1;
    message = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
  }
  if (wanted && strcmp(wanted, "full") == 0) {
    luaL_traceback(L, L, message, 1);
    return 1;
  }
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  luaL_addstring(&text, message);
  add_frames(L, &text);
  luaL_pushresult(&text);
  return 1;
}

/* ---- calls ---- */

/* Signals that are ignored (nohup) stay so, Ctrl-C apart: the prompt ignores it between two lines. */
static void catch_signals(struct sigaction before[SIGNALS]) {
  struct sigaction ours = {.sa_handler = interrupt_handler, .sa_flags = SA_RESTART};
  sigemptyset(&ours.sa_mask);
  for (int i = 0; i < SIGNALS; i++) {
    sigaction(signals[i], NULL, &before[i]);
    if (before[i].sa_handler != SIG_IGN || signals[i] == SIGINT) sigaction(signals[i], &ours, NULL);
  }
}

int cli_call(lua_State *L, int arguments, int results, bool patient) {
  int base = lua_gettop(L) - arguments;
  lua_pushcfunction(L, add_traceback);
  lua_insert(L, base);
  struct running outermost = {L, NULL};
  running = &outermost;
  patient_call = patient;
  received = insists = 0;
  struct sigaction before[SIGNALS];
  catch_signals(before);
  int status = lua_pcall(L, arguments, results, base);
  for (int i = 0; i < SIGNALS; i++) sigaction(signals[i], &before[i], NULL);
  set_hooks(NULL, 0); /* of a signal that came after the last instruction */
  running = NULL;
  const char *message = status != LUA_OK ? lua_tostring(L, -1) : NULL;
  ended_by = message && received && strstr(message, "interrupted") ? received : 0;
  lua_remove(L, base);
  return status;
}

/* Whether errors are written to a terminal that has colours, and the user has not refused them (no-color.org). */
static bool in_colours(void) {
  const char *none = getenv("NO_COLOR"), *terminal = getenv("TERM");
  return isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb") != 0 && !(none && none[0]);
}

int cli_report(lua_State *L, int status, bool with_name) {
  if (status == LUA_OK) return status;
  const char *message = luaL_tolstring(L, -1, NULL), *trace = strstr(message, "\nstack traceback:");
  int length = trace ? (int)(trace - message) : (int)strlen(message);
  bool colours = in_colours();
  fflush(stdout);
  if (colours) fputs("\033[31m", stderr);
  if (with_name) fprintf(stderr, "%s: ", cli_program);
  fprintf(stderr, "%.*s", length, message);
  if (colours) fputs(trace ? "\033[0;2m" : "\033[0m", stderr);
  if (trace) fprintf(stderr, "%s%s", trace, colours ? "\033[0m" : "");
  fputc('\n', stderr);
  fflush(stderr);
  lua_pop(L, 2);
  return status;
}
