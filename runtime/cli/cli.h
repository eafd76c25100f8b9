/* Cli: the program glsrun. main.c is the command line, repl.c the prompt. */
#ifndef GLS_CLI_CLI_H
#define GLS_CLI_CLI_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>

#include "../base/version.h"

/* Calls the function below its arguments at the top of the stack, with a traceback on errors. While it runs Ctrl-C
   raises "interrupted!" in the script, which may catch it. With patient a second Ctrl-C does the same again, else
   it ends the program. The status is Lua's; on errors the message is left on the stack. */
int cli_call(lua_State *L, int arguments, int results, bool patient);

/* Prints the message at the top of the stack to standard error and pops it, when status is an error. */
int cli_report(lua_State *L, int status);

/* Reads, runs and prints until the end of input. */
void cli_prompt(lua_State *L);

#endif
