/* Cli: the program glsrun.
   main.c     the command line: options, a script, or the prompt
   start.c    the process before Lua is: open descriptors, idle threads that give the processor away
   openblas.c room for OpenBLAS's buffers, before it is loaded
   place.c    where `require` looks
   call.c     calls with a traceback on errors, signals as an error that a script may catch
   repl.c     the prompt: chunks read, run, their results printed
   editor.c   its line editor (libedit), pasted blocks
   history.c  its history, in a file */
#ifndef GLS_CLI_CLI_H
#define GLS_CLI_CLI_H

#include <histedit.h>
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>

#include "../base/version.h"

/* ---- start.c ---- */
/* Standard input, output and errors that the caller has closed are the null device, not the next file opened. */
void cli_open_descriptors(void);
/* Sets what OpenMP and OpenBLAS read from the environment before main: starts the program anew where they lack it. */
void cli_set_libraries(char **argv);

/* ---- place.c ---- */
/* Lua's libraries; gls.core is linked in. `require` looks in root/lua, then beside the script (NULL: there is none), in
   root (models, experiments), and then in Lua's own places. */
void cli_open_libraries(lua_State *L, const char *script);

/* ---- call.c ---- */
extern const char *cli_program; /* its name in messages */

/* Calls the function below its arguments at the top of the stack, with a traceback on errors. While it runs SIGINT
   (Ctrl-C), SIGTERM and SIGHUP raise "interrupted!" in the script, which may catch it. A second one ends the program,
   or with patient the call, whatever the script catches. The status is Lua's; on errors the message is left on the
   stack. */
int cli_call(lua_State *L, int arguments, int results, bool patient);

/* The signal whose "interrupted!" the last call has ended with; 0: none. */
int cli_ended_by(void);

/* Prints the message at the top of the stack to standard error and pops it, when status is an error. */
int cli_report(lua_State *L, int status, bool with_name);

/* ---- repl.c ---- */
/* Reads, runs and prints until the end of input; false: until SIGTERM or SIGHUP. */
bool cli_prompt(lua_State *L);
/* Pushes the named function of gls.repl; false where there is none. */
bool cli_push_function(lua_State *L, const char *name);

/* ---- history.c ---- */
struct cli_history {
  History *lines; /* NULL: none */
  char file[PATH_MAX];
};
void cli_open_history(struct cli_history *history);
/* Saved after every entry: nothing is lost when the session is killed. */
void cli_remember(struct cli_history *history, const char *chunk);

/* ---- editor.c ---- */
enum cli_line { LINE_READ, LINE_INTERRUPTED, LINE_END };

struct cli_editor {
  lua_State *L;
  EditLine *editor; /* NULL where input is not a terminal */
  struct cli_history history;
  const char *text; /* of the prompt */
  bool interrupted;
  char *block, *rest; /* lines that were pasted, and what followed the last of them; NULL: none */
};
void cli_open_editor(struct cli_editor *prompt, lua_State *L);
void cli_close_editor(struct cli_editor *prompt);
/* Pushes one line without its newline; `typed` stands there already, to be edited. */
enum cli_line cli_read_line(struct cli_editor *prompt, const char *text, const char *typed);

#endif
