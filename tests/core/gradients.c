/* Gradients: what holds for every row of the op table, over its samples. Inputs are tried contiguous, transposed and
   with steps and offset, and shared; vjp and jvp see exactly what the tape would keep for them, the rest is poisoned;
   some rows of the batch give what they give in the whole.
   In double vjp, jvp and the Hessians of losses are held against differences; in float they are held against each
   other. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../runtime/base/parallel.h"
#include "../../runtime/grad/tape.h"
#include "check.h"
#include "samples.h"

static char place[512]; /* of the failure: op, sample, seed, variant */

#define CHECK_HERE(condition, format, ...) CHECK(condition, "%s: " format, place, __VA_ARGS__)

/* ---- tensors ---- */

static double number(const struct tensor *t, int64_t i) { /* t contiguous */
  return t->type == TYPE_REAL    ? (double)tensor_real(t)[i]
         : t->type == TYPE_INT32 ? tensor_int32(t)[i]
                                 : tensor_uint8(t)[i];
}

static double dot(struct tensor *a, struct tensor *b) {
  struct tensor *x = tensor_contiguous(a), *y = tensor_contiguous(b);
  double sum = 0;
  for (int64_t i = 0; i < tensor_count(x); i++) sum += number(x, i) * number(y, i);
  tensor_release(x);
  tensor_release(y);
  return sum;
}

static double largest(struct tensor *t) {
  double result = 0;
  struct tensor *x = tensor_contiguous(t);
  for (int64_t i = 0; i < tensor_count(x); i++) result = fmax(result, fabs(number(x, i)));
  tensor_release(x);
  return result;
}

/* Largest difference over the largest element; NaN equals NaN; infinite when shapes or types differ. */
static double distance(struct tensor *a, struct tensor *b) {
  if (!a || !b || a->type != b->type || !shape_equal(&a->shape, &b->shape)) return INFINITY;
  struct tensor *x = tensor_contiguous(a), *y = tensor_contiguous(b);
  double result = 0, scale = fmax(1e-3, fmax(largest(a), largest(b)));
  for (int64_t i = 0; i < tensor_count(x); i++) {
    double p = number(x, i), q = number(y, i);
    if (p == q || (isnan(p) && isnan(q))) continue;
    result = fmax(result, isnan(p) || isnan(q) || isinf(p) || isinf(q) ? INFINITY : fabs(p - q) / scale);
  }
  tensor_release(x);
  tensor_release(y);
  return result;
}

/* ---- running a sample ---- */

/* A call with inputs of its own. */
struct trial {
  struct op_call call;
  struct tensor *input[SAMPLE_MAX_INPUTS];
};

static void trial_release(struct trial *trial) {
  for (int i = 0; i < trial->call.input_count; i++) tensor_release(trial->input[i]);
  for (int i = 0; i < OP_MAX_SAVED; i++) tensor_release(trial->call.saved[i]);
  tensor_release(trial->call.output);
}

enum variant { CONTIGUOUS, TRANSPOSED, STEPPED, VARIANTS };
static const char *const variant_name[] = {"contiguous", "transposed", "stepped"};

/* The values of t in storage of another order: last dimension outermost; or every second element of a larger one, with
   NaN between. */
static struct tensor *restored(const struct tensor *t, enum variant variant) {
  int rank = t->shape.rank;
  if (variant == TRANSPOSED && rank >= 2) {
    int order[TENSOR_MAX_RANK];
    for (int i = 0; i < rank; i++) order[i] = rank - 1 - i;
    struct tensor *turned = tensor_permute(t, order), *stored = tensor_copy(turned);
    struct tensor *back = tensor_permute(stored, order);
    tensor_release(turned);
    tensor_release(stored);
    return back;
  }
  if (variant == STEPPED) {
    struct shape shape = t->shape;
    if (rank == 0) shape = shape_of(1, (int64_t)1);
    int last = shape.rank - 1;
    int64_t count = shape.size[last];
    shape.size[last] = 2 * count + 3;
    struct tensor *wide = tensor_new(t->type, &shape);
    tensor_fill(wide, t->type == TYPE_REAL ? (double)NAN : 1);
    struct tensor *view = tensor_narrow(wide, last, 3, count, 2);
    struct tensor *result = rank == 0 ? tensor_select(view, 0, 0) : tensor_retain(view);
    tensor_assign(result, t);
    tensor_release(wide);
    tensor_release(view);
    return result;
  }
  return tensor_copy(t);
}

