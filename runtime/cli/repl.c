/* Repl: the prompt of glsrun: chunks over several lines are read and run, Ctrl-C comes back to the prompt. What a chunk
   means, what is printed and what Tab offers is decided in lua/gls/repl. */
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
  enum cli_line line = cli_read_line(prompt, "> ", "");
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
    if (!cli_push_function(L, "indentation")) return LINE_END;
    lua_pushvalue(L, -3);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) return LINE_END;
    line = cli_read_line(prompt, ">> ", lua_tostring(L, -1));
    if (line == LINE_READ) {
      lua_remove(L, -2);
      lua_concat(L, 3);
    }
  }
  return line;
}

/* cd(folder) -> the working directory, changed where a folder is given */
static int change_folder(lua_State *L) {
  char folder[PATH_MAX];
  const char *wanted = luaL_optstring(L, 1, NULL);
  if (wanted && chdir(wanted) != 0) return luaL_error(L, "cd: %s: %s", wanted, strerror(errno));
  if (!getcwd(folder, sizeof folder)) return luaL_error(L, "cd: %s", strerror(errno));
  lua_pushstring(L, folder);
  return 1;
}

bool cli_prompt(lua_State *L) {
  bool told_to_end = false;
  struct cli_editor prompt;
  cli_open_editor(&prompt, L);
  /* Between a line and its run there is nothing to interrupt, and nothing may end the program. */
  if (prompt.editor) signal(SIGINT, SIG_IGN);
  int base = lua_gettop(L);
  bool found = cli_push_function(L, "start");
  if (found) {
    lua_pushliteral(L, GLSRUN_VERSION);
    lua_pushcfunction(L, change_folder);
  }
  cli_report(L, found ? cli_call(L, 2, 0, true) : LUA_ERRRUN, false);
  while (!told_to_end) {
    lua_settop(L, base);
    enum cli_line line = read_chunk(&prompt);
    if (line == LINE_END) break;
    if (line == LINE_INTERRUPTED) continue;
    int status = lua_isfunction(L, -1) ? cli_call(L, 0, 0, true) : LUA_ERRRUN;
    told_to_end = cli_ended_by() != 0 && cli_ended_by() != SIGINT;
    if (cli_report(L, status, false) != LUA_OK && cli_push_function(L, "failed"))
      cli_report(L, cli_call(L, 0, 0, true), false);
    fflush(stdout);
  }
  lua_settop(L, base);
  cli_close_editor(&prompt);
  return !told_to_end;
}
