/* Io: files and data sets. Arrays and images are functions of the module itself; what lua/gls/data and
   lua/gls/checkpoint.lua are made of is in its table io. */
#include "bind.h"

#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "../base/memory.h"
#include "../base/random.h"
#include "../io/io.h"

/* What the core has handed out, until Lua has taken it over: released with the userdata when an error comes between. */
struct holder {
  struct tensor *tensor[2];
  struct folder folder;
  struct bundle bundle;
  struct file_reader reader;
  char *header;
  char **name;
  int name_count;
};

#define HOLDER "gls.io.holder"

const char *bind_path(lua_State *L, int i) {
  size_t length;
  const char *path = bind_text(L, i, &length);
  bind_check_argument(L, strlen(path) == length, i, "a path with a zero byte in it");
  return path;
}

static int holder_release(lua_State *L) {
  struct holder *holder = luaL_checkudata(L, 1, HOLDER);
  for (int i = 0; i < 2; i++) tensor_release(holder->tensor[i]);
  folder_clear(&holder->folder);
  bundle_clear(&holder->bundle);
  file_close(&holder->reader);
  memory_release(holder->header);
  folder_delete_names(holder->name, holder->name_count);
  memset(holder, 0, sizeof *holder);
  return 0;
}

static struct holder *push_holder(lua_State *L) {
  struct holder *holder = lua_newuserdatauv(L, sizeof *holder, 1);
  memset(holder, 0, sizeof *holder);
  luaL_setmetatable(L, HOLDER);
  return holder;
}

