/* Mpi: the Lua module gls.mpi, texts and vectors between the processes that mpirun started. MPI's failures become Lua
   errors, so that a rank that is gone does not end the others, where mpirun lets them be (Open MPI:
   --enable-recovery). */
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "../base/ranks.h"
#include "../tensor/tensor.h"

static int check(lua_State *L, const char *call, int code) {
  if (code == MPI_SUCCESS) return 0;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return luaL_error(L, "mpi.%s: %s", call, text);
}

static MPI_Datatype element(void) { return sizeof(real) == sizeof(float) ? MPI_FLOAT : MPI_DOUBLE; }

/* What this process has taken part in since counters() was asked last. */
static struct {
  int64_t sums, bytes; /* of all vectors that were summed, as given, and of what a step gathered or broadcast */
  double waited;       /* seconds */
} counted;

static void note_bytes(int64_t bytes) {
  counted.sums++;
  counted.bytes += bytes;
}

static void note_sum(int count) { note_bytes((int64_t)count * (int64_t)sizeof(real)); }

/* ---- what the core has of them (base/ranks.h) ---- */

static const char *problem_of(int code) {
  static char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (code == MPI_SUCCESS) return NULL;
  MPI_Error_string(code, text, &length);
  return text;
}

static const char *sum_values(real *values, int64_t count) {
  enum { MOST = 1 << 28 }; /* MPI counts by int */
  int code = MPI_SUCCESS;
  for (int64_t start = 0; start < count && code == MPI_SUCCESS; start += MOST) {
    int length = count - start < MOST ? (int)(count - start) : MOST;
    note_sum(length);
    code = MPI_Allreduce(MPI_IN_PLACE, values + start, length, element(), MPI_SUM, MPI_COMM_WORLD);
  }
  return problem_of(code);
}

static const char *gather_bytes(void *all, const void *own, const int64_t *bytes) {
  int rank, size;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int *count = malloc(2 * (size_t)size * sizeof *count), *start = count + size;
  int64_t total = 0;
  for (int r = 0; r < size && count; r++) {
    start[r] = (int)total;
    count[r] = (int)bytes[r];
    total += bytes[r];
    if (total > INT_MAX) break;
  }
  const char *problem = !count ? "out of memory" : total > INT_MAX ? "MPI takes at most 2147483647 bytes" : NULL;
  note_bytes(total);
  if (!problem)
    problem = problem_of(MPI_Allgatherv(own, count[rank], MPI_BYTE, all, count, start, MPI_BYTE, MPI_COMM_WORLD));
  free(count);
  return problem;
}

static const char *broadcast_bytes(void *data, int64_t bytes, int root) {
  if (bytes > INT_MAX) return "MPI takes at most 2147483647 bytes";
  note_bytes(bytes);
  return problem_of(MPI_Bcast(data, (int)bytes, MPI_BYTE, root, MPI_COMM_WORLD));
}

static struct ranks ranks = {
    .sum = sum_values, .gather = gather_bytes, .broadcast = broadcast_bytes, .bytes_per_second = 1e9};

/* ---- functions ---- */

/* Open MPI 4 sums by a tree where there are fewer than four processes; around a ring each sends and receives
   2 (p − 1)/p of the vector, the least there is. From 16 on the 2 (p − 1) delays of a ring weigh more; there its own
   choice stays. */
static void choose_ring(void) {
  const char *size = getenv("OMPI_COMM_WORLD_SIZE");
  if (size && atoi(size) < 16) setenv("OMPI_MCA_coll_libnbc_iallreduce_algorithm", "1", 0);
}

/* start() -> rank from 0, number of ranks; optimizers find them in the registry */
static int start(lua_State *L) {
  int begun = 0, rank, size;
  MPI_Initialized(&begun);
  if (!begun) {
    int level;
    choose_ring();
    check(L, "start", MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level));
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  }
  check(L, "start", MPI_Comm_rank(MPI_COMM_WORLD, &rank));
  check(L, "start", MPI_Comm_size(MPI_COMM_WORLD, &size));
  ranks.rank = rank, ranks.size = size;
  lua_pushlightuserdata(L, &ranks);
  lua_setfield(L, LUA_REGISTRYINDEX, "gls.ranks");
  lua_pushinteger(L, rank);
  lua_pushinteger(L, size);
  return 2;
}

