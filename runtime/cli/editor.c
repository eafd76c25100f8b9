/* Editor: lines typed at the prompt, over libedit; plain lines where input is not a terminal. What Tab offers is
   decided in lua/gls/repl. */
#include "cli.h"

#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

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

/* ---- pasting ----
   A terminal in "bracketed paste" mode puts ESC [ 200 ~ before and ESC [ 201 ~ after what is pasted (xterm's control
   sequences, "Bracketed Paste Mode"), so that several lines are one block and their tabs are no keys. */

static const char paste_end[] = "\033[201~";

/* What is pasted, to be freed; NULL: no memory, or no more input. */
static char *read_paste(EditLine *editor) {
  size_t length = 0, capacity = 256, mark = sizeof paste_end - 1;
  char *text = malloc(capacity);
  wchar_t c;
  while (text && el_wgetc(editor, &c) == 1) {
    if (length + MB_LEN_MAX + 1 > capacity) {
      char *more = realloc(text, capacity *= 2);
      if (!more) break;
      text = more;
    }
    mbstate_t state = {0};
    size_t bytes = wcrtomb(text + length, c == L'\r' ? L'\n' : c, &state);
    if (bytes != (size_t)-1) length += bytes;
    text[length] = '\0';
    if (length < mark || strcmp(text + length - mark, paste_end) != 0) continue;
    text[length - mark] = '\0';
    return text;
  }
  free(text);
  return NULL;
}

/* Lines that were pasted become a block with what stands before them; what follows the last of them is typed next. */
static unsigned char paste_key(EditLine *editor, int key) {
  (void)key;
  struct cli_editor *prompt = prompt_of(editor);
  char *text = read_paste(editor), *last = text ? strrchr(text, '\n') : NULL;
  if (!last) {
    int failed = text ? el_insertstr(editor, text) : -1;
    free(text);
    return failed ? CC_ERROR : CC_REFRESH;
  }
  const LineInfo *line = el_line(editor);
  int before = (int)(line->cursor - line->buffer), after = (int)(line->lastchar - line->cursor);
  *last = '\0';
  if (asprintf(&prompt->block, "%.*s%s", before, line->buffer, text) < 0) prompt->block = NULL;
  if (asprintf(&prompt->rest, "%s%.*s", last + 1, after, line->cursor) < 0) prompt->rest = NULL;
  printf("%s\n", text);
  fflush(stdout);
  free(text);
  const LineInfoW *wide = el_wline(editor);
  int length = (int)(wide->lastchar - wide->buffer);
  el_cursor(editor, (int)(wide->lastchar - wide->cursor));
  el_deletestr(editor, length);
  return CC_NEWLINE;
}

static void set_paste_mode(bool on) {
  const char *terminal = getenv("TERM");
  if (!terminal || strcmp(terminal, "dumb") == 0) return;
  printf("\033[?2004%c", on ? 'h' : 'l');
  fflush(stdout);
}

/* ---- completion ---- */

static int terminal_width(void) {
  struct winsize size;
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
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
    lua_pushinteger(L, terminal_width());
    if (lua_pcall(L, 2, 2, 0) == LUA_OK) {
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

/* ---- indentation ---- */

/* What ends a line for libedit, on a key that nobody types. */
static const char newline_keys[] = "\030\012", newline_name[] = "^X^J";

/* Return ends the line; one that closes a block first goes as far out as the block. */
static unsigned char enter_key(EditLine *editor, int key) {
  (void)key;
  lua_State *L = prompt_of(editor)->L;
  int top = lua_gettop(L);
  const LineInfo *line = el_line(editor);
  if (cli_push_function(L, "outdent")) {
    lua_pushlstring(L, line->buffer, (size_t)(line->lastchar - line->buffer));
    int count = lua_pcall(L, 1, 1, 0) == LUA_OK ? (int)lua_tointeger(L, -1) : 0;
    if (count > 0) {
      const LineInfoW *wide = el_wline(editor);
      int length = (int)(wide->lastchar - wide->buffer);
      el_cursor(editor, (int)(wide->buffer - wide->cursor) + count);
      el_deletestr(editor, count);
      el_cursor(editor, length);
    }
  }
  lua_settop(L, top);
  el_push(editor, newline_keys);
  return CC_REFRESH;
}

/* ---- lines ---- */

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
  el_set(editor, EL_ADDFN, "glsrun-enter", "Ends the line", enter_key);
  el_set(editor, EL_BIND, newline_name, "ed-newline", NULL);
  el_set(editor, EL_BIND, "^M", "glsrun-enter", NULL);
  el_set(editor, EL_BIND, "^J", "glsrun-enter", NULL);
  el_set(editor, EL_ADDFN, "glsrun-paste", "Takes what is pasted", paste_key);
  el_set(editor, EL_BIND, "\033[200~", "glsrun-paste", NULL);
  el_set(editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
}

void cli_close_editor(struct cli_editor *prompt) {
  if (prompt->editor) el_end(prompt->editor);
  if (prompt->history.lines) history_end(prompt->history.lines);
}

static enum cli_line read_plain(lua_State *L, const char *text) {
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

/* Pushes the block that was pasted; with what is typed after it, when it does not end a line. */
static enum cli_line take_block(struct cli_editor *prompt) {
  lua_State *L = prompt->L;
  lua_pushstring(L, prompt->block);
  free(prompt->block);
  prompt->block = NULL;
  bool more = prompt->rest && prompt->rest[0];
  if (more) el_push(prompt->editor, prompt->rest);
  free(prompt->rest);
  prompt->rest = NULL;
  if (!more) return LINE_READ;
  lua_pushliteral(L, "\n");
  enum cli_line line = cli_read_line(prompt, ">> ", "");
  if (line == LINE_READ) lua_concat(L, 3);
  return line;
}

enum cli_line cli_read_line(struct cli_editor *prompt, const char *text, const char *typed) {
  if (!prompt->editor) return read_plain(prompt->L, text);
  int count = 0;
  prompt->text = text;
  prompt->interrupted = false;
  if (typed[0]) el_push(prompt->editor, typed);
  set_paste_mode(true);
  const char *line = el_gets(prompt->editor, &count);
  set_paste_mode(false);
  if (prompt->interrupted) {
    printf("\n");
    return LINE_INTERRUPTED;
  }
  if (prompt->block) return take_block(prompt);
  if (line == NULL || count <= 0) {
    printf("\n");
    return LINE_END;
  }
  if (line[count - 1] == '\n') count--;
  lua_pushlstring(prompt->L, line, (size_t)count);
  return LINE_READ;
}
