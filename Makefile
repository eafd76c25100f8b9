# glsrun: build, set-up, tests. `make help` lists the targets.

PREFIX ?= /usr/local
DESTDIR ?=
CC = gcc
PYTHON ?= python3

# Each kind of build has its own folder, so that none reuses the objects of another.
ifdef SANITIZE
BUILD ?= build/sanitize
else ifdef PORTABLE
BUILD ?= build/portable
else
BUILD ?= build
endif

# The OpenMP build of OpenBLAS is named by its own folder: the generic libopenblas.so is one of Debian's
# alternatives and could be switched to the pthread build, which would bring a second pool of threads.
OPENBLAS := $(firstword $(wildcard /usr/lib/*/openblas-openmp))
OPENBLAS_INCLUDE := $(firstword $(wildcard /usr/include/*/openblas-openmp))

OPTIMIZE = -O3 -g -fno-math-errno -fno-trapping-math
MACHINE = -march=native
ifdef PORTABLE
MACHINE =
endif
ifdef SANITIZE
OPTIMIZE = -O1 -g -fno-omit-frame-pointer -fno-math-errno -fno-trapping-math
CHECKED = -fsanitize=address,undefined -fno-sanitize-recover=undefined
endif

FLAGS = -std=c11 -D_GNU_SOURCE $(OPTIMIZE) $(MACHINE) $(CHECKED) -fopenmp -fPIC -fvisibility=hidden \
  -Wall -Wextra -Werror $(if $(OPENBLAS_INCLUDE),-I$(OPENBLAS_INCLUDE)) -I/usr/include/lua5.4
LIBRARIES = $(if $(OPENBLAS),-L$(OPENBLAS) -Wl$(comma)-rpath$(comma)$(OPENBLAS)) -lopenblas -lz -lm -lpthread
LINK = $(CC) -fopenmp $(CHECKED)
comma = ,
# Commands are shown by their result alone; V=1 shows them in full.
quiet = $(if $(V),,@echo '  $@';)

