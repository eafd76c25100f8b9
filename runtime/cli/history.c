/* History: the lines typed before, in a file, for the line editor. */
#include "cli.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HISTORY_LINES = 2000, LONGEST_LINE = 2000, LARGEST_FILE = 16 << 20 };

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

/* Whether what follows a backslash is as libedit writes it (vis(3)): \\ \ooo \^c \M-c \M^c. It reads past the end of
   its buffer after anything else. */
static bool is_escape(FILE *file) {
  int c = getc(file);
  if (c >= '0' && c <= '3') {
    int second = getc(file), third = getc(file);
    return second >= '0' && second <= '7' && third >= '0' && third <= '7';
  }
  if (c == 'M') {
    if ((c = getc(file)) == '-') return isgraph(getc(file));
    if (c != '^') return false;
  }
  if (c == '^') return (c = getc(file)) >= '?' && c <= '_';
  return c == '\\';
}

/* Whether a file is there that libedit may read: its own, and no larger than the longest lines make it. */
static bool is_history(const char *path) {
  static const char mark[] = "_HiStOrY_V2_\n";
  char start[sizeof mark] = "";
  struct stat status;
  if (stat(path, &status) != 0) return false;
  FILE *file = S_ISREG(status.st_mode) && status.st_size <= LARGEST_FILE ? fopen(path, "r") : NULL;
  bool good = file && fgets(start, sizeof start, file) && strcmp(start, mark) == 0;
  int c, last = '\n';
  for (; good && (c = getc(file)) != EOF; last = c) good = c == '\\' ? is_escape(file) : c != '\0';
  good = good && last == '\n';
  if (file) fclose(file);
  return good;
}

void cli_open_history(struct cli_history *kept) {
  HistEvent event;
  kept->lines = history_init();
  if (kept->lines == NULL) return;
  history(kept->lines, &event, H_SETSIZE, HISTORY_LINES);
  history(kept->lines, &event, H_SETUNIQUE, 1);
  find_history_file(kept->file);
  if (kept->file[0] == '\0' || access(kept->file, F_OK) != 0) return;
  if (is_history(kept->file)) {
    history(kept->lines, &event, H_LOAD, kept->file);
  } else {
    fprintf(stderr, "%s is no history of this program, and is left alone: lines typed now are not kept\n", kept->file);
    kept->file[0] = '\0';
  }
}

void cli_remember(struct cli_history *kept, const char *chunk) {
  if (kept->lines == NULL || chunk[strspn(chunk, " \t\n")] == '\0' || strlen(chunk) > LONGEST_LINE) return;
  HistEvent event;
  history(kept->lines, &event, H_ENTER, chunk);
  if (kept->file[0] == '\0') return;
  make_folders(kept->file);
  history(kept->lines, &event, H_SAVE, kept->file);
}
