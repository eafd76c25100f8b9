/* Main: the command line of glsrun, that of lua: options, a script with its arguments, or the prompt. */
#include "cli.h"

#include <cblas.h>
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    "  --profile[=FILE]  measure the script by op and by module, and write a trace for ui.perfetto.dev to FILE\n"
    "             (glsrun-trace.json)\n"
    "  -h --help  print this text\n"
    "  --         end of the options\n"
    "  -          run standard input as a script\n"
    "\n"
    "Without script, -e and -v: the prompt on a terminal, otherwise standard input is run.\n"
    "An experiment takes its own options after its name: %s experiments/mlp.lua --help\n"
    "The exit code is 1 after an error, and 130, 143 or 129 where SIGINT, SIGTERM or SIGHUP has ended a script.\n"
    "With GLS_TRACEBACK=full in the environment a traceback shows the library's own frames too; NO_COLOR turns "
    "colours\n"
    "off; GLS_GRAPHICS (kitty, sixel, blocks, text) says how pictures are shown, which a terminal is asked otherwise.\n"
    "The prompt first runs ~/.config/glsrun/prompt.lua, where it is there.\n";

/* Runs the chunk that status says is loaded. */
static int run_chunk(lua_State *L, int status) {
  if (status == LUA_OK) status = cli_call(L, 0, 0, false);
  return cli_report(L, status, true);
}

/* ---- options ---- */

struct options {
  int script; /* index in argv of the script, argc when there is none */
  bool interactive, version, help, execute;
  const char *profile; /* where the trace goes; NULL: none */
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
    } else if (strcmp(option, "--profile") == 0) {
      options->profile = "glsrun-trace.json";
    } else if (strncmp(option, "--profile=", 10) == 0 && option[10]) {
      options->profile = option + 10;
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
  return cli_report(L, status, true);
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

static bool is_standard_input(char **argv, int script) {
  return strcmp(argv[script], "-") == 0 && strcmp(argv[script - 1], "--") != 0;
}

/* Pushes gls.profile's run (lua/gls/profile.lua), which calls a script and says where its time went, and the path. */
static int push_profiler(lua_State *L, const char *path) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "gls.profile");
  int status = cli_call(L, 1, 1, false);
  if (status != LUA_OK) return status;
  lua_getfield(L, -1, "run");
  lua_remove(L, -2);
  lua_pushstring(L, path);
  return LUA_OK;
}

/* profile: where a trace goes; NULL: none. */
static int run_script(lua_State *L, int argc, char **argv, int script, const char *profile) {
  const char *name = argv[script];
  int arguments = argc - script - 1, status = profile ? push_profiler(L, profile) : LUA_OK;
  if (status == LUA_OK) status = luaL_loadfile(L, is_standard_input(argv, script) ? NULL : name);
  if (status != LUA_OK) return cli_report(L, status, true);
  luaL_checkstack(L, arguments + 3, "too many arguments to the script");
  for (int i = script + 1; i < argc; i++) lua_pushstring(L, argv[i]);
  return cli_report(L, cli_call(L, profile ? arguments + 2 : arguments, 0, false), true);
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
      fprintf(stderr, "%s: option '%s' needs an argument\n", cli_program, option);
    } else {
      fprintf(stderr, "%s: unknown option '%s'\n", cli_program, option);
    }
    fprintf(stderr, usage, cli_program, cli_program);
    return 0;
  }
  if (options.help) {
    printf(usage, cli_program, cli_program);
    lua_pushboolean(L, true);
    return 1;
  }
  if (options.version) print_version();
  luaL_checkversion(L);
  bool from_file = options.script < argc && !is_standard_input(argv, options.script);
  cli_open_libraries(L, from_file ? argv[options.script] : NULL);
  set_arguments(L, argc, argv, options.script);
  if (!run_options(L, argv, options.script)) return 0;
  bool has_script = options.script < argc;
  if (options.profile && !has_script) {
    fprintf(stderr, "%s: --profile is for a script: %s --profile script.lua\n", cli_program, cli_program);
    return 0;
  }
  bool failed = has_script && run_script(L, argc, argv, options.script, options.profile) != LUA_OK;
  if (failed && !options.interactive) return 0;
  if (options.interactive) {
    if (!cli_prompt(L)) return 0;
  } else if (!has_script && !options.execute && !options.version) {
    if (isatty(STDIN_FILENO)) {
      if (!cli_prompt(L)) return 0;
    } else if (run_chunk(L, luaL_loadfile(L, NULL)) != LUA_OK) {
      return 0;
    }
  }
  lua_pushboolean(L, true);
  return 1;
}

int main(int argc, char **argv) {
  cli_open_descriptors();
  cli_set_libraries(argv);
  signal(SIGXFSZ, SIG_IGN); /* a file that may not grow on is an error of its writer, who cleans up */
  if (argc > 0 && argv[0][0] != '\0') cli_program = argv[0];
  lua_State *L = luaL_newstate();
  if (L == NULL) {
    fprintf(stderr, "%s: no memory for Lua\n", cli_program);
    return EXIT_FAILURE;
  }
  lua_pushcfunction(L, protected_main);
  lua_pushinteger(L, argc);
  lua_pushlightuserdata(L, argv);
  int status = cli_report(L, lua_pcall(L, 2, 1, 0), true);
  bool succeeded = status == LUA_OK && lua_toboolean(L, -1);
  int number = cli_ended_by();
  lua_close(L);
  return succeeded ? EXIT_SUCCESS : number ? 128 + number : EXIT_FAILURE;
}
