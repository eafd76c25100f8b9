/* Repl: the prompt of glsrun, over libedit: line editing, history in a file, chunks over several lines, results
   printed, Ctrl-C back to the prompt. What is printed and what Tab offers is decided in lua/gls/repl.lua. */
#include "cli.h"

#include <histedit.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HISTORY_LINES = 2000 };

enum line_status { LINE_READ, LINE_INTERRUPTED, LINE_END };

struct prompt {
  lua_State *L;
  EditLine *editor; /* NULL where input is not a terminal */
  History *history;
  char history_file[PATH_MAX];
  const char *text; /* of the prompt */
  bool interrupted;
};

/* ---- history ---- */

/* Creates a folder with those above it; a failure shows when the file is written. */
static void make_folders(char *path) {
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    mkdir(path, 0700);
    *slash = '/';
  }
}

/* $XDG_STATE_HOME/glsrun/history, by default ~/.local/state/glsrun/history; empty where there is no home. */
static void find_history_file(char path[PATH_MAX]) {
  const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
  int length = 0;
  if (state && state[0] == '/') {
    length = snprintf(path, PATH_MAX, "%s/glsrun/history", state);
  } else if (home && home[0] == '/') {
    length = snprintf(path, PATH_MAX, "%s/.local/state/glsrun/history", home);
  }
  if (length <= 0 || length >= PATH_MAX) path[0] = '\0';
}

static void open_history(struct prompt *prompt) {
  HistEvent event;
  prompt->history = history_init();
  if (prompt->history == NULL) return;
  history(prompt->history, &event, H_SETSIZE, HISTORY_LINES);
  history(prompt->history, &event, H_SETUNIQUE, 1);
  find_history_file(prompt->history_file);
  if (prompt->history_file[0]) history(prompt->history, &event, H_LOAD, prompt->history_file);
}

/* Saved after every entry: nothing is lost when the session is killed. */
static void remember(struct prompt *prompt, const char *chunk) {
  if (prompt->history == NULL || chunk[strspn(chunk, " \t\n")] == '\0') return;
  HistEvent event;
  history(prompt->history, &event, H_ENTER, chunk);
  if (prompt->history_file[0] == '\0') return;
  make_folders(prompt->history_file);
  history(prompt->history, &event, H_SAVE, prompt->history_file);
}

/* ---- the line editor ---- */

static struct prompt *prompt_of(EditLine *editor) {
  struct prompt *prompt = NULL;
  el_get(editor, EL_CLIENTDATA, &prompt);
  return prompt;
}

static char *prompt_text(EditLine *editor) { return (char *)prompt_of(editor)->text; }

static unsigned char interrupt_key(EditLine *editor, int key) {
  (void)key;
  prompt_of(editor)->interrupted = true;
  return CC_NEWLINE;
}

/* Pushes the named function of gls.repl; false where there is none. */
static bool push_function(lua_State *L, const char *name) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "gls.repl");
  if (lua_pcall(L, 1, 1, 0) == LUA_OK && lua_istable(L, -1) && lua_getfield(L, -1, name) == LUA_TFUNCTION) {
    lua_remove(L, -2);
    return true;
  }
  return false;
}

/* With -isig this is a key too; libedit's own handler of the signal restores the terminal around it. */
static unsigned char suspend_key(EditLine *editor, int key) {
  (void)editor;
  (void)key;
  raise(SIGTSTP);
  return CC_REDISPLAY;
}

/* gls.repl.complete(text before the cursor) gives what to insert, and a list to show when that is nothing. */
static unsigned char complete_key(EditLine *editor, int key) {
  (void)key;
  lua_State *L = prompt_of(editor)->L;
  int top = lua_gettop(L);
  const LineInfo *line = el_line(editor);
  unsigned char answer = CC_REFRESH_BEEP;
  if (push_function(L, "complete")) {
    lua_pushlstring(L, line->buffer, (size_t)(line->cursor - line->buffer));
    if (lua_pcall(L, 1, 2, 0) == LUA_OK) {
      const char *insertion = lua_tostring(L, -2), *list = lua_tostring(L, -1);
      if (insertion && insertion[0] && el_insertstr(editor, insertion) == 0) {
        answer = CC_REFRESH;
      } else if (list) {
        printf("\n%s\n", list);
        fflush(stdout);
        answer = CC_REDISPLAY;
      }
    }
  }
  lua_settop(L, top);
  return answer;
}

