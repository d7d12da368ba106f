/* The work of Attention for one instruction set. */
#include <math.h>

#include "../attention.h"
#include "../tensor.h"
#include "functions.h"

/* Turns `half` pairs of numbers that lie `apart`. With `fmaf` it rounds alike however the compiler writes the loop. */
INLINE void turn(const float *x, const float *cos, const float *sin, int64_t half, int64_t step, int64_t apart,
                 float *y) {
  for (int64_t i = 0; i < half; i++) {
    const float a = x[i * step], b = x[i * step + apart];
    y[i * step] = fmaf(a, cos[i], -(b * sin[i]));
    y[i * step + apart] = fmaf(a, sin[i], b * cos[i]);
  }
}

/* x [size] with its first dimensions turned → y */
static void rotate(const AttentionCall *call, const float *x, int64_t position, float *y) {
  const int64_t half = call->rotated / 2;
  const float *cos = call->cos + position * half, *sin = call->sin + position * half;
  if (call->op->interleaved) turn(x, cos, sin, half, 2, 1, y);
  else turn(x, cos, sin, half, 1, half, y);
  memcpy(y + call->rotated, x + call->rotated, (call->size - call->rotated) * sizeof(float));
}

/* Where the token `0` of this run stands in its row. */
static int64_t past_of(const AttentionCall *call, int32_t row) {
  return call->lengths[row] - (call->starts[row + 1] - call->starts[row]);
}

/* Keys or values of one head: their numbers, and with int8 the scale of each position. */
typedef struct {
  char *numbers;
  float *scales;
} Kept;

static Kept kept_of(const AttentionCall *call, char *numbers, float *scales, const Task *task) {
  const int64_t head = (int64_t)call->slots[task->row] * call->op->kv_heads + task->kv_head;
  Kept kept = {numbers + head * call->capacity * call->size * call->op->kept / 8, NULL};
  if (scales != NULL) kept.scales = scales + head * call->capacity;
  return kept;
}

/* x [size] as it is kept, from `index` on, `step` apart. */
static void keep(const AttentionCall *call, Kept kept, int64_t position, int64_t index, int64_t step, const float *x) {
  const int64_t size = call->size;
  if (call->op->kept == KEPT_FLOAT32) {
    float *numbers = (float *)kept.numbers;
    for (int64_t i = 0; i < size; i++) numbers[index + i * step] = x[i];
  } else if (call->op->kept == KEPT_FLOAT16) {
    uint16_t *numbers = (uint16_t *)kept.numbers, half[LANES];
    for (int64_t from = 0; from < size; from += LANES) {
      floats_store_half(half, floats_load(x + from));
      for (int64_t i = 0; i < LANES; i++) numbers[index + (from + i) * step] = half[i];
    }
  } else {
    int8_t *numbers = (int8_t *)kept.numbers, byte[LANES];
    const float top = largest_magnitude(x, size);
    const Floats inverse = floats_all(top > 0 ? 127.0f / top : 0.0f);
    for (int64_t from = 0; from < size; from += LANES) {
      const Ints whole = floats_to_ints(floats_mul(floats_load(x + from), inverse));
      _mm_storeu_si128((__m128i *)byte, ints_to_bytes(whole));
      for (int64_t i = 0; i < LANES; i++) numbers[index + (from + i) * step] = byte[i];
    }
    kept.scales[position] = top * (1.0f / 127.0f);
  }
}

INLINE Floats load(const char *numbers, int64_t index, int kept) {
  if (kept == KEPT_FLOAT32) return floats_load((const float *)numbers + index);
  return kept == KEPT_FLOAT16 ? floats_load_half(numbers + 2 * index) : floats_load_bytes(numbers + index);
}

