/* Journal: whole files replaced, files that grow by lines, folders of one's own and their locks, for what Lua writes.
   Functions of the module's table io. */
#include "bind.h"

#include <string.h>

#include "../io/io.h"

#define JOURNAL "gls.io.journal"

static int journal_release(lua_State *L) {
  journal_close(luaL_checkudata(L, 1, JOURNAL));
  return 0;
}

static struct journal *push_journal(lua_State *L) {
  struct journal *journal = lua_newuserdatauv(L, sizeof *journal, 0);
  memset(journal, 0, sizeof *journal);
  luaL_setmetatable(L, JOURNAL);
  return journal;
}

/* journal(path): a file that is there is continued. */
static int journal_new(lua_State *L) {
  const char *path = bind_path(L, 1);
  bind_check(L, journal_open(push_journal(L), path));
  return 1;
}

/* journal:append(text) */
static int journal_add(lua_State *L) {
  struct journal *journal = luaL_checkudata(L, 1, JOURNAL);
  size_t bytes;
  const char *text = bind_text(L, 2, &bytes);
  bind_check_argument(L, journal->path, 1, "this journal is closed");
  bind_check(L, journal_append(journal, text, bytes));
  return 0;
}

/* lock_folder(path): what holds the lock until it is closed, or nil while another process has it. */
static int lock_folder(lua_State *L) {
  const char *path = bind_path(L, 1);
  bool free;
  bind_check(L, journal_lock_folder(push_journal(L), &free, path));
  if (!free) lua_pushnil(L);
  return 1;
}

/* make_folder(path): false when something stands there. */
static int make_folder(lua_State *L) {
  bool made;
  bind_check(L, file_make_folder(&made, bind_path(L, 1)));
  lua_pushboolean(L, made);
  return 1;
}

/* link(path, name): the file is there under the name too, in place of what was; without a copy. */
static int link_file(lua_State *L) {
  bind_check(L, file_link(bind_path(L, 1), bind_path(L, 2)));
  return 0;
}

/* replace_file(path, text) */
static int replace_file(lua_State *L) {
  const char *path = bind_path(L, 1);
  size_t bytes;
  const char *text = bind_text(L, 2, &bytes);
  struct file_writer writer;
  bind_check(L, file_create(&writer, path));
  int status = file_write(&writer, text, bytes);
  if (status == STATUS_OK)
    status = file_commit(&writer);
  else
    file_abandon(&writer);
  bind_check(L, status);
  return 0;
}

static const struct bind_function methods[] = {{"__gc", journal_release, BIND_ANY, NULL},
                                               {"__close", journal_release, BIND_ANY, NULL},
                                               {"close", journal_release, BIND_ANY, NULL},
                                               {"append", journal_add, BIND_ANY, NULL},
                                               {NULL, NULL, 0, NULL}};

static const struct bind_function functions[] = {
    {"journal", journal_new, BIND_ANY, NULL},       {"link", link_file, BIND_ANY, NULL},
    {"lock_folder", lock_folder, BIND_ANY, NULL},   {"make_folder", make_folder, BIND_ANY, NULL},
    {"replace_file", replace_file, BIND_ANY, NULL}, {NULL, NULL, 0, NULL}};

void bind_open_journal(lua_State *L) {
  bind_class(L, JOURNAL, methods);
  bind_functions(L, functions);
}
