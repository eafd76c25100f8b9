/* Place: where `require` looks: the Lua side (lua/, models/, experiments/), found from where the program lies, so that
   a build tree and an installation both work from any working directory; and the folder of the script. */
#include "cli.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int luaopen_gls_core(lua_State *L);

static bool is_root(const char *folder) {
  char path[PATH_MAX];
  int length = snprintf(path, sizeof path, "%s/lua/gls", folder);
  return length < (int)sizeof path && access(path, R_OK) == 0;
}

/* Root of the Lua side into root: from the program's folder upwards, either a build tree (lua/) or an installation
   (share/glsrun/lua/); else the tree it was built from. */
static bool find_root(char root[PATH_MAX]) {
  char place[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", place, sizeof place - 1);
  if (length > 0) {
    place[length] = '\0';
    for (char *folder = dirname(place); strcmp(folder, "/") != 0; folder = dirname(folder)) {
      int size = snprintf(root, PATH_MAX, "%s/share/glsrun", folder);
      if (size < PATH_MAX && is_root(root)) return true;
      snprintf(root, PATH_MAX, "%s", folder);
      if (is_root(root)) return true;
    }
  }
  snprintf(root, PATH_MAX, "%s", GLSRUN_SOURCE);
  return is_root(root);
}

/* The folder of a script, pushed as "folder/?.lua;folder/?/init.lua;"; empty where there is none, or a name that Lua
   reads otherwise in a path. */
static void push_beside(lua_State *L, const char *script) {
  char place[PATH_MAX];
  if (!script || snprintf(place, sizeof place, "%s", script) >= (int)sizeof place || strpbrk(script, ";?")) {
    lua_pushliteral(L, "");
    return;
  }
  const char *folder = dirname(place);
  lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;", folder, folder);
}

/* package.cpath begins with the program's folder, where the build puts modules that are not linked in (gls.mpi). */
static void look_beside_program(lua_State *L, int package) {
  char place[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", place, sizeof place - 1);
  if (length <= 0) return;
  place[length] = '\0';
  const char *folder = dirname(place);
  if (strpbrk(folder, ";?")) return;
  lua_getfield(L, package, "cpath");
  lua_pushfstring(L, "%s/?.so;%s", folder, lua_tostring(L, -1));
  lua_setfield(L, package, "cpath");
  lua_pop(L, 1);
}

void cli_open_libraries(lua_State *L, const char *script) {
  luaL_openlibs(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_gls_core);
  lua_setfield(L, -2, "gls.core");
  lua_pop(L, 1);
  char root[PATH_MAX];
  bool found = find_root(root);
  lua_getglobal(L, "package");
  look_beside_program(L, lua_gettop(L));
  lua_getfield(L, -1, "path");
  push_beside(L, script);
  if (found)
    lua_pushfstring(L, "%s/lua/?.lua;%s/lua/?/init.lua;%s%s/?.lua;%s", root, root, lua_tostring(L, -1), root,
                    lua_tostring(L, -2));
  else
    lua_pushfstring(L, "%s%s", lua_tostring(L, -1), lua_tostring(L, -2));
  lua_setfield(L, -4, "path");
  lua_pop(L, 3);
}