static void open_editor(struct prompt *prompt) {
  if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return;
  setlocale(LC_CTYPE, ""); /* the editor's idea of characters */
  prompt->editor = el_init("glsrun", stdin, stdout, stderr);
  if (prompt->editor == NULL) return;
  open_history(prompt);
  EditLine *editor = prompt->editor;
  el_set(editor, EL_CLIENTDATA, prompt);
  el_set(editor, EL_PROMPT, prompt_text);
  el_set(editor, EL_EDITOR, "emacs");
  el_set(editor, EL_SIGNAL, 1); /* window sizes, suspension */
  if (prompt->history) el_set(editor, EL_HIST, history, prompt->history);
  el_source(editor, NULL); /* the user's ~/.editrc */
  /* While a line is typed Ctrl-C and Ctrl-Z are keys; while code runs they are signals again. */
  el_set(editor, EL_SETTY, "-d", "-isig", NULL);
  el_set(editor, EL_ADDFN, "glsrun-interrupt", "Drops the line", interrupt_key);
  el_set(editor, EL_ADDFN, "glsrun-complete", "Completes a name", complete_key);
  el_set(editor, EL_BIND, "^C", "glsrun-interrupt", NULL);
  el_set(editor, EL_ADDFN, "glsrun-suspend", "Stops the program until fg", suspend_key);
  el_set(editor, EL_BIND, "^Z", "glsrun-suspend", NULL);
  el_set(editor, EL_BIND, "^I", "glsrun-complete", NULL);
  el_set(editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
}

static void close_prompt(struct prompt *prompt) {
  if (prompt->editor) el_end(prompt->editor);
  if (prompt->history) history_end(prompt->history);
}

/* Pushes one line without its newline. */
static enum line_status read_line(struct prompt *prompt, const char *text) {
  lua_State *L = prompt->L;
  if (prompt->editor) {
    int count = 0;
    prompt->text = text;
    prompt->interrupted = false;
    const char *line = el_gets(prompt->editor, &count);
    if (prompt->interrupted) {
      printf("\n");
      return LINE_INTERRUPTED;
    }
    if (line == NULL || count <= 0) {
      printf("\n");
      return LINE_END;
    }
    if (line[count - 1] == '\n') count--;
    lua_pushlstring(L, line, (size_t)count);
    return LINE_READ;
  }
  char *line = NULL;
  size_t capacity = 0;
  fputs(text, stdout);
  fflush(stdout);
  ssize_t length = getline(&line, &capacity, stdin);
  if (length > 0 && line[length - 1] == '\n') length--;
  if (length >= 0) lua_pushlstring(L, line, (size_t)length);
  free(line);
  return length < 0 ? LINE_END : LINE_READ;
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
static int read_chunk(struct prompt *prompt, enum line_status *line_status) {
  lua_State *L = prompt->L;
  int status = LUA_OK;
  *line_status = LINE_READ;
  while (!load_expression(L)) {
    size_t length;
    const char *text = lua_tolstring(L, -1, &length);
    status = load(L, text, length);
    if (!is_incomplete(L, status)) break;
    lua_pop(L, 1); /* the message */
    *line_status = read_line(prompt, ">> ");
    if (*line_status != LINE_READ) {
      lua_pop(L, 1);
      return LUA_OK;
    }
    lua_pushliteral(L, "\n");
    lua_insert(L, -2);
    lua_concat(L, 3);
    status = LUA_OK;
  }
  remember(prompt, lua_tostring(L, -2));
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
  if (!push_function(L, "show")) {
    lua_settop(L, base + count);
    lua_getglobal(L, "print");
  }
  lua_insert(L, base + 1);
  report(L, cli_call(L, count, 0, true));
}

/* ---- the loop ---- */

void cli_prompt(lua_State *L) {
  struct prompt prompt = {.L = L};
  open_editor(&prompt);
  /* Between a line and its run there is nothing to interrupt, and nothing may end the program. */
  if (prompt.editor) signal(SIGINT, SIG_IGN);
  int base = lua_gettop(L);
  if (push_function(L, "start")) {
    lua_pushliteral(L, GLSRUN_VERSION);
    report(L, cli_call(L, 1, 0, true));
  } else {
    report(L, LUA_ERRRUN);
  }
  for (;;) {
    lua_settop(L, base);
    enum line_status line_status = read_line(&prompt, "> ");
    if (line_status == LINE_END) break;
    if (line_status == LINE_INTERRUPTED) continue;
    int status = read_chunk(&prompt, &line_status);
    if (line_status == LINE_END) break;
    if (line_status == LINE_INTERRUPTED) continue;
    if (status == LUA_OK) status = cli_call(L, 0, LUA_MULTRET, true);
    if (report(L, status) == LUA_OK) show_values(L, base);
    fflush(stdout);
  }
  lua_settop(L, base);
  close_prompt(&prompt);
}