/* Writes keys and values of a task's tokens. */
static void append_task(const AttentionCall *call, const Task *task) {
  const int64_t size = call->size, start = call->starts[task->row], past = past_of(call, task->row);
  const Kept keys = kept_of(call, call->keys, call->key_scales, task);
  const Kept values = kept_of(call, call->values, call->value_scales, task);
  float rotated[HEAD_MAX];
  for (int64_t token = task->first; token < task->first + task->count; token++) {
    const int64_t position = past + token;
    const int64_t from = (start + token) * call->kv_stride + task->kv_head * size;
    const float *key = call->key + from;
    if (call->rotated) {
      rotate(call, key, position, rotated);
      key = rotated;
    }
    keep(call, keys, position, position / LANES * LANES * size + position % LANES, LANES, key);
    keep(call, values, position, position * size, 1, call->value + from);
  }
}

/* Scores of `rows` queries [size][rows] with `tiles` tiles of keys from position `at` on, a multiple of 16. */
INLINE void score(const float *queries, Kept keys, int64_t at, int64_t size, int rows, int tiles, int kept,
                  float *scores, int64_t stride) {
  Floats sum[QUERIES_SCORED][TILES_FEW];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int t = 0; t < tiles; t++) sum[r][t] = floats_all(0);
  for (int64_t i = 0; i < size; i++) {
    Floats key[TILES_FEW];
#pragma GCC unroll 4
    for (int t = 0; t < tiles; t++) key[t] = load(keys.numbers, at * size + (t * size + i) * LANES, kept);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      const Floats query = floats_all(queries[i * rows + r]);
#pragma GCC unroll 4
      for (int t = 0; t < tiles; t++) sum[r][t] = floats_fma(key[t], query, sum[r][t]);
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < tiles; t++) {
    const Floats scale = kept == KEPT_INT8 ? floats_load(keys.scales + at + t * LANES) : floats_all(1.0f);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
      floats_store(scores + r * stride + at + t * LANES,
                   kept == KEPT_INT8 ? floats_mul(sum[r][t], scale) : sum[r][t]);
  }
}

/* Sums of values over positions [from, to), weighted for `rows` queries, `vectors` times 16 dimensions from `at` on. */
INLINE void weigh(const float *weights, int64_t stride, Kept values, int64_t at, int64_t size, int64_t from, int64_t to,
                  int rows, int vectors, int kept, float *const *outs) {
  Floats sum[QUERIES_WEIGHED][VECTORS_FEW];
#pragma GCC unroll 4
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[r][v] = floats_all(0);
  for (int64_t t = from; t < to; t++) {
    const float scale = kept == KEPT_INT8 ? values.scales[t] : 1.0f;
    Floats value[VECTORS_FEW];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) value[v] = load(values.numbers, t * size + at + v * LANES, kept);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
      const float weight = weights[r * stride + t];
      const Floats all = floats_all(kept == KEPT_INT8 ? weight * scale : weight);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) sum[r][v] = floats_fma(value[v], all, sum[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) floats_store(outs[r] + at + v * LANES, sum[r][v]);
}

/* One kernel for each number of rows from `least` to `most` and each way to keep numbers, made by the compiler. */
#define EACH_COUNT(CASE, ...)                                                                         \
  CASE(1, __VA_ARGS__) CASE(2, __VA_ARGS__) CASE(3, __VA_ARGS__) CASE(4, __VA_ARGS__)                 \
  CASE(5, __VA_ARGS__) CASE(6, __VA_ARGS__) CASE(7, __VA_ARGS__) CASE(8, __VA_ARGS__)

#define SCORE_CASE(rows, tiles, least, most, kept)                                                              \
  case rows:                                                                                                    \
    if (least <= rows && rows <= most) score(queries, keys, at, size, rows, tiles, kept, scores, stride);       \
    break;
#define SCORE(name, tiles, least, most)                                                                         \
  static __attribute__((noinline)) void name(const float *queries, Kept keys, int64_t at, int64_t size,         \
                                             int rows, int64_t kept, float *scores, int64_t stride) {           \
    if (kept == KEPT_FLOAT32) switch (rows) { EACH_COUNT(SCORE_CASE, tiles, least, most, KEPT_FLOAT32) }        \
    else if (kept == KEPT_FLOAT16) switch (rows) { EACH_COUNT(SCORE_CASE, tiles, least, most, KEPT_FLOAT16) }   \
    else switch (rows) { EACH_COUNT(SCORE_CASE, tiles, least, most, KEPT_INT8) }                                \
  }
