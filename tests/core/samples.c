/* Samples: reading the form that op.h describes, "positive:4x5 [2x3 2x3] labels7:4 - dims=1,2". Other numbers come from
   the generator, with the sample's seed. */
#include "samples.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/base/random.h"

bool sample_is_remark(const char *text) { return strncmp(text, "without ", 8) == 0; }

struct tensor *sample_normal(const struct shape *shape, uint64_t seed) {
  struct tensor *t = tensor_new(TYPE_REAL, shape);
  if (t) random_fill_normal((struct random_stream){seed, 77}, tensor_real(t), tensor_count(t));
  return t;
}

static bool read_shape(const char *word, struct shape *shape) {
  shape->rank = 0;
  if (strcmp(word, "scalar") == 0) return true;
  for (;;) {
    char *end;
    if (!isdigit((unsigned char)*word) || shape->rank == TENSOR_MAX_RANK) return false;
    shape->size[shape->rank++] = strtoll(word, &end, 10);
    if (!*end) return true;
    if (*end != 'x') return false;
    word = end + 1;
  }
}

/* Multiples of 0.1 in random order and of both signs, at least 0.04 apart and 0.05 from 0; those of different inputs
   differ too. */
static void fill_distinct(real *out, int64_t count, int input, struct random_stream stream) {
  int32_t *order = malloc((size_t)(count ? count : 1) * sizeof *order);
  if (!order) abort();
  random_permutation(stream, order, count);
  for (int64_t i = 0; i < count; i++) {
    double size = 0.1 * order[i] + 0.05 + 0.03 * (input % 3);
    out[i] = (real)(order[i] * 7 % 3 == 1 ? -size : size);
  }
  free(order);
}

/* One input, "4x5" or "kind:4x5". */
static struct tensor *make_input(const char *word, int input, uint64_t seed) {
  char kind[32] = "";
  const char *colon = strchr(word, ':');
  if (colon && (size_t)(colon - word) < sizeof kind) {
    memcpy(kind, word, (size_t)(colon - word));
    kind[colon - word] = '\0';
    word = colon + 1;
  }
  struct shape shape;
  if (!read_shape(word, &shape)) {
    status_error("\"%s\" is not a shape", word);
    return NULL;
  }
  struct random_stream stream = {seed, (uint64_t)input};
  bool labels = strncmp(kind, "labels", 6) == 0;
  struct tensor *t = tensor_new(labels ? TYPE_INT32 : TYPE_REAL, &shape);
  if (!t) return NULL;
  int64_t count = tensor_count(t);
  real *x = labels ? NULL : tensor_real(t);
  if (labels) {
    long classes = strtol(kind + 6, NULL, 10);
    for (int64_t i = 0; i < count; i++) {
      uint32_t random[4];
      random_block(stream, (uint64_t)i, random);
      tensor_int32(t)[i] = (int32_t)(1 + random[0] % (uint32_t)(classes > 0 ? classes : 1));
    }
  } else if (strcmp(kind, "distinct") == 0) {
    fill_distinct(x, count, input, stream);
  } else if (!*kind || strcmp(kind, "regular") == 0) {
    random_fill_normal(stream, x, count);
    int64_t n = shape.rank > 0 ? shape.size[shape.rank - 1] : 0;
    for (int64_t i = 0; *kind && i < count; i++)
      if (i % n == i / n % n) x[i] += (real)(2 + n);
  } else {
    random_fill_uniform(stream, x, count);
    for (int64_t i = 0; i < count; i++) {
      if (strcmp(kind, "positive") == 0)
        x[i] = (real)(0.5 + 1.5 * (double)x[i]);
      else if (strcmp(kind, "unit") == 0)
        x[i] = (real)(0.1 + 0.8 * (double)x[i]);
      else if (strcmp(kind, "above") == 0)
        x[i] = (real)(1.2 + (double)x[i]);
      else if (strcmp(kind, "mask") == 0)
        x[i] = x[i] < (real)0.5 ? 0 : 1;
      else {
        status_error("there is no kind of sample \"%s\"", kind);
        tensor_release(t);
        return NULL;
      }
    }
  }
  return t;
}

static int whole_from_one(int64_t given, enum op_parameter_kind kind) {
  bool dimension = kind == OP_DIMENSION || kind == OP_DIMENSIONS;
  return (int)(dimension && given > 0 ? given - 1 : given);
}

static bool is_value(enum op_parameter_kind kind) { return kind >= OP_NUMBER; }

