/* Main: the command line of glsrun, that of lua: options, a script with its arguments, or the prompt. Finds the Lua
   side (lua/, models/, experiments/) from where the program lies, so that a build tree and an installation both
   work from any working directory. */
#include "cli.h"

#include <cblas.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <omp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int luaopen_gls_core(lua_State *L);

static const char *program = "glsrun";

static const char usage[] =
    "usage: %s [options] [script [arguments]]\n"
    "\n"
    "Runs a Lua script with the training runtime (require \"gls\"), or opens a prompt.\n"
    "\n"
    "  -e CODE    run the string CODE\n"
    "  -l NAME    require library NAME into the global NAME (-l g=NAME: into the global g)\n"
    "  -i         open the prompt after running the script\n"
    "  -v         print the version, with those of Lua and OpenBLAS, and the CPU\n"
    "  -W         turn warnings on\n"
    "  -h --help  print this text\n"
    "  --         end of the options\n"
    "  -          run standard input as a script\n"
    "\n"
    "Without script, -e and -v: the prompt on a terminal, otherwise standard input is run.\n"
    "An experiment takes its own options after its name: %s experiments/mlp.lua --help\n";

/* ---- calls, errors and interrupts ---- */

static lua_State *interrupted_state;
static volatile sig_atomic_t interrupt_patient;

static void interrupt_hook(lua_State *L, lua_Debug *record) {
  (void)record;
  lua_sethook(L, NULL, 0, 0);
  luaL_error(L, "interrupted!");
}

/* Only sets a hook, as a signal handler may do little: Lua runs it before its next instruction. */
static void interrupt_handler(int number) {
  if (!interrupt_patient) signal(number, SIG_DFL);
  lua_sethook(interrupted_state, interrupt_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static int add_traceback(lua_State *L) {
  const char *message = lua_tostring(L, 1);
  if (message == NULL) {
    if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING) return 1;
    message = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
  }
  luaL_traceback(L, L, message, 1);
  return 1;
}

int cli_call(lua_State *L, int arguments, int results, bool patient) {
  int base = lua_gettop(L) - arguments;
  lua_pushcfunction(L, add_traceback);
  lua_insert(L, base);
  interrupted_state = L;
  interrupt_patient = patient;
  struct sigaction ours = {.sa_handler = interrupt_handler}, before;
  sigemptyset(&ours.sa_mask);
  ours.sa_flags = SA_RESTART;
  sigaction(SIGINT, &ours, &before);
  int status = lua_pcall(L, arguments, results, base);
  sigaction(SIGINT, &before, NULL);
  lua_sethook(L, NULL, 0, 0); /* of a signal that came after the last instruction */
  lua_remove(L, base);
  return status;
}

int cli_report(lua_State *L, int status) {
  if (status != LUA_OK) {
    const char *message = lua_tostring(L, -1);
    fflush(stdout);
    fprintf(stderr, "%s: %s\n", program, message ? message : "(error message not a string)");
    fflush(stderr);
    lua_pop(L, 1);
  }
  return status;
}

/* Runs the chunk that status says is loaded. */
static int run_chunk(lua_State *L, int status) {
  if (status == LUA_OK) status = cli_call(L, 0, 0, false);
  return cli_report(L, status);
}

/* ---- where the Lua side lies ---- */

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

/* root/lua/?.lua;root/lua/?/init.lua;root/?.lua before Lua's own places; gls.core is linked in. */
static void open_libraries(lua_State *L) {
  luaL_openlibs(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_gls_core);
  lua_setfield(L, -2, "gls.core");
  lua_pop(L, 1);
  char root[PATH_MAX];
  if (!find_root(root)) return;
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "path");
  lua_pushfstring(L, "%s/lua/?.lua;%s/lua/?/init.lua;%s/?.lua;%s", root, root, root, lua_tostring(L, -1));
  lua_setfield(L, -3, "path");
  lua_pop(L, 2);
}

/* ---- options ---- */

struct options {
  int script; /* index in argv of the script, argc when there is none */
  bool interactive, version, help, execute;
};

/* False: argv[*wrong] is not understood. */
static bool read_options(int argc, char **argv, struct options *options, int *wrong) {
  int i = 1;
  for (; i < argc && argv[i][0] == '-'; i++) {
    const char *option = argv[i];
    *wrong = i;
    if (strcmp(option, "-") == 0) break;
    if (strcmp(option, "--") == 0) {
      i++;
      break;
    }
    if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
      options->help = true;
    } else if (strcmp(option, "--version") == 0 || strcmp(option, "-v") == 0) {
      options->version = true;
    } else if (strcmp(option, "-i") == 0) {
      options->interactive = true;
    } else if (strcmp(option, "-W") == 0) {
      continue;
    } else if (option[1] == 'e' || option[1] == 'l') {
      options->execute |= option[1] == 'e';
      if (option[2] == '\0' && (++i >= argc || argv[i][0] == '-')) return false;
    } else {
      return false;
    }
  }
  options->script = i;
  return true;
}

static int require_library(lua_State *L, const char *name) {
  const char *equals = strchr(name, '=');
  const char *module = equals ? equals + 1 : name;
  lua_getglobal(L, "require");
  lua_pushstring(L, module);
  int status = cli_call(L, 1, 1, false);
  if (status == LUA_OK) {
    lua_pushlstring(L, name, equals ? (size_t)(equals - name) : strlen(name));
    lua_insert(L, -2);
    lua_pushglobaltable(L);
    lua_insert(L, -3);
    lua_settable(L, -3);
    lua_pop(L, 1);
  }
  return cli_report(L, status);
}

