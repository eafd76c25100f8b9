# glsrun: build. (bootstrap version)
CC = gcc
FLAGS = -std=c11 -D_GNU_SOURCE -O3 -march=native -fno-math-errno -fno-trapping-math -fopenmp -fPIC -fvisibility=hidden -g -Wall -Wextra -Werror -I/usr/include/lua5.4
CORE = $(wildcard runtime/base/*.c runtime/tensor/*.c runtime/ops/*.c runtime/grad/*.c runtime/optim/*.c runtime/io/*.c)
BIND = $(wildcard runtime/bind/*.c)
OBJECTS = $(CORE:%.c=build/%.o) $(BIND:%.c=build/%.o)
build/gls/core.so: $(OBJECTS)
	@mkdir -p $(@D)
	$(CC) -shared -fopenmp -o $@ $^ -lopenblas -lz -lm -lpthread
build/%.o: %.c $(wildcard runtime/*/*.h)
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -c -o $@ $<