/* "name=1,2": into the value of that parameter. */
static bool read_value(struct sample *sample, const char *word, bool *given) {
  const char *equals = strchr(word, '=');
  int v = 0;
  for (const struct op_parameter *p = sample->op->parameter; p->name; p++) {
    if (!is_value(p->kind)) continue;
    struct op_value *value = &sample->value[v];
    if (strlen(p->name) == (size_t)(equals - word) && strncmp(p->name, word, (size_t)(equals - word)) == 0) {
      given[v] = true;
      value->number = strtod(equals + 1, NULL);
      value->count = 0;
      for (const char *at = equals + 1; value->count < OP_MAX_LIST;) {
        char *end;
        long long number = strtoll(at, &end, 10);
        if (end == at) break;
        value->list[value->count++] = whole_from_one(number, p->kind);
        if (*end != ',') break;
        at = end + 1;
      }
      if (p->kind == OP_PAIR && value->count == 1) value->list[value->count++] = value->list[0];
      return true;
    }
    v++;
  }
  status_error("there is no parameter for \"%s\"", word);
  return false;
}

static bool fill_defaults(struct sample *sample, const bool *given) {
  int v = 0;
  for (const struct op_parameter *p = sample->op->parameter; p->name; p++) {
    if (!is_value(p->kind)) continue;
    struct op_value *value = &sample->value[v];
    if (p->kind == OP_RANDOM) {
      value->stream = (struct random_stream){sample->seed, 4242};
    } else if (!given[v] && p->has_default) {
      value->number = p->default_value;
      if (p->kind == OP_FLAG || p->kind == OP_INTEGER || p->kind == OP_DIMENSION || p->kind == OP_PAIR) {
        value->list[0] = value->list[1] = whole_from_one((int64_t)p->default_value, p->kind);
        value->count = p->kind == OP_PAIR ? 2 : 1;
      }
    } else if (!given[v] && p->kind != OP_DIMENSIONS) {
      status_error("parameter %s has no value", p->name);
      return false;
    }
    v++;
  }
  return true;
}

/* Statistics that a layer keeps beside its parameters: nobody differentiates by them. */
static bool is_statistic(const char *parameter) { return strncmp(parameter, "running_", 8) == 0; }

/* The parameter that input i belongs to. */
static const struct op_parameter *parameter_of(const struct op *op, int i) {
  if (op->parameter[0].kind == OP_TENSORS) return &op->parameter[0];
  for (const struct op_parameter *p = op->parameter; p->name; p++)
    if (!is_value(p->kind) && i-- == 0) return p;
  return NULL;
}

bool sample_make(struct sample *sample, const struct op *op, const char *text, uint64_t seed) {
  *sample = (struct sample){.op = op, .text = text, .seed = seed};
  bool given[OP_MAX_PARAMETERS] = {0};
  char copy[256], *rest = NULL;
  snprintf(copy, sizeof copy, "%s", text);
  for (char *word = strtok_r(copy, " []", &rest); word; word = strtok_r(NULL, " []", &rest)) {
    bool fine = true;
    if (strchr(word, '=')) {
      fine = read_value(sample, word, given);
    } else if (sample->input_count == SAMPLE_MAX_INPUTS || !parameter_of(op, sample->input_count)) {
      status_error("too many inputs");
      fine = false;
    } else {
      int i = sample->input_count++;
      if (strcmp(word, "-") != 0) {
        sample->input[i] = make_input(word, i, seed);
        fine = sample->input[i] != NULL;
      }
    }
    if (!fine) {
      sample_release(sample);
      return false;
    }
  }
  /* The binding passes NULL for tensors that are left out. */
  while (op->parameter[0].kind != OP_TENSORS && parameter_of(op, sample->input_count) &&
         sample->input_count < SAMPLE_MAX_INPUTS)
    sample->input_count++;
  for (int i = 0; i < sample->input_count; i++) {
    const struct op_parameter *p = parameter_of(op, i);
    bool condition = (p->kind == OP_ANY_TENSOR && strcmp(p->name, "condition") == 0) || strcmp(p->name, "mask") == 0;
    sample->updated[i] = is_statistic(p->name);
    sample->differentiable[i] =
        sample->input[i] && sample->input[i]->type == TYPE_REAL && !condition && !sample->updated[i];
  }
  if (fill_defaults(sample, given)) return true;
  sample_release(sample);
  return false;
}

void sample_release(struct sample *sample) {
  for (int i = 0; i < sample->input_count; i++) tensor_release(sample->input[i]);
  sample->input_count = 0;
}