/* Forward over copies of the sample's inputs, moved by step · direction[i] where there is one. */
static bool run(const struct sample *sample, enum variant variant, struct tensor *const *direction, double step,
                struct trial *trial) {
  *trial = (struct trial){0};
  trial->call = (struct op_call){.op = sample->op, .input_count = sample->input_count, .input = trial->input};
  trial->call.differentiable = true;
  memcpy(trial->call.value, sample->value, sizeof sample->value);
  for (int i = 0; i < sample->input_count; i++) {
    if (!sample->input[i]) continue;
    trial->input[i] = restored(sample->input[i], sample->updated[i] ? CONTIGUOUS : variant);
    if (!direction || !direction[i]) continue;
    for (int64_t k = 0; k < tensor_count(direction[i]); k++)
      tensor_real(trial->input[i])[k] += (real)(step * (double)tensor_real(direction[i])[k]);
  }
  if (op_call_forward(&trial->call) == STATUS_OK) return true;
  trial_release(trial);
  *trial = (struct trial){0};
  return false;
}

/* Overwrites what the tape does not keep for this op: real values with NaN. */
static void poison(struct trial *trial) {
  unsigned flags = trial->call.op->flags;
  for (int i = 0; i < trial->call.input_count; i++) {
    struct tensor *input = trial->input[i];
    if (!input || flags & OP_SAVES_INPUTS) continue;
    trial->input[i] = tensor_copy(input);
    tensor_release(input);
    tensor_fill(trial->input[i], trial->input[i]->type == TYPE_REAL ? (double)NAN : 1);
  }
  if (flags & OP_SAVES_OUTPUT) return;
  struct tensor *shape_only = tensor_copy(trial->call.output);
  tensor_release(trial->call.output);
  trial->call.output = shape_only;
  tensor_fill(shape_only, shape_only->type == TYPE_REAL ? (double)NAN : 0);
}

/* The output's change along direction by differences of order 4, or NULL when a run fails. */
static struct tensor *difference(const struct sample *sample, struct tensor *const *direction) {
  const double step = 1e-4, weight[4] = {1, -8, 8, -1}, at[4] = {-2, -1, 1, 2};
  struct tensor *sum = NULL;
  for (int k = 0; k < 4; k++) {
    struct trial trial;
    if (!run(sample, CONTIGUOUS, direction, at[k] * step, &trial)) {
      tensor_release(sum);
      return NULL;
    }
    struct tensor *value = tensor_copy(trial.call.output);
    trial_release(&trial);
    if (!sum) {
      sum = tensor_zeros(TYPE_REAL, &value->shape);
    }
    for (int64_t i = 0; i < tensor_count(sum); i++)
      tensor_real(sum)[i] += (real)(weight[k] * (double)tensor_real(value)[i] / (12 * step));
    tensor_release(value);
  }
  return sum;
}

/* ---- checks ---- */

