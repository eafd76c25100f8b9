/* Editor: lines typed at the prompt, over libedit; plain lines where input is not a terminal. What Tab offers is decided
   in lua/gls/repl.lua. */
#include "cli.h"

#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct cli_editor *prompt_of(EditLine *editor) {
  struct cli_editor *prompt = NULL;
  el_get(editor, EL_CLIENTDATA, &prompt);
  return prompt;
}

static char *prompt_text(EditLine *editor) { return (char *)prompt_of(editor)->text; }

static unsigned char interrupt_key(EditLine *editor, int key) {
  (void)key;
  prompt_of(editor)->interrupted = true;
  return CC_NEWLINE;
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
  if (cli_push_function(L, "complete")) {
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

void cli_open_editor(struct cli_editor *prompt, lua_State *L) {
  *prompt = (struct cli_editor){.L = L};
  if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return;
  /* What the editor takes for a character; a terminal sends UTF-8 whatever the locale says. */
  setlocale(LC_CTYPE, "");
  if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8");
  prompt->editor = el_init("glsrun", stdin, stdout, stderr);
  if (prompt->editor == NULL) return;
  cli_open_history(&prompt->history);
  EditLine *editor = prompt->editor;
  el_set(editor, EL_CLIENTDATA, prompt);
  el_set(editor, EL_PROMPT, prompt_text);
  el_set(editor, EL_EDITOR, "emacs");
  el_set(editor, EL_SIGNAL, 1); /* window sizes, suspension */
  if (prompt->history.lines) el_set(editor, EL_HIST, history, prompt->history.lines);
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

void cli_close_editor(struct cli_editor *prompt) {
  if (prompt->editor) el_end(prompt->editor);
  if (prompt->history.lines) history_end(prompt->history.lines);
}

enum cli_line cli_read_line(struct cli_editor *prompt, const char *text) {
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