FLOORS = base kernels/linalg kernels/conv kernels/attention kernels/recurrent tensor io ops fuse grad optim gls
CORE = $(wildcard $(addprefix runtime/,$(addsuffix /*.c,$(FLOORS))))
BIND = $(filter-out runtime/bind/mpi.c, $(wildcard runtime/bind/*.c))
PROGRAM = $(wildcard runtime/cli/*.c)
TESTS = $(wildcard tests/core/*.c)
HEADERS = $(wildcard runtime/*/*.h runtime/*/*/*.h tests/core/*.h)

core_objects = $(CORE:%.c=$(BUILD)/objects/%.o)
bind_objects = $(BIND:%.c=$(BUILD)/objects/%.o)
program_objects = $(PROGRAM:%.c=$(BUILD)/objects/%.o)
float_objects = $(TESTS:%.c=$(BUILD)/objects/%.o)
double_objects = $(CORE:%.c=$(BUILD)/double/%.o) $(TESTS:%.c=$(BUILD)/double/%.o)

.PHONY: all setup run test check bench fuzz lint install uninstall clean help force
# The module gls.mpi is built where MPI is there (Debian: libopenmpi-dev, openmpi-bin); everything else does without.
MPI := $(if $(shell command -v mpicc),$(BUILD)/gls/mpi.so)
all: $(BUILD)/glsrun $(BUILD)/gls/core.so $(MPI)

help:
	@echo 'make                 builds $(BUILD)/glsrun and $(BUILD)/gls/core.so'
	@echo 'make run             installs what is missing, builds, and trains the autoencoder'
	@echo 'make test            installs what is missing, builds, and runs all tests (make check: without set-up)'
	@echo 'make bench           times training steps, kernels and loaders; PYTHON= a Python that has the peers'
	@echo 'make fuzz SECONDS=60 feeds damaged files to every reader for so long, under the sanitizers'
	@echo 'make lint            luacheck, clang-format, cppcheck, who includes what, widths of lines'
	@echo 'make install         into PREFIX (default /usr/local), under DESTDIR; make uninstall takes it away'
	@echo 'make clean           removes the build folder'
	@echo 'SANITIZE=1 (address and undefined behaviour) and PORTABLE=1 (any CPU) build in folders of their own'

# ---- building ----

$(BUILD)/glsrun: $(core_objects) $(bind_objects) $(program_objects)
	$(quiet)$(LINK) -Wl,-E -o $@ $^ -llua5.4 -ledit $(LIBRARIES)

# Never unloaded: threads of the core may outlive the Lua state that loaded it.
$(BUILD)/gls/core.so: $(core_objects) $(bind_objects)
	@mkdir -p $(@D)
	$(quiet)$(LINK) -shared -Wl,-z,nodelete -o $@ $^ $(LIBRARIES)

$(BUILD)/gls/mpi.so: runtime/bind/mpi.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(quiet)OMPI_CC='$(CC)' mpicc $(FLAGS) -MMD -MP -MF $(BUILD)/objects/runtime/bind/mpi.d -shared -o $@ $<

$(BUILD)/test-core-float: $(core_objects) $(float_objects)
	$(quiet)$(LINK) -o $@ $^ $(LIBRARIES)

$(BUILD)/test-core-double: $(double_objects)
	$(quiet)$(LINK) -o $@ $^ $(LIBRARIES)

$(BUILD)/test-memory: $(core_objects) $(bind_objects) $(BUILD)/objects/tests/memory/run.o
	$(quiet)$(LINK) -o $@ $^ -llua5.4 $(LIBRARIES)

$(BUILD)/objects/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(quiet)$(CC) $(FLAGS) $(DEFINES) -MMD -MP -c -o $@ $<

$(BUILD)/double/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(quiet)$(CC) $(FLAGS) -DGLS_DOUBLE -MMD -MP -c -o $@ $<

# Where the program finds the Lua side when nothing lies beside it (a build folder outside the tree).
$(BUILD)/objects/runtime/cli/%.o: private DEFINES = -DGLSRUN_SOURCE='"$(CURDIR)"'

# Changes when the compiler, the flags or (for -march=native) the CPU change, and with it every object.
$(BUILD)/flags: force
	@mkdir -p $(@D)
	@{ echo '$(CC) $(FLAGS) $(LIBRARIES)'; $(CC) --version | head -n 1; \
	   $(if $(MACHINE),$(CC) $(MACHINE) -Q --help=target | cksum;) } > $@.now
	@if cmp -s $@.now $@; then rm $@.now; else mv $@.now $@; fi

-include $(patsubst %.o,%.d,$(core_objects) $(bind_objects) $(program_objects) $(float_objects) $(double_objects)) \
  $(BUILD)/objects/runtime/bind/mpi.d

# ---- set-up, running, testing ----

# The make below the set-up starts anew, and so sees what has just been installed.
setup:
	@tests/setup run

run:
	@tests/setup run
	@$(MAKE) --no-print-directory all
	$(BUILD)/glsrun experiments/autoencoder.lua

test:
	@tests/setup test
	@$(MAKE) --no-print-directory check

check: all $(BUILD)/test-core-float $(BUILD)/test-core-double $(BUILD)/test-memory
	@BUILD=$(BUILD) SANITIZE=$(SANITIZE) tests/run

bench:
	@tests/setup test
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) PYTHON=$(PYTHON) tests/bench/run
	$(BUILD)/glsrun tests/bench/long.lua

# The readers are compiled by clang, for its fuzzer, and passed over are OpenMP's pragmas and gcc's attributes; what lies
# below them is gcc's.
FUZZED = $(wildcard runtime/io/*.c) runtime/cli/history.c tests/fuzz/readers.c
below_objects = $(patsubst %.c,$(BUILD)/objects/%.o,$(wildcard runtime/base/*.c runtime/tensor/*.c))
$(BUILD)/fuzz/readers: $(FUZZED) $(HEADERS) $(below_objects)
	@mkdir -p $(@D)
	$(quiet)clang -std=c11 -D_GNU_SOURCE -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
	  -Wno-unknown-warning-option -I/usr/include/lua5.4 -idirafter "$$(gcc -print-file-name=include)" -o $@ $(FUZZED) $(below_objects) \
	  -L"$$(dirname "$$(gcc -print-file-name=libgomp.so)")" -lgomp -ledit -lz -lm -lpthread

fuzz:
	-@tests/setup fuzz
	@$(MAKE) --no-print-directory all $$(command -v clang > /dev/null && echo $(BUILD)/fuzz/readers)
	@BUILD=$(BUILD) tests/fuzz/run $(or $(SECONDS),60)

lint:
	@tests/setup lint
	@tests/lint

# ---- installing ----

bin = $(DESTDIR)$(PREFIX)/bin
lib = $(DESTDIR)$(PREFIX)/lib/lua/5.4
share = $(DESTDIR)$(PREFIX)/share/glsrun

install: all
	install -d $(bin) $(lib)/gls $(share)
	install -m 755 $(BUILD)/glsrun $(bin)/glsrun
	install -m 644 $(BUILD)/gls/core.so $(MPI) $(lib)/gls
	find lua models experiments -name '*.lua' -exec install -D -m 644 '{}' '$(share)/{}' ';'

uninstall:
	rm -f $(bin)/glsrun $(lib)/gls/core.so $(lib)/gls/mpi.so
	-rmdir $(lib)/gls
	rm -rf $(share)

clean:
	rm -rf $(BUILD)
