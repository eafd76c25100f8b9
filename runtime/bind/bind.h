/* Bind: the core as the Lua module gls.core. The only folder (with cli) that includes lua.h.

   What all files share             auxiliary.c   raising errors, registering functions with docs, fields of tables
                                    names.c       the nearest known name
                                    collector.c   when Lua's collector looks for dead tensors; bytes in use
                                    module.c      luaopen_gls_core joins the domains
   Tensors                          tensor.c      the userdata, its fields, the methods that are not ops
                                    create.c      tensors from numbers, lists and chance
                                    index.c       x[key] and x[key] = value
                                    scope.c       gls.scope
   Rows of the op table             ops.c         as functions and methods
                                    arguments.c   what a row is called with
                                    signature.c   how a row is called, and its help
                                    operators.c   + - * / ^
                                    fuse.c        elementwise functions as one op
   Differentiation                  grad.c        backward, forward mode, leaves
                                    no_grad.c     gls.no_grad
                                    function.c    gls.fn, differentiable functions written in Lua
                                    watch.c       gradients as soon as backward has them
   The rest                         optim.c       optimizers
                                    linalg.c      Cholesky, eigenproblem
                                    io.c          files and data sets      loader.c   batches
                                    journal.c     what Lua writes: whole files, lines, locks
                                    random.c      the generator            threads.c  how many
                                    profile.c     where the time goes     signals.c   that wait for a step
                                    diagnose.c    modules by name, anomalies
   Apart, built where MPI is        mpi.c         the Lua module gls.mpi: texts and vectors between mpirun's processes

   The core's failures become Lua errors here, always through bind_check or bind_error: the message, never a
   C path, through "%s". Userdata are made first, empty and safe, then filled. */
#ifndef GLS_BIND_BIND_H
#define GLS_BIND_BIND_H

#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <lualib.h>

#include "../ops/op.h"
#include "../tensor/tensor.h"

#define BIND_TENSOR "gls.tensor"

/* ---- auxiliary.c ---- */
/* Raises the core's message as a Lua error when status is not STATUS_OK. */
void bind_check(lua_State *L, int status);
/* Raises the core's message. */
int bind_error(lua_State *L);
/* Raises a message with the position of the innermost line of Lua that is not the library's own. */
int bind_raise(lua_State *L, const char *message);
/* The same, of a format as lua_pushfstring takes it. */
int bind_fail(lua_State *L, const char *format, ...);

/* Pushes that position, "script.lua:7: ", or "". */
void bind_push_position(lua_State *L);

/* One function of a domain, with its doc beside it: doc's first line is the call, the rest says what it gives
   (shapes, units, defaults, errors, source). Without doc it is the library's own, and takes what it is given. */
struct bind_function {
  const char *name;
  lua_CFunction function;
  int most; /* arguments, x of x:method() and options among them: more are an error */
  const char *doc;
};

enum { BIND_ANY = INT_MAX };

/* Sets the functions of a NULL-ended array in the table at the top of the stack, and their doc lines in the
   table of docs. */
void bind_functions(lua_State *L, const struct bind_function *functions);
/* Makes the metatable of a kind of userdata whose methods and metamethods these are. */
void bind_class(lua_State *L, const char *name, const struct bind_function *methods);
/* Pushes the table of docs, gls.core.docs: name → doc. */
void bind_push_docs(lua_State *L);

/* Arguments of registered functions; what is wrong is raised with the call as the doc has it. */
int bind_wrong_argument(lua_State *L, int i, const char *expected);
void bind_check_argument(lua_State *L, bool good, int i, const char *message);
void bind_check_type(lua_State *L, int i, int type); /* LUA_TTABLE, LUA_TFUNCTION, LUA_TBOOLEAN */
lua_Integer bind_whole(lua_State *L, int i);
lua_Number bind_number(lua_State *L, int i);
void bind_check_count(lua_State *L, int most);              /* nil at the end of the arguments counts as none */
const char *bind_text(lua_State *L, int i, size_t *length); /* length may be NULL */

/* Whether a coroutine runs, or has resumed one that does: neither suspended nor dead. */
bool bind_is_active(lua_State *thread);

/* The length of the list at index i, in which no entry may be nil: a misspelt variable must not make it shorter. */
lua_Integer bind_length(lua_State *L, int i, const char *where);

/* A field of the table at argument i: a whole number, or absent; true or false. */
int64_t bind_integer_field(lua_State *L, int i, const char *name, int64_t absent);
bool bind_flag_field(lua_State *L, int i, const char *name);

/* ---- names.c ---- */
/* "; did you mean …?" (or "") pushed as a string, from a NULL-ended array of names. */
void bind_push_suggestion(lua_State *L, const char *given, const char *const *names);
/* The same from the keys of a table. */
void bind_push_suggestion_of_keys(lua_State *L, const char *given, int table);