static void check_variants(const struct sample *sample) {
  struct trial plain, other;
  if (!CHECK_HERE(run(sample, CONTIGUOUS, NULL, 0, &plain), "does not run: %s", status_message())) return;
  const struct tensor *output = plain.call.output;
  CHECK_HERE(sample->op->flags & OP_VIEW || tensor_is_contiguous(output), "output %s is not contiguous",
             shape_text(&output->shape));
  for (enum variant v = TRANSPOSED; v < VARIANTS; v++) {
    bool ran = run(sample, v, NULL, 0, &other);
    /* A view of strided storage may not exist, which is an answer. */
    if (!ran && sample->op->flags & OP_VIEW && check_message_has("no view")) continue;
    if (!CHECK_HERE(ran, "%s: does not run: %s", variant_name[v], status_message())) continue;
    double d = distance(plain.call.output, other.call.output);
    CHECK_HERE(d <= CHECK_ROUNDING, "%s: forward differs by %g from contiguous", variant_name[v], d);
    trial_release(&other);
  }
  int threads = parallel_threads();
  parallel_set_threads(3);
  if (CHECK_HERE(run(sample, CONTIGUOUS, NULL, 0, &other), "3 threads: %s", status_message())) {
    double d = distance(plain.call.output, other.call.output);
    CHECK_HERE(d == 0, "forward differs by %g with 3 threads", d);
    trial_release(&other);
  }
  parallel_set_threads(threads);
  trial_release(&plain);
}

/* Inputs 0 and 1 as one tensor give what two equal tensors give. */
static void check_shared(const struct sample *sample) {
  if (sample->input_count < 2 || !sample->input[0] || !sample->input[1]) return;
  if (sample->input[0]->type != sample->input[1]->type ||
      !shape_equal(&sample->input[0]->shape, &sample->input[1]->shape))
    return;
  struct sample equal = *sample;
  equal.input[1] = equal.input[0];
  struct trial apart;
  if (!run(&equal, CONTIGUOUS, NULL, 0, &apart)) return; /* values that the op refuses there */
  struct tensor *input[SAMPLE_MAX_INPUTS];
  memcpy(input, equal.input, sizeof input);
  struct tensor *shared = op_run(sample->op, sample->input_count, input, sample->value);
  if (CHECK_HERE(shared, "shared input: %s", status_message())) {
    double d = distance(apart.call.output, shared);
    CHECK_HERE(d <= CHECK_ROUNDING, "shared input: differs by %g", d);
  }
  tensor_release(shared);
  trial_release(&apart);
}

/* A call's jvp, or NULL with a failure noted. */
static struct tensor *jvp(const struct trial *trial, struct tensor *const *tangent) {
  struct tensor *result = NULL;
  int status = trial->call.op->jvp(&trial->call, tangent, &result);
  if (CHECK_HERE(status == STATUS_OK && result, "jvp: %s", status_message()) &&
      CHECK_HERE(shape_equal(&result->shape, &trial->call.output->shape), "jvp has shape %s, the output %s",
                 shape_text(&result->shape), shape_text(&trial->call.output->shape)))
    return result;
  tensor_release(result);
  return NULL;
}

static bool vjp(const struct sample *sample, const struct trial *trial, struct tensor *gradient, const bool *needed,
                struct tensor **result) {
  for (int i = 0; i < sample->input_count; i++) result[i] = NULL;
  int status = trial->call.op->vjp(&trial->call, gradient, needed, result);
  bool fine = CHECK_HERE(status == STATUS_OK, "vjp: %s", status_message());
  for (int i = 0; i < sample->input_count && fine; i++) {
    if (needed[i])
      fine = CHECK_HERE(result[i] && shape_equal(&result[i]->shape, &sample->input[i]->shape),
                        "vjp gives input %d shape %s instead of %s", i + 1,
                        result[i] ? shape_text(&result[i]->shape) : "nothing", shape_text(&sample->input[i]->shape));
    else
      fine = CHECK_HERE(!result[i], "vjp gives input %d a gradient that nobody needs", i + 1);
  }
  if (fine) return true;
  for (int i = 0; i < sample->input_count; i++) tensor_release(result[i]);
  return false;
}

static void release_all(struct tensor **tensor, int count) {
  for (int i = 0; i < count; i++) {
    tensor_release(tensor[i]);
    tensor[i] = NULL;
  }
}