static void push_names(lua_State *L, char *const *name, int count) {
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) {
    lua_pushstring(L, name[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

/* Strings of the list at argument i as a NULL-ended array that lives as long as the userdata it pushes. */
static const char **check_strings(lua_State *L, int i, int *count) {
  bind_check_type(L, i, LUA_TTABLE);
  lua_Unsigned length = lua_rawlen(L, i);
  bind_check_argument(L, length < 1 << 20, i, "the list is too long");
  const char **text = lua_newuserdatauv(L, (length + 1) * sizeof *text, 0);
  for (lua_Unsigned k = 0; k < length; k++) {
    lua_rawgeti(L, i, (lua_Integer)k + 1);
    bind_check_argument(L, lua_type(L, -1) == LUA_TSTRING, i, "a list of strings expected");
    text[k] = lua_tostring(L, -1); /* the list keeps it alive */
    lua_pop(L, 1);
  }
  text[length] = NULL;
  *count = (int)length;
  return text;
}

/* ---- arrays and images ---- */

static int load_npy(lua_State *L) {
  bind_push_tensor(L, npy_read(bind_path(L, 1)));
  return 1;
}

static int save_npy(lua_State *L) {
  bind_check(L, npy_write(bind_path(L, 1), bind_tensor(L, 2)));
  return 0;
}

static int load_npz(lua_State *L) {
  const char *path = bind_path(L, 1);
  struct holder *holder = push_holder(L);
  bind_check(L, npz_read(&holder->bundle, path));
  struct bundle *bundle = &holder->bundle;
  lua_createtable(L, 0, bundle->count);
  for (int i = 0; i < bundle->count; i++) {
    bind_push_taken(L, &bundle->tensor[i]);
    lua_setfield(L, -2, bundle->name[i]);
  }
  return 1;
}

static int load_image(lua_State *L) {
  bind_push_tensor(L, image_read(bind_path(L, 1)));
  return 1;
}

static int save_image(lua_State *L) {
  enum { GAP = 2 };
  const char *path = bind_path(L, 1);
  struct tensor *images = bind_tensor(L, 2);
  int64_t columns = 0, gap = GAP;
  if (!lua_isnoneornil(L, 3)) {
    bind_check_type(L, 3, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) {
      const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
      if (strcmp(key, "columns") != 0 && strcmp(key, "gap") != 0)
        return bind_fail(L, "save_image: unknown option \"%s\"; known: columns, gap", key);
    }
    columns = bind_integer_field(L, 3, "columns", 0);
    gap = bind_integer_field(L, 3, "gap", GAP);
  }
  bind_check(L, image_write(path, images, columns, gap));
  return 0;
}

static const struct bind_function file_functions[] = {
    {"load_npy", load_npy, 1,
     "load_npy(path) -> tensor\n"
     "Reads NumPy's .npy: f2, f4 and f8 as reals, u1 and b1 as uint8, i1 to i8 and u2 to u8 (values that fit) as\n"
     "int32. An error names the file and what is wrong with it."},
    {"save_npy", save_npy, 2,
     "save_npy(path, x)\n"
     "Writes x as .npy (f4, i4 or u1). The file is replaced in one moment, when it is complete."},
    {"load_npz", load_npz, 1,
     "load_npz(path) -> table\n"
     "Reads NumPy's .npz: its arrays by name, stored or deflated, as load_npy reads one."},
    {"load_image", load_image, 1,
     "load_image(path) -> uint8 (C, H, W)\n"
     "Reads a PNG or JPEG; C is 1 for grey, 3 for colour."},
    {"save_image", save_image, 3,
     "save_image(path, x, { columns =, gap = 2 })\n"
     "Writes a PNG. x is uint8, or reals in [0, 1] (values outside are clamped): (H, W), (C, H, W) with C 1 or\n"
     "3, or (N, C, H, W), drawn as a grid of columns (default: as square as it goes), gap white pixels apart."},
    {NULL, NULL, 0, NULL}};

/* ---- data sets ---- */

static int read_idx(lua_State *L) {
  bind_push_tensor(L, idx_read(bind_path(L, 1)));
  return 1;
}

static int read_labels(lua_State *L) {
  bind_push_tensor(L, idx_read_labels(bind_path(L, 1), (int)bind_whole(L, 2)));
  return 1;
}

static int read_cifar(lua_State *L) {
  int count;
  const char **path = check_strings(L, 1, &count);
  struct holder *holder = push_holder(L);
  bind_check(L, cifar_read(&holder->tensor[0], &holder->tensor[1], path, count));
  bind_push_taken(L, &holder->tensor[0]);
  bind_push_taken(L, &holder->tensor[1]);
  return 2;
}

static int read_folder(lua_State *L) {
  const char *root = bind_path(L, 1), *label = bind_text(L, 3, NULL);
  int count;
  const char **cache_folder = check_strings(L, 2, &count);
  struct holder *holder = push_holder(L);
  bind_check(L, folder_read(&holder->folder, root, cache_folder, label));
  bind_push_taken(L, &holder->folder.images);
  bind_push_taken(L, &holder->folder.labels);
  push_names(L, holder->folder.class_name, holder->folder.class_count);
  lua_createtable(L, 0, 2);
  lua_pushboolean(L, holder->folder.lossy);
  lua_setfield(L, -2, "lossy");
  lua_pushboolean(L, holder->folder.cached);
  lua_setfield(L, -2, "cached");
  return 4;
}

static int list_folders(lua_State *L) {
  const char *root = bind_path(L, 1);
  struct holder *holder = push_holder(L);
  bind_check(L, folder_list(&holder->name, &holder->name_count, root));
  push_names(L, holder->name, holder->name_count);
  return 1;
}

static int path_kind(lua_State *L) {
  struct stat status;
  if (stat(bind_path(L, 1), &status) != 0)
    lua_pushnil(L);
  else
    lua_pushstring(L, S_ISDIR(status.st_mode) ? "folder" : S_ISREG(status.st_mode) ? "file" : "other");
  return 1;
}

/* From here on a closed pipe is a failed write, not the end of the program. */
static int outlive_readers(lua_State *L) {
  (void)L;
  signal(SIGPIPE, SIG_IGN);
  return 0;
}

static int make_folders(lua_State *L) {
  bind_check(L, file_make_folders(bind_path(L, 1)));
  return 0;
}

/* Numbers of rows, from 1, as a list from 0 that lives as long as the userdata it pushes. */
static const int32_t *check_rows(lua_State *L, int i, struct tensor *index, int64_t *count) {
  bind_check_argument(L, index->type == TYPE_INT32 && index->shape.rank == 1, i, "a list of int32 expected");
  *count = tensor_count(index);
  int32_t *row = lua_newuserdatauv(L, (size_t)(*count > 0 ? *count : 1) * sizeof *row, 0);
  for (int64_t k = 0; k < *count; k++) row[k] = (int32_t)fmax(tensor_get(index, &k) - 1, INT32_MIN);
  return row;
}

static int take_rows(lua_State *L) {
  struct tensor *source = bind_tensor(L, 1), *index = bind_tensor(L, 2);
  int64_t count;
  const int32_t *row = check_rows(L, 2, index, &count);
  bind_push_tensor(L, dataset_take(source, row, count));
  return 1;
}

static int permutation(lua_State *L) {
  lua_Integer count = bind_whole(L, 1);
  struct random_stream stream = {(uint64_t)bind_whole(L, 2), 0};
  bind_check_argument(L, count >= 0 && count <= INT32_MAX, 1, "from 0 to 2147483647");
  struct shape shape = shape_of(1, (int64_t)count);
  bind_push_tensor(L, tensor_new(TYPE_INT32, &shape));
  int32_t *order = tensor_int32(bind_tensor(L, -1));
  random_permutation(stream, order, count);
  for (int64_t i = 0; i < count; i++) order[i]++;
  return 1;
}

/* windows(tokens, starts from 1, length) -> x, y */
static int token_windows(lua_State *L) {
  struct tensor *tokens = bind_tensor(L, 1), *starts = bind_tensor(L, 2);
  int64_t count;
  const int32_t *start = check_rows(L, 2, starts, &count);
  struct holder *holder = push_holder(L);
  bind_check(L, text_windows(&holder->tensor[0], &holder->tensor[1], tokens, start, count, bind_whole(L, 3)));
  bind_push_taken(L, &holder->tensor[0]);
  bind_push_taken(L, &holder->tensor[1]);
  return 2;
}

/* random_starts(count, choices, seed, epoch, batch) -> int32 (count), from 1 */
static int random_starts(lua_State *L) {
  lua_Integer count = bind_whole(L, 1), choices = bind_whole(L, 2);
  bind_check_argument(L, count >= 0 && count <= INT32_MAX, 1, "from 0 to 2147483647");
  bind_check_argument(L, choices >= 1 && choices <= INT32_MAX, 2, "from 1 to 2147483647");
  uint64_t seed = (uint64_t)bind_whole(L, 3), epoch = (uint64_t)bind_whole(L, 4);
  uint64_t batch = (uint64_t)bind_whole(L, 5);
  struct shape shape = shape_of(1, (int64_t)count);
  bind_push_tensor(L, tensor_new(TYPE_INT32, &shape));
  int32_t *start = tensor_int32(bind_tensor(L, -1));
  text_random_starts(start, count, (int32_t)choices, seed, epoch, batch);
  for (int64_t i = 0; i < count; i++) start[i]++;
  return 1;
}

static int fresh_seed(lua_State *L) {
  uint32_t word[4];
  random_block(random_next_stream(), 0, word);
  lua_pushinteger(L, (lua_Integer)((uint64_t)word[0] << 32 | word[1]));
  return 1;
}

static int mean_of(lua_State *L) {
  struct tensor *images = bind_tensor(L, 1);
  int64_t channels = images->shape.rank >= 2 ? images->shape.size[1] : 1;
  double *mean = lua_newuserdatauv(L, (size_t)(channels > 0 ? channels : 1) * sizeof *mean, 0);
  bind_check(L, dataset_mean(mean, images));
  lua_createtable(L, (int)channels, 0);
  for (int64_t c = 0; c < channels; c++) {
    lua_pushnumber(L, mean[c]);
    lua_rawseti(L, -2, c + 1);
  }
  return 1;
}

static int checksum_of(lua_State *L) {
  uint32_t checksum = 0;
  int top = lua_gettop(L);
  for (int i = 1; i <= top; i++) bind_check(L, dataset_checksum(&checksum, bind_tensor(L, i)));
  lua_pushinteger(L, checksum);
  return 1;
}

static int find_nonfinite(lua_State *L) {
  struct tensor *tensor = bind_tensor(L, 1);
  bind_check_argument(L, tensor->type == TYPE_REAL, 1, "reals expected");
  int64_t row;
  double value = 0;
  bind_check(L, dataset_find_nonfinite(&row, &value, tensor));
  if (row < 0) return 0;
  lua_pushinteger(L, row + 1);
  lua_pushnumber(L, value);
  return 2;
}

static int find_outside(lua_State *L) {
  struct tensor *tensor = bind_tensor(L, 1);
  bind_check_argument(L, tensor->type == TYPE_INT32, 1, "int32 expected");
  int64_t row;
  int32_t value = 0;
  bind_check(L, dataset_find_outside(&row, &value, tensor, (int32_t)bind_whole(L, 2), (int32_t)bind_whole(L, 3)));
  if (row < 0) return 0;
  lua_pushinteger(L, row + 1);
  lua_pushinteger(L, value);
  return 2;
}

/* ---- files of several tensors ---- */

/* Tensors of the list at argument i as an array that lives as long as the userdata it pushes; the list keeps them. */
static struct tensor **check_tensors(lua_State *L, int i, int count) {
  bind_check_type(L, i, LUA_TTABLE);
  struct tensor **tensor = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof(struct tensor *), 0);
  for (int k = 0; k < count; k++) {
    lua_rawgeti(L, i, k + 1);
    tensor[k] = bind_tensor(L, -1);
    lua_pop(L, 1);
  }
  return tensor;
}

/* write_npz(path, names, tensors, deflated) */
static int write_npz(lua_State *L) {
  const char *path = bind_path(L, 1);
  int count;
  const char **name = check_strings(L, 2, &count);
  struct tensor **tensor = check_tensors(L, 3, count);
  bind_check(L, npz_write(path, count, name, tensor, lua_toboolean(L, 4)));
  return 0;
}

/* write_safetensors(path, header, tensors) */
static int write_safetensors(lua_State *L) {
  size_t bytes;
  const char *path = bind_path(L, 1), *header = bind_text(L, 2, &bytes);
  bind_check_type(L, 3, LUA_TTABLE);
  int count = (int)lua_rawlen(L, 3);
  bind_check(L, safetensors_write(path, header, bytes, count, check_tensors(L, 3, count)));
  return 0;
}

/* open_safetensors(path) -> reader, header, bytes of elements */
static int open_safetensors(lua_State *L) {
  const char *path = bind_path(L, 1);
  size_t bytes;
  struct holder *holder = push_holder(L);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1); /* the reader borrows the path */
  bind_check(L, safetensors_open(&holder->reader, &holder->header, &bytes, path));
  lua_pushlstring(L, holder->header, bytes);
  lua_pushinteger(L, (lua_Integer)holder->reader.remaining);
  return 3;
}

/* next_tensor(reader, what errors name, type, sizes, bytes) -> tensor */
static int next_tensor(lua_State *L) {
  struct holder *holder = luaL_checkudata(L, 1, HOLDER);
  const char *where = bind_text(L, 2, NULL), *type = bind_text(L, 3, NULL), *path = holder->reader.path;
  lua_Unsigned rank = lua_rawlen(L, 4);
  bind_check_argument(L, holder->reader.stream != NULL, 1, "a reader that is open");
  if (rank > TENSOR_MAX_RANK)
    return luaL_error(L, "%s: %d dimensions, expected at most %d", where, (int)rank, TENSOR_MAX_RANK);
  struct shape shape = {.rank = (int)rank};
  for (int i = 0; i < shape.rank; i++) {
    lua_rawgeti(L, 4, i + 1);
    shape.size[i] = lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
  holder->reader.path = where;
  struct tensor *tensor = safetensors_read(&holder->reader, type, &shape, (uint64_t)bind_whole(L, 5));
  holder->reader.path = path;
  bind_push_tensor(L, tensor);
  return 1;
}

/* data_checksum(reader) -> crc32 of the elements that were read */
static int data_checksum(lua_State *L) {
  struct holder *holder = luaL_checkudata(L, 1, HOLDER);
  lua_pushinteger(L, holder->reader.checksum);
  return 1;
}

static int text_checksum(lua_State *L) {
  size_t bytes;
  const char *text = bind_text(L, 1, &bytes);
  lua_pushinteger(L, file_checksum(0, text, bytes));
  return 1;
}

static const struct bind_function io_functions[] = {{"outlive_readers", outlive_readers, BIND_ANY, NULL},
                                                    {"read_idx", read_idx, BIND_ANY, NULL},
                                                    {"read_labels", read_labels, BIND_ANY, NULL},
                                                    {"read_cifar", read_cifar, BIND_ANY, NULL},
                                                    {"read_folder", read_folder, BIND_ANY, NULL},
                                                    {"list_folders", list_folders, BIND_ANY, NULL},
                                                    {"kind", path_kind, BIND_ANY, NULL},
                                                    {"make_folders", make_folders, BIND_ANY, NULL},
                                                    {"take_rows", take_rows, BIND_ANY, NULL},
                                                    {"permutation", permutation, BIND_ANY, NULL},
                                                    {"windows", token_windows, BIND_ANY, NULL},
                                                    {"random_starts", random_starts, BIND_ANY, NULL},
                                                    {"fresh_seed", fresh_seed, BIND_ANY, NULL},
                                                    {"mean", mean_of, BIND_ANY, NULL},
                                                    {"checksum", checksum_of, BIND_ANY, NULL},
                                                    {"find_nonfinite", find_nonfinite, BIND_ANY, NULL},
                                                    {"find_outside", find_outside, BIND_ANY, NULL},
                                                    {"write_npz", write_npz, BIND_ANY, NULL},
                                                    {"write_safetensors", write_safetensors, BIND_ANY, NULL},
                                                    {"open_safetensors", open_safetensors, BIND_ANY, NULL},
                                                    {"next_tensor", next_tensor, BIND_ANY, NULL},
                                                    {"data_checksum", data_checksum, BIND_ANY, NULL},
                                                    {"crc32", text_checksum, BIND_ANY, NULL},
                                                    {NULL, NULL, 0, NULL}};

static const struct bind_function holder_methods[] = {
    {"__gc", holder_release, BIND_ANY, NULL}, {"__close", holder_release, BIND_ANY, NULL}, {NULL, NULL, 0, NULL}};

void bind_open_io(lua_State *L) {
  bind_class(L, HOLDER, holder_methods);
  bind_functions(L, file_functions);
  lua_newtable(L);
  bind_functions(L, io_functions);
  bind_open_loader(L);
  bind_open_journal(L);
  lua_setfield(L, -2, "io");
}