/* ---- tensor.c ---- */
/* Pushes an empty tensor userdata; *slot is set to the returned tensor by the caller. */
struct tensor **bind_new_tensor(lua_State *L);
/* Pushes a tensor, taking over its reference; NULL raises the core's message. Tells the collector of the bytes. */
void bind_push_tensor(lua_State *L, struct tensor *tensor);
/* Pushes *slot, whose reference is Lua's from here on. */
void bind_push_taken(lua_State *L, struct tensor **slot);
/* Tensor at argument i, borrowed; a Lua error names what stands there instead. A released one is an error. */
struct tensor *bind_tensor(lua_State *L, int i);
/* The same or NULL for nil / none. */
struct tensor *bind_optional_tensor(lua_State *L, int i);
/* The userdata's own place of its tensor; NULL when the value at i is none. */
struct tensor **bind_test_slot(lua_State *L, int i);
/* NULL when the value at i is not a tensor. */
struct tensor *bind_test_tensor(lua_State *L, int i);
/* Raises an error when a write into the tensor in place would go past the tape, that has recorded how it was made. */
void bind_check_writable(lua_State *L, const struct tensor *tensor, const char *what);
/* The path at argument i: C's functions would take a zero byte for its end. */
const char *bind_path(lua_State *L, int i);
/* Values that are written in place, or made a leaf of, must not carry a gradient, which would be lost. */
void bind_check_constant(lua_State *L, const struct tensor *source, const char *what);
/* Element type by its name at argument i. */
enum element_type bind_type(lua_State *L, int i);
/* Sizes from arguments first..top (2, 3) or one list ({2, 3}). */
void bind_sizes(lua_State *L, int first, struct shape *shape);

/* ---- collector.c ----
   Young garbage is collected (a minor cycle of Lua's generational mode) when tensors made since the last one
   hold many bytes, and at the end of every optimizer step: bind_collect. Intermediate tensors of a step so go
   back to the buffer cache before the next step starts. While nothing is recorded, bind_before_op (before an
   op's result and a loader's batch) does the same for results that nobody holds any more. */
void bind_collect(lua_State *L);
void bind_after_backward(lua_State *L);
void bind_before_op(lua_State *L);
/* Tells the collector of a tensor just put into a userdata: its bytes count towards the next collection. */
void bind_made(lua_State *L, const struct tensor *tensor);

/* ---- scope.c ---- */
bool bind_in_scope(void);              /* whether scopes are open */
void bind_note_in_scope(lua_State *L); /* the tensor userdata at the top of the stack goes with the innermost one */

/* ---- index.c ---- */
/* x[key] for a number or a list; x[key] = value. */
int bind_index_read(lua_State *L);
void bind_index_write(lua_State *L);

/* ---- arguments.c ---- */
struct bind_arguments {
  int input_count;
  struct tensor **input; /* input_array, or a list that the stack keeps */
  struct tensor *input_array[OP_MAX_PARAMETERS];
  struct op_value value[OP_MAX_PARAMETERS];
};
/* The arguments of the call under way as the row takes them; what is wrong with them is raised. */
void bind_read_arguments(lua_State *L, const struct op *op, struct bind_arguments *read);

/* ---- signature.c ---- */
/* "narrow(x, dimension, start, count, step=1)": optional tensors in brackets, defaults with their values. */
void bind_push_signature(lua_State *L, const struct op *op);
/* The help text of a row. */
void bind_push_op_doc(lua_State *L, const struct op *op);

/* ---- ops.c ---- */
/* Runs an op through the tape and pushes its output; the message of a failure is raised. */
void bind_run(lua_State *L, const struct op *op, int input_count, struct tensor *const *input,
              const struct op_value *values);

/* ---- fuse.c ---- */
extern int bind_fusing; /* how many functions are being fused: called with symbols that stand for tensors */
/* A tensor, or a symbol while a function is being fused; NULL for anything else. */
struct tensor *bind_test_operand(lua_State *L, int i);
/* Pushes a number as a tensor (or symbol) of rank 0. */
struct tensor *bind_push_number(lua_State *L, double number);
/* The same as int32; not while fusing. */
struct tensor *bind_push_integer(lua_State *L, int64_t number);
/* While a function is being fused: adds a step to it and pushes its symbol; false, and nothing done, when no input is a
   symbol. */
bool bind_trace(lua_State *L, const struct op *op, int input_count, struct tensor *const *input,
                const struct op_value *values);

/* ---- no_grad.c ---- */
/* Whether what runs now is recorded: to be asked before every op, for it differs from coroutine to coroutine. */
bool bind_recording(void);
/* +1 before what C runs that is not recorded, -1 after it. */
void bind_unrecorded(int change);
/* Pushes a guard: nothing is recorded until it is closed (lua_toclose, lua_closeslot); marks: what is made of tensors
   that derivatives reach is marked as unrecorded. */
void bind_push_guard(lua_State *L, bool marks);

/* ---- grad.c ---- */
/* A step has ended, or gradients were forgotten: none waits for the next step. */
void bind_step_ended(void);

/* ---- function.c ---- */
/* The thread whose call into the tape is under way: functions written in Lua run in it. NULL: none. */
extern _Thread_local lua_State *bind_running;

/* Each domain adds its functions to the module table at the top of the stack. */
void bind_open_collector(lua_State *L);
void bind_open_create(lua_State *L);
void bind_open_diagnose(lua_State *L);
void bind_open_function(lua_State *L);
void bind_open_watch(lua_State *L);
void bind_open_fuse(lua_State *L);
void bind_open_grad(lua_State *L);
void bind_open_io(lua_State *L);
void bind_open_linalg(lua_State *L);
void bind_open_loader(lua_State *L);  /* to the module's table io */
void bind_open_journal(lua_State *L); /* the same */
void bind_open_names(lua_State *L);
void bind_open_no_grad(lua_State *L);
void bind_open_operators(lua_State *L);
void bind_open_ops(lua_State *L);
void bind_open_optim(lua_State *L);
void bind_open_profile(lua_State *L);
void bind_open_random(lua_State *L);
void bind_open_scope(lua_State *L);
void bind_open_signals(lua_State *L);
void bind_open_tensor(lua_State *L);
void bind_open_threads(lua_State *L);

#endif