/* What vjp gives for a gradient in other storage, and for one input alone. */
static void check_vjp_variants(const struct sample *sample, const struct trial *kept, struct tensor *gradient,
                               struct tensor *const *expected) {
  struct tensor *result[SAMPLE_MAX_INPUTS];
  for (enum variant v = TRANSPOSED; v < VARIANTS; v++) {
    struct tensor *strided = restored(gradient, v);
    if (vjp(sample, kept, strided, sample->differentiable, result)) {
      for (int i = 0; i < sample->input_count; i++) {
        if (!sample->differentiable[i]) continue;
        double d = distance(expected[i], result[i]);
        CHECK_HERE(d <= CHECK_ROUNDING, "vjp of a %s gradient differs by %g for input %d", variant_name[v], d, i + 1);
      }
      release_all(result, sample->input_count);
    }
    tensor_release(strided);
  }
  for (int alone = 0; alone < sample->input_count; alone++) {
    bool needed[SAMPLE_MAX_INPUTS] = {0};
    needed[alone] = sample->differentiable[alone];
    if (!needed[alone] || !vjp(sample, kept, gradient, needed, result)) continue;
    double d = distance(expected[alone], result[alone]);
    CHECK_HERE(d <= CHECK_ROUNDING, "vjp for input %d alone differs by %g", alone + 1, d);
    release_all(result, sample->input_count);
  }
  /* The same gradient everywhere, as a sum hands back. */
  struct tensor *one = tensor_scalar((real)0.7), *spread = tensor_expand(one, &gradient->shape);
  struct tensor *full = tensor_copy(spread), *other[SAMPLE_MAX_INPUTS];
  if (vjp(sample, kept, spread, sample->differentiable, result)) {
    if (vjp(sample, kept, full, sample->differentiable, other)) {
      for (int i = 0; i < sample->input_count; i++)
        if (sample->differentiable[i]) {
          double d = distance(result[i], other[i]);
          CHECK_HERE(d <= CHECK_ROUNDING, "vjp of an expanded gradient differs by %g for input %d", d, i + 1);
        }
      release_all(other, sample->input_count);
    }
    release_all(result, sample->input_count);
  }
  tensor_release(one);
  tensor_release(spread);
  tensor_release(full);
}

/* The derivatives of a call whose inputs are stored as the variant says. */
static void check_derivatives(const struct sample *sample, enum variant variant) {
  struct trial kept;
  if (!run(sample, variant, NULL, 0, &kept)) return; /* check_variants has told */
  if (kept.call.output->type != TYPE_REAL) {
    CHECK_HERE(false, "is differentiable and gives %s", type_name(kept.call.output->type));
    trial_release(&kept);
    return;
  }
  poison(&kept);
  int count = sample->input_count;
  struct tensor *gradient = sample_normal(&kept.call.output->shape, sample->seed + 1);
  struct tensor *back[SAMPLE_MAX_INPUTS], *tangent[SAMPLE_MAX_INPUTS] = {0}, *total = NULL;
  if (!vjp(sample, &kept, gradient, sample->differentiable, back)) goto out;
  for (int i = 0; i < count; i++) {
    if (!sample->differentiable[i]) continue;
    tangent[i] = sample_normal(&sample->input[i]->shape, sample->seed + 10 + (uint64_t)i);
    struct tensor *alone[SAMPLE_MAX_INPUTS] = {0};
    alone[i] = tangent[i];
    struct tensor *change = jvp(&kept, alone);
    if (!change) continue;
    double forward = dot(gradient, change), reverse = dot(back[i], tangent[i]);
    double scale = sqrt(dot(gradient, gradient) * dot(change, change)) +
                   sqrt(dot(back[i], back[i]) * dot(tangent[i], tangent[i])) +
                   1e-2 * sqrt(dot(gradient, gradient) * dot(tangent[i], tangent[i]));
    CHECK_HERE(fabs(forward - reverse) <= CHECK_ROUNDING * scale, "%s: input %d: <g, jvp> is %.12g, <vjp, t> %.12g",
               variant_name[variant], i + 1, forward, reverse);
    if (CHECK_IS_DOUBLE && variant == CONTIGUOUS) {
      struct tensor *measured = difference(sample, alone);
      double d = measured ? distance(change, measured) : INFINITY;
      CHECK_HERE(d <= 1e-6, "input %d: jvp differs by %g from differences", i + 1, d);
      tensor_release(measured);
    }
    if (total) {
      op_accumulate(total, change);
    } else {
      total = tensor_copy(change);
    }
    tensor_release(change);
  }
  if (total) {
    struct tensor *together = jvp(&kept, tangent);
    double d = distance(total, together);
    CHECK_HERE(d <= CHECK_ROUNDING, "%s: jvp of all tangents differs by %g from the sum of each", variant_name[variant],
               d);
    tensor_release(together);
    struct tensor *strided[SAMPLE_MAX_INPUTS] = {0};
    for (int i = 0; i < count; i++)
      if (tangent[i]) strided[i] = restored(tangent[i], STEPPED);
    together = jvp(&kept, strided);
    d = distance(total, together);
    CHECK_HERE(d <= CHECK_ROUNDING, "%s: jvp of stepped tangents differs by %g", variant_name[variant], d);
    tensor_release(together);
    release_all(strided, count);
  }
  if (variant == CONTIGUOUS) check_vjp_variants(sample, &kept, gradient, back);
  release_all(back, count);
out:
  release_all(tangent, count);
  tensor_release(total);
  tensor_release(gradient);
  trial_release(&kept);
}