SCORE(score_few, TILES_FEW, 1, QUERIES_SCORED / 2)
SCORE(score_many, TILES_MANY, QUERIES_SCORED / 2 + 1, QUERIES_SCORED)
SCORE(score_one, 1, 1, QUERIES_SCORED)

#define WEIGH_CASE(rows, vectors, least, most, kept)                                                                  \
  case rows:                                                                                                          \
    if (least <= rows && rows <= most) weigh(weights, stride, values, at, size, from, to, rows, vectors, kept, outs); \
    break;
#define WEIGH(name, vectors, least, most)                                                                       \
  static __attribute__((noinline)) void name(const float *weights, int64_t stride, Kept values, int64_t at,     \
                                             int64_t size, int64_t from, int64_t to, int rows, int64_t kept,    \
                                             float *const *outs) {                                              \
    if (kept == KEPT_FLOAT32) switch (rows) { EACH_COUNT(WEIGH_CASE, vectors, least, most, KEPT_FLOAT32) }      \
    else if (kept == KEPT_FLOAT16) switch (rows) { EACH_COUNT(WEIGH_CASE, vectors, least, most, KEPT_FLOAT16) } \
    else switch (rows) { EACH_COUNT(WEIGH_CASE, vectors, least, most, KEPT_INT8) }                              \
  }
WEIGH(weigh_few, VECTORS_FEW, 1, QUERIES_WEIGHED / 2)
WEIGH(weigh_many, VECTORS_MANY, QUERIES_WEIGHED / 2 + 1, QUERIES_WEIGHED)
WEIGH(weigh_one, 1, 1, QUERIES_WEIGHED)

/* Scores of positions [begin, end) → weights that sum to 1; only [from, to) counts, the others become 0. */
static void soften(float *scores, int64_t begin, int64_t end, int64_t from, int64_t to, float softcap) {
  const Floats none = floats_all(-INFINITY);
  Floats largest = none;
  for (int64_t t = begin; t < end; t += LANES) {
    Floats x = floats_load(scores + t);
    if (softcap > 0) x = capped(x, softcap);
    x = floats_pick(lanes_between(from - t, to - t), x, none);
    floats_store(scores + t, x);
    largest = floats_max(largest, x);
  }
  const Floats top = floats_all(floats_top(largest));
  Floats sum = floats_all(0);
  for (int64_t t = begin; t < end; t += LANES) {
    const Floats e = exponential(floats_sub(floats_load(scores + t), top));
    floats_store(scores + t, e);
    sum = floats_add(sum, e);
  }
  const Floats inverse = floats_all(1.0f / floats_sum(sum));
  for (int64_t t = begin; t < end; t += LANES) floats_store(scores + t, floats_mul(floats_load(scores + t), inverse));
}

/* A task's rows of scores, one for each query and each head of its group, by query first. */
typedef struct {
  const AttentionCall *call;
  const Task *task;
  int64_t num, past, start;      /* rows; position and index of the task's token 0 */
  int64_t begin, stride;         /* first position that a row of scores holds, a multiple of 16; length of a row */
  float *scores, *queries;       /* scores are counted by position */
} Rows;

static int64_t token_of(const Rows *rows, int64_t row) { return rows->task->first + row / rows->call->group; }
static int64_t head_of(const Rows *rows, int64_t row) {
  return rows->task->kv_head * rows->call->group + row % rows->call->group;
}
/* Positions [seen_from, seen_to) are what a row's query looks at. */
static int64_t seen_to(const Rows *rows, int64_t row) { return rows->past + token_of(rows, row) + 1; }
static int64_t seen_from(const Rows *rows, int64_t row) {
  const int64_t window = rows->call->op->window, to = seen_to(rows, row);
  return window > 0 && to > window ? to - window : 0;
}