/* send(rank, text) */
static int send(lua_State *L) {
  size_t length;
  lua_Integer to = luaL_checkinteger(L, 1);
  const char *text = luaL_checklstring(L, 2, &length);
  luaL_argcheck(L, to >= 0 && to <= INT_MAX, 1, "no rank");
  luaL_argcheck(L, length <= INT_MAX, 2, "too long");
  check(L, "send", MPI_Send(text, (int)length, MPI_CHAR, (int)to, 0, MPI_COMM_WORLD));
  return 0;
}

/* receive() -> text, rank it came from; nothing where none waits */
static int receive(lua_State *L) {
  int waits = 0, length;
  MPI_Status status;
  check(L, "receive", MPI_Iprobe(MPI_ANY_SOURCE, 0, MPI_COMM_WORLD, &waits, &status));
  if (!waits) return 0;
  check(L, "receive", MPI_Get_count(&status, MPI_CHAR, &length));
  luaL_Buffer buffer;
  char *text = luaL_buffinitsize(L, &buffer, (size_t)length);
  check(L, "receive", MPI_Recv(text, length, MPI_CHAR, status.MPI_SOURCE, 0, MPI_COMM_WORLD, &status));
  luaL_pushresultsize(&buffer, (size_t)length);
  lua_pushinteger(L, status.MPI_SOURCE);
  return 2;
}

/* The numbers of a tensor of one dimension, one after the other; their count. */
static real *vector(lua_State *L, int i, bool written, int *count) {
  struct tensor *x = *(struct tensor **)luaL_checkudata(L, i, "gls.tensor");
  bool right = x && x->storage && x->type == TYPE_REAL && x->shape.rank == 1;
  luaL_argcheck(L, right && (x->stride[0] == 1 || x->shape.size[0] <= 1), i, "a vector of numbers expected");
  luaL_argcheck(L, x->shape.size[0] <= INT_MAX, i, "MPI takes at most 2147483647 numbers at a time");
  *count = (int)x->shape.size[0];
  if (written) x->storage->version++;
  return (real *)x->storage->data + x->offset;
}

/* sum(vector): into every rank's vector the sum of all; every rank calls it */
static int sum(lua_State *L) {
  int count;
  real *data = vector(L, 1, true, &count);
  double before = MPI_Wtime();
  check(L, "sum", MPI_Allreduce(MPI_IN_PLACE, data, count, element(), MPI_SUM, MPI_COMM_WORLD));
  note_sum(count);
  counted.waited += MPI_Wtime() - before;
  return 0;
}

/* ---- sums under way ---- */

#define GROUP "gls.mpi.group"
#define SUM "gls.mpi.sum"

/* group() -> userdata: all ranks once more, whose sums do not mix with others; every rank calls it */
static int group(lua_State *L) {
  MPI_Comm *all = lua_newuserdatauv(L, sizeof *all, 0);
  luaL_setmetatable(L, GROUP);
  check(L, "group", MPI_Comm_dup(MPI_COMM_WORLD, all));
  MPI_Comm_set_errhandler(*all, MPI_ERRORS_RETURN);
  return 1;
}

/* group:sum(from, to) -> userdata: to becomes the sum of all ranks' from, by the time that wait() returns; until then
   neither may be used. Every rank calls it, in the same order of a group's sums. */
static int begin_sum(lua_State *L) {
  MPI_Comm *all = luaL_checkudata(L, 1, GROUP);
  int count, other;
  real *from = vector(L, 2, false, &count), *to = vector(L, 3, true, &other);
  luaL_argcheck(L, count == other, 3, "as many numbers expected");
  MPI_Request *request = lua_newuserdatauv(L, sizeof *request, 2);
  *request = MPI_REQUEST_NULL;
  luaL_setmetatable(L, SUM);
  for (int i = 1; i <= 2; i++) { /* kept until then */
    lua_pushvalue(L, i + 1);
    lua_setiuservalue(L, -2, i);
  }
  check(L, "sum", MPI_Iallreduce(from, to, count, element(), MPI_SUM, *all, request));
  note_sum(count);
  return 1;
}

/* sum:test() -> whether it is done; MPI goes on with all that are under way */
static int test_sum(lua_State *L) {
  int done;
  check(L, "sum", MPI_Test(luaL_checkudata(L, 1, SUM), &done, MPI_STATUS_IGNORE));
  lua_pushboolean(L, done);
  return 1;
}