/* Rows start, start + step, … of t where it has as many rows as the batch; else t. */
static struct tensor *some_rows(struct tensor *t, int64_t batch, int64_t start, int64_t count, int64_t step) {
  bool carries = t->shape.rank > 0 && t->shape.size[0] == batch;
  return carries ? tensor_narrow(t, 0, start, count, step) : tensor_retain(t);
}

/* A call narrowed to rows of the batch, the last ones or every other, as forward mode narrows it: its jvp, or the
   product with a loss's Hessian, against those rows of the whole's. */
static void check_rows(const struct sample *sample, int64_t step) {
  struct trial kept, part = {0};
  if (!run(sample, CONTIGUOUS, NULL, 0, &kept)) return;
  poison(&kept);
  const bool is_loss = sample->op->loss;
  const struct shape *shape = is_loss ? &kept.input[0]->shape : &kept.call.output->shape;
  int64_t batch = shape->rank > 0 ? shape->size[0] : 0, count = batch / 2, start = batch - (count - 1) * step - 1,
          row[500];
  struct node node = {.call = kept.call};
  for (int64_t i = 0; i < count && i < 500; i++) row[i] = start + i * step;
  const struct row_block block = {batch, start, count, step > 1 ? row : NULL, NULL};
  if (count >= 1 && count <= 500 && rows_narrow(&node, block, &part.call)) {
    struct tensor *tangent[SAMPLE_MAX_INPUTS] = {0}, *rows[SAMPLE_MAX_INPUTS] = {0};
    for (int i = 0; i < sample->input_count; i++) {
      if (!sample->differentiable[i]) continue;
      tangent[i] = sample_normal(&kept.input[i]->shape, sample->seed + 30 + (uint64_t)i);
      bool narrowed = part.call.input[i] != kept.input[i];
      rows[i] = narrowed ? some_rows(tangent[i], batch, start, count, step) : tensor_retain(tangent[i]);
    }
    struct tensor *whole = NULL, *got = NULL;
    double factor = 1;
    if (is_loss) {
      factor = strstr(sample->text, "sum=1") ? 1 : (double)count / (double)batch; /* of a mean over fewer rows */
      CHECK_HERE(sample->op->loss->hessian_product(&kept.call, tangent[0], &whole) == STATUS_OK &&
                     sample->op->loss->hessian_product(&part.call, rows[0], &got) == STATUS_OK,
                 "%s", status_message());
      for (int64_t i = 0; got && i < tensor_count(got); i++) tensor_real(got)[i] *= (real)factor;
    } else {
      whole = jvp(&kept, tangent), got = jvp(&part, rows);
    }
    struct tensor *expected = whole ? some_rows(whole, batch, start, count, step) : NULL;
    double d = distance(expected, got);
    CHECK_HERE(d <= CHECK_ROUNDING, "%s of rows %d, %d, … differs by %g", is_loss ? "hessian_product" : "jvp",
               (int)start + 1, (int)(start + step) + 1, d);
    release_all(tangent, sample->input_count);
    release_all(rows, sample->input_count);
    tensor_release(whole);
    tensor_release(got);
    tensor_release(expected);
    rows_narrow_release(&node, &part.call);
  }
  trial_release(&kept);
}

