/* Repl: the prompt of glsrun: chunks over several lines, results printed, Ctrl-C back to the prompt. What is printed is
   decided in lua/gls/repl.lua. */
#include "cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

bool cli_push_function(lua_State *L, const char *name) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "gls.repl");
  if (lua_pcall(L, 1, 1, 0) == LUA_OK && lua_istable(L, -1) && lua_getfield(L, -1, name) == LUA_TFUNCTION) {
    lua_remove(L, -2);
    return true;
  }
  return false;
}

/* ---- reading a chunk ---- */

/* A chunk that only lacks its end has a message that stops at the end of the text. */
static bool is_incomplete(lua_State *L, int status) {
  static const char mark[] = "<eof>";
  if (status != LUA_ERRSYNTAX) return false;
  size_t length;
  const char *message = lua_tolstring(L, -1, &length);
  size_t mark_length = sizeof mark - 1;
  return length >= mark_length && strcmp(message + length - mark_length, mark) == 0;
}

static int load(lua_State *L, const char *text, size_t length) { return luaL_loadbuffer(L, text, length, "=prompt"); }

/* The text at the top of the stack as "return text", so that an expression gives its values. Leaves the function, or
   nothing. */
static bool load_expression(lua_State *L) {
  lua_pushfstring(L, "return %s", lua_tostring(L, -1));
  size_t length;
  const char *text = lua_tolstring(L, -1, &length);
  int status = load(L, text, length);
  lua_remove(L, -2);
  if (status == LUA_OK) return true;
  lua_pop(L, 1);
  return false;
}

/* Replaces the first line, at the top of the stack, by the loaded chunk, reading further lines while it is
   incomplete; or by the message. */
static int read_chunk(struct cli_editor *prompt, enum cli_line *line_status) {
  lua_State *L = prompt->L;
  int status = LUA_OK;
  *line_status = LINE_READ;
  while (!load_expression(L)) {
    size_t length;
    const char *text = lua_tolstring(L, -1, &length);
    status = load(L, text, length);
    if (!is_incomplete(L, status)) break;
    lua_pop(L, 1); /* the message */
    *line_status = cli_read_line(prompt, ">> ");
    if (*line_status != LINE_READ) {
      lua_pop(L, 1);
      return LUA_OK;
    }
    lua_pushliteral(L, "\n");
    lua_insert(L, -2);
    lua_concat(L, 3);
    status = LUA_OK;
  }
  cli_remember(&prompt->history, lua_tostring(L, -2));
  lua_remove(L, -2);
  return status;
}

/* Prints the message at the top of the stack and pops it, when status is an error. */
static int report(lua_State *L, int status) {
  if (status == LUA_OK) return status;
  fflush(stdout);
  fprintf(stderr, "%s\n", luaL_tolstring(L, -1, NULL));
  lua_pop(L, 2);
  return status;
}

/* Prints the values above base as gls.repl.show does, or as print. */
static void show_values(lua_State *L, int base) {
  int count = lua_gettop(L) - base;
  if (count == 0) return;
  luaL_checkstack(L, LUA_MINSTACK, "too many results to print");
  if (!cli_push_function(L, "show")) {
    lua_settop(L, base + count);
    lua_getglobal(L, "print");
  }
  lua_insert(L, base + 1);
  report(L, cli_call(L, count, 0, true));
}

/* ---- the loop ---- */

bool cli_prompt(lua_State *L) {
  bool told_to_end = false;
  struct cli_editor prompt;
  cli_open_editor(&prompt, L);
  /* Between a line and its run there is nothing to interrupt, and nothing may end the program. */
  if (prompt.editor) signal(SIGINT, SIG_IGN);
  int base = lua_gettop(L);
  if (cli_push_function(L, "start")) {
    lua_pushliteral(L, GLSRUN_VERSION);
    report(L, cli_call(L, 1, 0, true));
  } else {
    report(L, LUA_ERRRUN);
  }
  for (;;) {
    lua_settop(L, base);
    enum cli_line line_status = cli_read_line(&prompt, "> ");
    if (line_status == LINE_END) break;
    if (line_status == LINE_INTERRUPTED) continue;
    int status = read_chunk(&prompt, &line_status);
    if (line_status == LINE_END) break;
    if (line_status == LINE_INTERRUPTED) continue;
    if (status == LUA_OK) status = cli_call(L, 0, LUA_MULTRET, true);
    told_to_end = status != LUA_OK && cli_ended_by() != 0 && cli_ended_by() != SIGINT;
    if (report(L, status) == LUA_OK) show_values(L, base);
    fflush(stdout);
    if (told_to_end) break;
  }
  lua_settop(L, base);
  cli_close_editor(&prompt);
  return !told_to_end;
}