/* Runs -e, -l and -W in their order. */
static bool run_options(lua_State *L, char **argv, int end) {
  for (int i = 1; i < end; i++) {
    char kind = argv[i][1];
    if (kind == 'W') {
      lua_warning(L, "@on", 0);
    } else if (kind == 'e' || kind == 'l') {
      const char *value = argv[i][2] ? argv[i] + 2 : argv[++i];
      int status = kind == 'l' ? require_library(L, value)
                               : run_chunk(L, luaL_loadbuffer(L, value, strlen(value), "=(command line)"));
      if (status != LUA_OK) return false;
    }
  }
  return true;
}

/* arg: the script is 0, its arguments follow, what was before it has negative numbers. */
static void set_arguments(lua_State *L, int argc, char **argv, int script) {
  if (script == argc) script = 0;
  lua_createtable(L, argc - script, script + 1);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - script);
  }
  lua_setglobal(L, "arg");
}

static int run_script(lua_State *L, int argc, char **argv, int script) {
  const char *name = argv[script];
  bool standard_input = strcmp(name, "-") == 0 && strcmp(argv[script - 1], "--") != 0;
  int status = luaL_loadfile(L, standard_input ? NULL : name);
  if (status != LUA_OK) return cli_report(L, status);
  int arguments = argc - script - 1;
  luaL_checkstack(L, arguments + 3, "too many arguments to the script");
  for (int i = script + 1; i < argc; i++) lua_pushstring(L, argv[i]);
  return cli_report(L, cli_call(L, arguments, 0, false));
}

/* ---- version ---- */

static void print_version(void) {
  printf("glsrun %s, %s\n", GLSRUN_VERSION, LUA_RELEASE);
  printf("%s, kernels for %s\n", openblas_get_config(), openblas_get_corename());
  char line[512], model[512] = "unknown CPU";
  FILE *file = fopen("/proc/cpuinfo", "r");
  while (file && fgets(line, sizeof line, file)) {
    if (sscanf(line, "model name : %511[^\n]", model) == 1) break;
  }
  if (file) fclose(file);
  printf("%s, %d threads\n", model, omp_get_max_threads());
}

/* ---- main ---- */

static int protected_main(lua_State *L) {
  int argc = (int)lua_tointeger(L, 1);
  char **argv = lua_touserdata(L, 2);
  struct options options = {0};
  int wrong = 0;
  if (!read_options(argc, argv, &options, &wrong)) {
    const char *option = argv[wrong];
    if ((option[1] == 'e' || option[1] == 'l') && option[2] == '\0') {
      fprintf(stderr, "%s: option '%s' needs an argument\n", program, option);
    } else {
      fprintf(stderr, "%s: unknown option '%s'\n", program, option);
    }
    fprintf(stderr, usage, program, program);
    return 0;
  }
  if (options.help) {
    printf(usage, program, program);
    lua_pushboolean(L, true);
    return 1;
  }
  if (options.version) print_version();
  luaL_checkversion(L);
  open_libraries(L);
  set_arguments(L, argc, argv, options.script);
  if (!run_options(L, argv, options.script)) return 0;
  bool has_script = options.script < argc;
  if (has_script && run_script(L, argc, argv, options.script) != LUA_OK && !options.interactive) return 0;
  if (options.interactive) {
    cli_prompt(L);
  } else if (!has_script && !options.execute && !options.version) {
    if (isatty(STDIN_FILENO)) {
      cli_prompt(L);
    } else if (run_chunk(L, luaL_loadfile(L, NULL)) != LUA_OK) {
      return 0;
    }
  }
  lua_pushboolean(L, true);
  return 1;
}

/* Undoes what libgomp did before main where the user binds threads (OMP_PROC_BIND, OMP_PLACES): this thread is on one
   place, and a program started from it would find no other. */
static void unbind(void) {
  cpu_set_t all;
  CPU_ZERO(&all);
  int processors[CPU_SETSIZE];
  for (int place = 0; place < omp_get_num_places(); place++) {
    int count = omp_get_place_num_procs(place);
    if (count > CPU_SETSIZE) return;
    omp_get_place_proc_ids(place, processors);
    for (int i = 0; i < count; i++) CPU_SET(processors[i], &all);
  }
  if (CPU_COUNT(&all) > 0) sched_setaffinity(0, sizeof all, &all);
}

/* OpenMP's threads wait for work in a loop that takes milliseconds to give the processor away: with other jobs on the
   same cores a step took up to fifty times as long. libgomp reads how long from the environment before main begins,
   so the program starts itself anew where the user has not chosen (libgomp manual, "GOMP_SPINCOUNT"). */
static void wait_briefly(char **argv) {
  static const char *const spins = "10000"; /* some tens of microseconds: longer than between two kernels of a step */
  char path[PATH_MAX];
  if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0 || setenv("GOMP_SPINCOUNT", spins, 0) != 0) return;
  path[length] = '\0';
  unbind();
  execv(path, argv); /* comes back only when it failed: then on as we are */
}

int main(int argc, char **argv) {
  wait_briefly(argv);
  signal(SIGXFSZ, SIG_IGN); /* a file that may not grow on is an error of its writer, who cleans up */
  if (argc > 0 && argv[0][0] != '\0') program = argv[0];
  lua_State *L = luaL_newstate();
  if (L == NULL) {
    fprintf(stderr, "%s: no memory for Lua\n", program);
    return EXIT_FAILURE;
  }
  lua_pushcfunction(L, protected_main);
  lua_pushinteger(L, argc);
  lua_pushlightuserdata(L, argv);
  int status = cli_report(L, lua_pcall(L, 2, 1, 0));
  bool succeeded = status == LUA_OK && lua_toboolean(L, -1);
  lua_close(L);
  return succeeded ? EXIT_SUCCESS : EXIT_FAILURE;
}