/* The diagonal of H against H times each unit vector. */
static void check_hessian_diagonal(const struct sample *sample, const struct op_call *call) {
  struct tensor *diagonal = NULL, *unit = tensor_zeros(TYPE_REAL, &call->input[0]->shape);
  CHECK_HERE(sample->op->loss->hessian_diagonal(call, &diagonal) == STATUS_OK, "hessian_diagonal: %s",
             status_message());
  for (int64_t i = 0; diagonal && i < tensor_count(unit); i++) {
    struct tensor *column = NULL;
    tensor_real(unit)[i] = 1;
    CHECK_HERE(sample->op->loss->hessian_product(call, unit, &column) == STATUS_OK, "%s", status_message());
    double off = column ? fabs((double)tensor_real(column)[i] - (double)tensor_real(diagonal)[i]) : INFINITY;
    CHECK_HERE(off <= CHECK_ROUNDING, "entry %ld of the Hessian's diagonal is off by %g", (long)i, off);
    tensor_real(unit)[i] = 0;
    tensor_release(column);
  }
  tensor_release(unit);
  tensor_release(diagonal);
}

/* H v against differences of the gradient along v. */
static void check_hessian(const struct sample *sample) {
  struct trial kept;
  if (!run(sample, CONTIGUOUS, NULL, 0, &kept)) return;
  poison(&kept);
  struct tensor *v = sample_normal(&sample->input[0]->shape, sample->seed + 20), *product = NULL;
  int status = sample->op->loss->hessian_product(&kept.call, v, &product);
  if (!CHECK_HERE(status == STATUS_OK && product && shape_equal(&product->shape, &v->shape), "hessian_product: %s",
                  status_message()))
    goto out;
  struct tensor *strided = restored(v, STEPPED), *again = NULL;
  status = sample->op->loss->hessian_product(&kept.call, strided, &again);
  CHECK_HERE(status == STATUS_OK && distance(product, again) <= CHECK_ROUNDING, "hessian_product of a stepped v: %s",
             status_message());
  tensor_release(again);
  tensor_release(strided);
  CHECK_HERE(dot(v, product) >= -1e-6 * largest(product), "vᵀ H v is %g", dot(v, product));
  if (sample->op->loss->hessian_diagonal && tensor_count(v) <= 1000) check_hessian_diagonal(sample, &kept.call);
  if (!CHECK_IS_DOUBLE) goto out;
  const double step = 1e-4, weight[4] = {1, -8, 8, -1}, at[4] = {-2, -1, 1, 2};
  struct tensor *sum = tensor_zeros(TYPE_REAL, &v->shape), *one = tensor_scalar(1);
  for (int k = 0; k < 4; k++) {
    struct trial moved;
    struct tensor *result[SAMPLE_MAX_INPUTS] = {0};
    bool needed[SAMPLE_MAX_INPUTS] = {true};
    struct tensor *direction[SAMPLE_MAX_INPUTS] = {v};
    if (!run(sample, CONTIGUOUS, direction, at[k] * step, &moved)) break;
    if (vjp(sample, &moved, one, needed, result))
      for (int64_t i = 0; i < tensor_count(sum); i++)
        tensor_real(sum)[i] += (real)(weight[k] * number(result[0], i) / (12 * step));
    release_all(result, sample->input_count);
    trial_release(&moved);
  }
  double d = distance(product, sum);
  CHECK_HERE(d <= 1e-6, "hessian_product differs by %g from differences of the gradient", d);
  tensor_release(sum);
  tensor_release(one);
out:
  tensor_release(v);
  tensor_release(product);
  trial_release(&kept);
}

