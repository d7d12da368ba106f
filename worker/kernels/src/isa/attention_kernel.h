/* The work of Attention for one instruction set. */
#include "../tensor.h"
#include "attention_keep.h"

/* Positions that are worked on for all of a task's queries before the next come: their keys, then their values, stay in
 * the level-1 cache. */
enum { POSITIONS_AT_ONCE = 128 };
/* So many positions ahead keys and values are asked for: the processor by itself stops at the end of each page. */
enum { POSITIONS_AHEAD = 64 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Scores of `rows` queries [rows][size] with `tiles` tiles of keys from position `at` on, a multiple of 16. */
INLINE void score(const float *queries, Kept keys, int64_t at, int64_t size, int rows, int tiles, int kept,
                  float *scores, int64_t stride) {
  Floats sum[QUERIES_SCORED][TILES_FEW];
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int t = 0; t < tiles; t++) sum[r][t] = floats_all(0);
  for (int64_t i = 0; i < size; i++) {
    Floats key[TILES_FEW];
#pragma GCC unroll 4
    for (int t = 0; t < tiles; t++) {
      const int64_t index = at * size + (t * size + i) * LANES;
      ask_for(keys.numbers, index + POSITIONS_AHEAD * size, kept);
      key[t] = load(keys.numbers, index, kept);
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
      const Floats query = floats_all(queries[r * size + i]);
#pragma GCC unroll 4
      for (int t = 0; t < tiles; t++) sum[r][t] = floats_fma(key[t], query, sum[r][t]);
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < tiles; t++) {
    const Floats scale = kept == KEPT_INT8 ? floats_load(keys.scales + at + t * LANES) : floats_all(1.0f);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
      floats_store(scores + r * stride + at + t * LANES,
                   kept == KEPT_INT8 ? floats_mul(sum[r][t], scale) : sum[r][t]);
  }
}

/* Adds values at positions [from, to), weighted for `rows` queries, to their outputs: `vectors` times 16 dimensions from
 * `at` on. Those that begin here take what was there before for nothing. */
INLINE void weigh(const float *weights, int64_t stride, Kept values, int64_t at, int64_t size, int64_t from, int64_t to,
                  int begins, int rows, int vectors, int kept, float *const *outs) {
  Floats sum[QUERIES_WEIGHED][VECTORS_FEW];
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[r][v] = begins ? floats_all(0) : floats_load(outs[r] + at + v * LANES);
  for (int64_t t = from; t < to; t++) {
    const float scale = kept == KEPT_INT8 ? values.scales[t] : 1.0f;
    Floats value[VECTORS_FEW];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      const int64_t index = t * size + at + v * LANES;
      ask_for(values.numbers, index + POSITIONS_AHEAD * size, kept);
      value[v] = load(values.numbers, index, kept);
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
      const float weight = weights[r * stride + t];
      const Floats all = floats_all(kept == KEPT_INT8 ? weight * scale : weight);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) sum[r][v] = floats_fma(value[v], all, sum[r][v]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) floats_store(outs[r] + at + v * LANES, sum[r][v]);
}

/* One kernel for each number of rows from `least` to `most` and each way to keep numbers, made by the compiler. */
#define EACH_COUNT(CASE, ...)                                                             \
  CASE(1, __VA_ARGS__) CASE(2, __VA_ARGS__) CASE(3, __VA_ARGS__) CASE(4, __VA_ARGS__)     \
  CASE(5, __VA_ARGS__) CASE(6, __VA_ARGS__) CASE(7, __VA_ARGS__) CASE(8, __VA_ARGS__)     \
  CASE(9, __VA_ARGS__) CASE(10, __VA_ARGS__) CASE(11, __VA_ARGS__) CASE(12, __VA_ARGS__)

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

#define WEIGH_CASE(rows, vectors, least, most, kept)                                                \
  case rows:                                                                                        \
    if (least <= rows && rows <= most)                                                              \
      weigh(weights, stride, values, at, size, from, to, begins, rows, vectors, kept, outs);        \
    break;
#define WEIGH(name, vectors, least, most)                                                                       \
  static __attribute__((noinline)) void name(const float *weights, int64_t stride, Kept values, int64_t at,     \
                                             int64_t size, int64_t from, int64_t to, int begins, int rows,      \
                                             int64_t kept, float *const *outs) {                                \
    if (kept == KEPT_FLOAT32) switch (rows) { EACH_COUNT(WEIGH_CASE, vectors, least, most, KEPT_FLOAT32) }      \
    else if (kept == KEPT_FLOAT16) switch (rows) { EACH_COUNT(WEIGH_CASE, vectors, least, most, KEPT_FLOAT16) } \
    else switch (rows) { EACH_COUNT(WEIGH_CASE, vectors, least, most, KEPT_INT8) }                              \
  }
WEIGH(weigh_few, VECTORS_FEW, 1, QUERIES_WEIGHED / 2)
WEIGH(weigh_many, VECTORS_MANY, 1, QUERIES_WEIGHED)
WEIGH(weigh_one, 1, 1, QUERIES_WEIGHED)

/* The largest of `largest` and the scores of positions [begin, end), multiples of 16; those beside [from, to) become −∞. */
INLINE Floats largest_seen(Floats largest, float *scores, int64_t begin, int64_t end, int64_t from, int64_t to,
                           float softcap) {
  for (int64_t t = begin; t < end; t += LANES) {
    Floats x = floats_load(scores + t);
    if (softcap > 0) x = capped(x, softcap);
    x = floats_pick(lanes_between(from - t, to - t), x, floats_all(-INFINITY));
    floats_store(scores + t, x);
    largest = floats_max(largest, x);
  }
  return largest;
}

/* Scores of positions [begin, end) → weights that sum to 1; only [from, to) counts, the others become 0. */
static void soften(float *scores, int64_t begin, int64_t end, int64_t from, int64_t to, float softcap) {
  /* Where all count and nothing is changed, in between, reading is enough. */
  const int64_t first = softcap > 0 ? end : least(round_up(from), end), last = most(to / LANES * LANES, first);
  Floats largest = largest_seen(floats_all(-INFINITY), scores, begin, first, from, to, softcap);
  for (int64_t t = first; t < last; t += LANES) largest = floats_max(largest, floats_load(scores + t));
  largest = largest_seen(largest, scores, last, end, from, to, softcap);
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
  int64_t num, past, start; /* rows; position and index of the row's token 0 in this run */
  Span span;                /* of positions that a row of scores holds */
  float *scores;            /* counted by position */
} Rows;

static Rows rows_of(const AttentionCall *call, const Task *task, float *scores) {
  Rows rows = {.call = call, .task = task, .num = task->count * call->group, .span = span_of(call, task)};
  rows.past = past_of(call, task->row), rows.start = call->starts[task->row];
  rows.scores = scores - rows.span.begin;
  return rows;
}

static int64_t token_of(const Rows *rows, int64_t row) { return rows->task->first + row / rows->call->group; }
/* Where a token's numbers of one head of the group begin, when those of two tokens are `stride` apart. */
static int64_t place_of(const Rows *rows, int64_t token, int64_t head, int64_t stride) {
  return (rows->start + token) * stride + (rows->task->kv_head * rows->call->group + head) * rows->call->size;
}
/* Positions [seen_from, seen_to) are what a row's query looks at. */
static int64_t seen_to(const Rows *rows, int64_t row) { return rows->past + token_of(rows, row) + 1; }
static int64_t seen_from(const Rows *rows, int64_t row) { return first_seen(rows->call, seen_to(rows, row)); }

/* Queries as `score` reads them: rotated, scaled, [rows][size]. */
static void lay_queries(const Rows *rows, float *queries) {
  const AttentionCall *call = rows->call;
  const int64_t size = call->size, last = rows->task->first + rows->task->count;
  for (int64_t token = rows->task->first; token < last; token++)
    for (int64_t head = 0; head < call->group; head++, queries += size) {
      const float *query = call->query + place_of(rows, token, head, call->query_stride);
      if (call->rotated) rotate(call, query, rows->past + token, queries);
      else memcpy(queries, query, size * sizeof(float));
      for (int64_t i = 0; i < size; i++) queries[i] *= call->op->scale;
    }
}

/* Where each row's output goes. */
static void find_outs(const Rows *rows, float **outs) {
  const AttentionCall *call = rows->call;
  const int64_t last = rows->task->first + rows->task->count;
  for (int64_t token = rows->task->first; token < last; token++)
    for (int64_t head = 0; head < call->group; head++)
      *outs++ = call->out + place_of(rows, token, head, call->op->heads * call->size);
}

/* Of positions [from, to), multiples of 16. */
static void score_rows(const Rows *rows, const float *queries, int64_t from, int64_t to) {
  const AttentionCall *call = rows->call;
  const Kept keys = kept_of(call, call->keys, call->key_scales, rows->task);
  const int64_t size = call->size, stride = rows->span.stride, kept = call->op->kept;
  for (int64_t block = from; block < to; block += POSITIONS_AT_ONCE)
    for (int64_t first = 0; first < rows->num; first += QUERIES_SCORED) {
      const int count = (int)least(rows->num - first, QUERIES_SCORED);
      const int64_t stop = least(least(block + POSITIONS_AT_ONCE, to), round_up(seen_to(rows, first + count - 1)));
      const int are_few = count <= QUERIES_SCORED / 2;
      const int64_t wide = (are_few ? TILES_FEW : TILES_MANY) * LANES;
      float *scores = rows->scores + first * stride;
      int64_t t = block;
      for (; t + wide <= stop; t += wide)
        (are_few ? score_few : score_many)(queries + first * size, keys, t, size, count, kept, scores, stride);
      for (; t < stop; t += LANES) score_one(queries + first * size, keys, t, size, count, kept, scores, stride);
    }
}

/* Rows [from, to); what a query does not see but another of its task does weighs nothing. */
static void soften_rows(const Rows *rows, int64_t from, int64_t to) {
  for (int64_t row = from; row < to; row++) {
    float *scores = rows->scores + row * rows->span.stride;
    const int64_t seen = seen_to(rows, row), end = round_up(seen);
    soften(scores, rows->span.begin, end, seen_from(rows, row), seen, rows->call->op->softcap);
    memset(scores + end, 0, (rows->span.end - end) * sizeof(float));
  }
}

/* Dimensions [from, to), multiples of 16, of the outputs. */
static void weigh_rows(const Rows *rows, int64_t from, int64_t to, float *const *outs) {
  const AttentionCall *call = rows->call;
  const Kept values = kept_of(call, call->values, call->value_scales, rows->task);
  const int64_t size = call->size, stride = rows->span.stride, kept = call->op->kept;
  for (int64_t block = rows->span.begin; block < rows->span.end; block += POSITIONS_AT_ONCE)
    for (int64_t first = 0; first < rows->num; first += QUERIES_WEIGHED) {
      const int count = (int)least(rows->num - first, QUERIES_WEIGHED);
      const int64_t seen = seen_from(rows, first);
      const int64_t begin = most(seen, block);
      const int64_t end = least(block + POSITIONS_AT_ONCE, seen_to(rows, first + count - 1));
      if (begin >= end) continue;
      const float *weights = rows->scores + first * stride;
      const int are_few = count <= QUERIES_WEIGHED / 2, begins = begin == seen;
      const int64_t wide = (are_few ? VECTORS_FEW : VECTORS_MANY) * LANES;
      int64_t at = from;
      for (; at + wide <= to; at += wide)
        (are_few ? weigh_few : weigh_many)(weights, stride, values, at, size, begin, end, begins, count, kept, outs + first);
      if (are_few)
        for (; at + VECTORS_MANY * LANES <= to; at += VECTORS_MANY * LANES)
          weigh_many(weights, stride, values, at, size, begin, end, begins, count, kept, outs + first);
      for (; at < to; at += LANES)
        weigh_one(weights, stride, values, at, size, begin, end, begins, count, kept, outs + first);
    }
}

static void append(void *argument, size_t index) {
  const AttentionCall *call = argument;
  append_task(call, call->tasks + index);
}

static void attend(void *argument, size_t index) {
  AttentionCall *call = argument;
  const Task *task = call->tasks + index;
  const Span span = span_of(call, task);
  const int64_t num = task->count * call->group;
  /* Scores, if they are this task's own; queries; where outputs go. */
  const int64_t num_scores = task->step == WHOLE ? num * span.stride : 0, num_queries = num * call->size;
  float *memory = scratch(1, (num_scores + num_queries) * sizeof(float) + num * sizeof(float *));
  if (memory == NULL) {
    call->failed = 1;
    return;
  }
  float *queries = memory + num_scores, **outs = (float **)(queries + num_queries);
  const Rows rows = rows_of(call, task, task->step == WHOLE ? memory : task->scores);
  if (task->step == WHOLE && call->appends) append_task(call, task);
  if (task->step == WHOLE || task->step == SCORE) lay_queries(&rows, queries);
  if (task->step == WHOLE || task->step == WEIGH) find_outs(&rows, outs);
  switch (task->step) {
    case WHOLE:
      score_rows(&rows, queries, span.begin, span.end);
      soften_rows(&rows, 0, num);
      weigh_rows(&rows, 0, call->size, outs);
      break;
    case SCORE:
      score_rows(&rows, queries, task->from, task->to);
      break;
    case SOFTEN:
      soften_rows(&rows, task->from, task->to);
      break;
    case WEIGH:
      weigh_rows(&rows, task->from, task->to, outs);
      break;
  }
}