static void score_rows(const Rows *rows, Kept keys) {
  const AttentionCall *call = rows->call;
  const int64_t size = call->size, stride = rows->stride, kept = call->op->kept;
  float *queries = rows->queries;
  for (int64_t first = 0; first < rows->num; first += QUERIES_SCORED) {
    const int count = rows->num - first < QUERIES_SCORED ? (int)(rows->num - first) : QUERIES_SCORED;
    for (int r = 0; r < count; r++) {
      const int64_t token = token_of(rows, first + r);
      const float *query = call->query + (rows->start + token) * call->query_stride + head_of(rows, first + r) * size;
      float rotated[HEAD_MAX];
      if (call->rotated) {
        rotate(call, query, rows->past + token, rotated);
        query = rotated;
      }
      for (int64_t i = 0; i < size; i++) queries[i * count + r] = query[i] * call->op->scale;
    }
    float *scores = rows->scores + first * stride;
    const int64_t stop = round_up(seen_to(rows, first + count - 1));
    const int are_few = count <= QUERIES_SCORED / 2;
    const int64_t wide = (are_few ? TILES_FEW : TILES_MANY) * LANES;
    int64_t t = rows->begin;
    for (; t + wide <= stop; t += wide)
      (are_few ? score_few : score_many)(queries, keys, t, size, count, kept, scores, stride);
    for (; t < stop; t += LANES) score_one(queries, keys, t, size, count, kept, scores, stride);
  }
}

static void weigh_rows(const Rows *rows, Kept values) {
  const AttentionCall *call = rows->call;
  const int64_t size = call->size, stride = rows->stride, kept = call->op->kept;
  for (int64_t first = 0; first < rows->num; first += QUERIES_WEIGHED) {
    const int count = rows->num - first < QUERIES_WEIGHED ? (int)(rows->num - first) : QUERIES_WEIGHED;
    const int64_t from = seen_from(rows, first), to = seen_to(rows, first + count - 1);
    float *weights = rows->scores + first * stride;
    float *outs[QUERIES_WEIGHED];
    for (int r = 0; r < count; r++) {
      outs[r] = call->out + ((rows->start + token_of(rows, first + r)) * call->op->heads + head_of(rows, first + r)) * size;
      /* Positions that this query does not see but a later one of these does. */
      for (int64_t t = round_up(seen_to(rows, first + r)); t < to; t++) weights[r * stride + t] = 0;
    }
    const int are_few = count <= QUERIES_WEIGHED / 2;
    const int64_t wide = (are_few ? VECTORS_FEW : VECTORS_MANY) * LANES;
    int64_t at = 0;
    for (; at + wide <= size; at += wide)
      (are_few ? weigh_few : weigh_many)(weights, stride, values, at, size, from, to, count, kept, outs);
    for (; at < size; at += LANES) weigh_one(weights, stride, values, at, size, from, to, count, kept, outs);
  }
}

static void append(void *argument, size_t index) {
  const AttentionCall *call = argument;
  append_task(call, call->tasks + index);
}

static void attend(void *argument, size_t index) {
  AttentionCall *call = argument;
  const Task *task = call->tasks + index;
  if (call->appends) append_task(call, task);
  Rows rows = {.call = call, .task = task, .num = task->count * call->group};
  rows.past = past_of(call, task->row), rows.start = call->starts[task->row];
  rows.begin = seen_from(&rows, 0) / LANES * LANES;
  rows.stride = round_up(seen_to(&rows, rows.num - 1)) - rows.begin;
  float *memory = scratch(1, (rows.num * rows.stride + QUERIES_SCORED * call->size) * sizeof(float));
  if (memory == NULL) {
    call->failed = 1;
    return;
  }
  rows.queries = memory;
  rows.scores = memory + QUERIES_SCORED * call->size - rows.begin;
  score_rows(&rows, kept_of(call, call->keys, call->key_scales, task));
  for (int64_t r = 0; r < rows.num; r++)
    soften(rows.scores + r * rows.stride, rows.begin, round_up(seen_to(&rows, r)), seen_from(&rows, r),
           seen_to(&rows, r), call->op->softcap);
  weigh_rows(&rows, kept_of(call, call->values, call->value_scales, task));
}