/* The same stream gives the same, another stream something else. */
static void check_random(const struct sample *sample) {
  int stream = -1, v = 0;
  for (const struct op_parameter *p = sample->op->parameter; p->name; p++) {
    if (p->kind == OP_RANDOM) stream = v;
    if (p->kind >= OP_NUMBER) v++;
  }
  if (stream < 0) return;
  struct trial first, second;
  if (!run(sample, CONTIGUOUS, NULL, 0, &first)) return;
  if (run(sample, STEPPED, NULL, 0, &second)) {
    CHECK_HERE(distance(first.call.output, second.call.output) == 0, "%s", "the same stream gives other numbers");
    trial_release(&second);
  }
  struct sample other = *sample;
  other.value[stream].stream.stream++;
  if (tensor_count(first.call.output) >= 1000 && run(&other, CONTIGUOUS, NULL, 0, &second)) {
    CHECK_HERE(distance(first.call.output, second.call.output) > 0, "%s", "another stream gives the same numbers");
    trial_release(&second);
  }
  trial_release(&first);
}

void check_row(const struct op *op, const char *text, uint64_t seed) {
  struct sample sample;
  snprintf(place, sizeof place, "%s \"%s\" (seed %llu)", op->name, text, (unsigned long long)seed);
  if (!CHECK_HERE(sample_make(&sample, op, text, seed), "sample: %s", status_message())) return;
  check_variants(&sample);
  check_shared(&sample);
  check_random(&sample);
  if (op->vjp && op->jvp)
    for (enum variant v = CONTIGUOUS; v < VARIANTS; v++) check_derivatives(&sample, v);
  for (int64_t step = 1; step <= 2 && op->jvp; step++) check_rows(&sample, step);
  if (op->loss) check_hessian(&sample);
  sample_release(&sample);
}

/* Every row is tried empty, and with a size of 1, or says why not. */
static void check_coverage(const struct op *op) {
  bool empty = false, single = false;
  for (const char *const *text = op->samples; *text; text++) {
    struct sample sample;
    empty = empty || strncmp(*text, "without empty: ", 15) == 0;
    single = single || strncmp(*text, "without size 1: ", 16) == 0;
    if (sample_is_remark(*text) || !sample_make(&sample, op, *text, 1)) continue;
    for (int i = 0; i < sample.input_count; i++) {
      if (!sample.input[i]) continue;
      const struct shape *shape = &sample.input[i]->shape;
      empty = empty || shape_count(shape) == 0;
      single = single || shape->rank == 0;
      for (int d = 0; d < shape->rank; d++) single = single || shape->size[d] == 1;
    }
    sample_release(&sample);
  }
  CHECK(empty, "%s has no empty sample, nor \"without empty: why\"", op->name);
  CHECK(single, "%s has no sample with a size of 1, nor \"without size 1: why\"", op->name);
}

void test_gradients(void) {
  CHECK(op_count() > 50, "the table has %d rows", op_count());
  for (int k = 0; k < op_count(); k++) {
    const struct op *op = op_at(k);
    CHECK(op_find(op->name) == op, "%s: there is another row of this name", op->name);
    CHECK(op->doc && *op->doc, "%s has no doc line", op->name);
    bool constant = op->flags & (OP_NO_GRADIENT | OP_CONSTANT);
    CHECK(constant ? !op->vjp && !op->jvp : op->vjp && op->jvp, "%s %s", op->name,
          constant ? "has no gradient by its flags, but vjp or jvp" : "lacks vjp or jvp");
    if (!CHECK(op->samples && op->samples[0], "%s has no samples", op->name)) continue;
    check_coverage(op);
    for (int s = 0; op->samples[s]; s++)
      if (!sample_is_remark(op->samples[s])) check_row(op, op->samples[s], (uint64_t)(1000 + s));
  }
}