/* sum:wait() */
static int wait_sum(lua_State *L) {
  double before = MPI_Wtime();
  check(L, "sum", MPI_Wait(luaL_checkudata(L, 1, SUM), MPI_STATUS_IGNORE));
  counted.waited += MPI_Wtime() - before;
  return 0;
}

/* counters() -> { sums =, bytes =, waited = } since it was called last */
static int counters(lua_State *L) {
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, counted.sums);
  lua_setfield(L, -2, "sums");
  lua_pushinteger(L, counted.bytes);
  lua_setfield(L, -2, "bytes");
  lua_pushnumber(L, counted.waited);
  lua_setfield(L, -2, "waited");
  memset(&counted, 0, sizeof counted);
  return 1;
}

/* broadcast(vector): into every rank's vector that of rank 0; every rank calls it */
static int broadcast(lua_State *L) {
  int count;
  real *data = vector(L, 1, true, &count);
  check(L, "broadcast", MPI_Bcast(data, count, element(), 0, MPI_COMM_WORLD));
  return 0;
}

/* total(list of numbers) -> list of their sums over the ranks; every rank calls it */
static int total(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_Unsigned count = lua_rawlen(L, 1);
  luaL_argcheck(L, count <= INT_MAX / sizeof(double), 1, "too long");
  double *number = lua_newuserdatauv(L, (size_t)count * sizeof *number, 0);
  for (lua_Unsigned i = 0; i < count; i++) {
    lua_rawgeti(L, 1, (lua_Integer)i + 1);
    number[i] = luaL_checknumber(L, -1);
    lua_pop(L, 1);
  }
  check(L, "total", MPI_Allreduce(MPI_IN_PLACE, number, (int)count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD));
  lua_createtable(L, (int)count, 0);
  for (lua_Unsigned i = 0; i < count; i++) {
    lua_pushnumber(L, number[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* tell(text) -> rank 0's text; every rank calls it */
static int tell(lua_State *L) {
  int rank;
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  luaL_argcheck(L, length <= INT_MAX, 1, "too long");
  int bytes = (int)length;
  check(L, "tell", MPI_Comm_rank(MPI_COMM_WORLD, &rank));
  check(L, "tell", MPI_Bcast(&bytes, 1, MPI_INT, 0, MPI_COMM_WORLD));
  luaL_Buffer buffer;
  char *told = luaL_buffinitsize(L, &buffer, (size_t)bytes);
  if (rank == 0) memcpy(told, text, length);
  check(L, "tell", MPI_Bcast(told, bytes, MPI_CHAR, 0, MPI_COMM_WORLD));
  luaL_pushresultsize(&buffer, (size_t)bytes);
  return 1;
}

/* speed(bytes a second): of a broadcast, about, by which a step decides what is made once and sent; on all ranks the
   same. 1e9 until it is called */
static int speed(lua_State *L) {
  ranks.bytes_per_second = luaL_checknumber(L, 1);
  luaL_argcheck(L, ranks.bytes_per_second > 0, 1, "a number above 0 expected");
  return 0;
}

/* stop(): every rank calls it */
static int stop(lua_State *L) {
  int over = 0;
  MPI_Finalized(&over);
  if (!over) check(L, "stop", MPI_Finalize());
  return 0;
}

/* abort(code): ends all ranks at once */
static int abort_all(lua_State *L) {
  MPI_Abort(MPI_COMM_WORLD, (int)luaL_checkinteger(L, 1));
  return 0;
}

static void new_class(lua_State *L, const char *name, const luaL_Reg *methods) {
  luaL_newmetatable(L, name);
  luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

__attribute__((visibility("default"))) int luaopen_gls_mpi(lua_State *L);
int luaopen_gls_mpi(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"start", start},         {"send", send},       {"receive", receive}, {"sum", sum},           {"total", total},
      {"broadcast", broadcast}, {"tell", tell},       {"group", group},     {"counters", counters}, {"speed", speed},
      {"stop", stop},           {"abort", abort_all}, {NULL, NULL}};
  static const luaL_Reg of_group[] = {{"sum", begin_sum}, {NULL, NULL}};
  static const luaL_Reg of_sum[] = {{"test", test_sum}, {"wait", wait_sum}, {NULL, NULL}};
  new_class(L, GROUP, of_group);
  new_class(L, SUM, of_sum);
  luaL_newlib(L, functions);
  return 1;
}
