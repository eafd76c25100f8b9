/* Repl: the prompt of glsrun: chunks over several lines are read and run, Ctrl-C comes back to the prompt. What a chunk
   means, what is printed and what Tab offers is decided in lua/gls/repl. */
#include "cli.h"

#include <signal.h>
#include <stdio.h>

bool cli_push_function(lua_State *L, const char *name) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "gls.repl");
  if (lua_pcall(L, 1, 1, 0) == LUA_OK && lua_istable(L, -1) && lua_getfield(L, -1, name) == LUA_TFUNCTION) {
    lua_remove(L, -2);
    return true;
  }
  return false;
}

/* Reads lines until gls.repl.compile, given the text so far, has something to run, and pushes it; false, where the
   session is to end. */
static enum cli_line read_chunk(struct cli_editor *prompt) {
  lua_State *L = prompt->L;
  enum cli_line line = cli_read_line(prompt, "> ");
  while (line == LINE_READ) {
    if (!cli_push_function(L, "compile")) return LINE_END;
    lua_pushvalue(L, -2);
    bool understood = lua_pcall(L, 1, 1, 0) == LUA_OK;
    if (!understood || !lua_isnil(L, -1)) {
      cli_remember(&prompt->history, lua_tostring(L, -2));
      lua_remove(L, -2);
      if (!understood || lua_isfunction(L, -1)) return LINE_READ;
      return LINE_END;
    }
    lua_pop(L, 1);
    lua_pushliteral(L, "\n");
    line = cli_read_line(prompt, ">> ");
    if (line == LINE_READ) lua_concat(L, 3);
  }
  return line;
}

/* Prints the message at the top of the stack and pops it, when status is an error. */
static int report(lua_State *L, int status) {
  if (status == LUA_OK) return status;
  fflush(stdout);
  fprintf(stderr, "%s\n", luaL_tolstring(L, -1, NULL));
  lua_pop(L, 2);
  return status;
}

bool cli_prompt(lua_State *L) {
  bool told_to_end = false;
  struct cli_editor prompt;
  cli_open_editor(&prompt, L);
  /* Between a line and its run there is nothing to interrupt, and nothing may end the program. */
  if (prompt.editor) signal(SIGINT, SIG_IGN);
  int base = lua_gettop(L);
  bool found = cli_push_function(L, "start");
  if (found) lua_pushliteral(L, GLSRUN_VERSION);
  report(L, found ? cli_call(L, 1, 0, true) : LUA_ERRRUN);
  while (!told_to_end) {
    lua_settop(L, base);
    enum cli_line line = read_chunk(&prompt);
    if (line == LINE_END) break;
    if (line == LINE_INTERRUPTED) continue;
    int status = lua_isfunction(L, -1) ? cli_call(L, 0, 0, true) : LUA_ERRRUN;
    told_to_end = cli_ended_by() != 0 && cli_ended_by() != SIGINT;
    if (report(L, status) != LUA_OK && cli_push_function(L, "failed")) report(L, cli_call(L, 0, 0, true));
    fflush(stdout);
  }
  lua_settop(L, base);
  cli_close_editor(&prompt);
  return !told_to_end;
}
