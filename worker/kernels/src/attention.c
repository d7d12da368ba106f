/* Attention over keys and values that stay where they are, for any mix of prompts and single tokens in one run.
 *
 *   query      float32 [.., tokens, (heads + 2 kv_heads) size], or [.., tokens, heads size] beside
 *   key, value float32 [.., tokens, kv_heads size], optional
 *   keys       float32, float16 or int8 [slots, kv_heads, capacity, size], written in place, in tiles of 16
 *              positions: see below
 *   values     the same, by position
 *   slots      int32 [rows]      where each row's keys and values are
 *   starts     int32 [rows + 1]  a row's tokens of this run are starts[r] .. starts[r + 1]
 *   lengths    int32 [rows]      a row's tokens after this run
 *   cos, sin   float32 [positions, rotated / 2], optional
 *   key_scales, value_scales  float32 [slots, kv_heads, capacity], with int8: what a position's numbers are multiplied by
 *   out        float32 [.., tokens, heads size]
 *
 * Keys lie as [capacity / 16][size][16 positions], so that sixteen scores come from one column of multiplications,
 * without a sum across lanes. The order of every sum depends on positions alone: a token gets the same bits as the last
 * of a prompt, within a chunk, or by itself.
 *
 * Rotation as in Su et al., "RoFormer", 2021; grouped heads as in Ainslie et al., "GQA", 2023.
 */
#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "operators.h"
#include "tensor.h"
#include "vector.h"

enum { NUM_INPUTS = 12, ROWS = 8, ROWS_FEW = 4, QUERIES_MAX = 16, HEAD_MAX = 512 };
/* Scores that are kept at once should stay in the level-2 cache. */
enum { SCORES_BYTES = 256 << 10 };

/* How keys and values are kept, by bits of a number; the compiler makes a kernel for each. */
enum { KEPT_FLOAT32 = 32, KEPT_FLOAT16 = 16, KEPT_INT8 = 8 };

typedef struct {
  const OrtFunction *api;
  int64_t heads, kv_heads, window, rotates, interleaved, kept;
  float scale, softcap;
} Attention;

/* Queries [first, first + count) of a row, for one head of keys and values. */
typedef struct {
  int32_t row, kv_head, first, count;
} Task;

typedef struct {
  const Attention *op;
  int64_t size, capacity, group, rotated; /* of a head; of a slot; heads to a kv head; dimensions that are rotated */
  const float *query, *key, *value;
  int64_t query_stride, kv_stride;
  char *keys, *values;
  float *key_scales, *value_scales, *out;
  const int32_t *slots, *starts, *lengths;
  const float *cos, *sin;
  const Task *tasks;
  int appends; /* whether a task writes its own keys and values first */
  int failed;
} Call;

/* cap · tanh(x / cap) */
INLINE __m512 capped(__m512 x, float cap) {
  const __m512 sign = _mm512_set1_ps(-0.0f), one = _mm512_set1_ps(1.0f);
  const __m512 at = _mm512_mul_ps(x, _mm512_set1_ps(1.0f / cap));
  const __m512 e = exponential(_mm512_mul_ps(_mm512_abs_ps(at), _mm512_set1_ps(-2.0f)));
  const __m512 size = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e));
  return _mm512_mul_ps(_mm512_set1_ps(cap), _mm512_or_ps(size, _mm512_and_ps(at, sign)));
}

TARGET static void rotate(const Call *call, const float *x, int64_t position, float *y) {
  const int64_t half = call->rotated / 2;
  const float *cos = call->cos + position * half, *sin = call->sin + position * half;
  if (call->op->interleaved) {
    for (int64_t i = 0; i < half; i++) {
      const float a = x[2 * i], b = x[2 * i + 1];
      y[2 * i] = a * cos[i] - b * sin[i];
      y[2 * i + 1] = a * sin[i] + b * cos[i];
    }
  } else {
    for (int64_t i = 0; i < half; i++) {
      const float a = x[i], b = x[i + half];
      y[i] = a * cos[i] - b * sin[i];
      y[i + half] = a * sin[i] + b * cos[i];
    }
  }
  memcpy(y + call->rotated, x + call->rotated, (call->size - call->rotated) * sizeof(float));
}

/* Where the token `0` of this run stands in its row. */
static int64_t past_of(const Call *call, int32_t row) {
  return call->lengths[row] - (call->starts[row + 1] - call->starts[row]);
}

/* Keys or values of one head: their numbers, and with int8 the scale of each position. */
typedef struct {
  char *numbers;
  float *scales;
} Kept;

static Kept kept_of(const Call *call, char *numbers, float *scales, const Task *task) {
  const int64_t head = (int64_t)call->slots[task->row] * call->op->kv_heads + task->kv_head;
  Kept kept = {numbers + head * call->capacity * call->size * call->op->kept / 8, NULL};
  if (scales != NULL) kept.scales = scales + head * call->capacity;
  return kept;
}

/* x [size] as it is kept, from `index` on, `step` apart. */
TARGET static void keep(const Call *call, Kept kept, int64_t position, int64_t index, int64_t step, const float *x) {
  const int64_t size = call->size;
  if (call->op->kept == KEPT_FLOAT32) {
    float *numbers = (float *)kept.numbers;
    for (int64_t i = 0; i < size; i++) numbers[index + i * step] = x[i];
  } else if (call->op->kept == KEPT_FLOAT16) {
    uint16_t *numbers = (uint16_t *)kept.numbers, half[LANES];
    for (int64_t from = 0; from < size; from += LANES) {
      const __m512 part = _mm512_loadu_ps(x + from);
      _mm256_storeu_si256((__m256i *)half, _mm512_cvtps_ph(part, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
      for (int64_t i = 0; i < LANES; i++) numbers[index + (from + i) * step] = half[i];
    }
  } else {
    int8_t *numbers = (int8_t *)kept.numbers, byte[LANES];
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff);
    __m512i largest = _mm512_setzero_si512();
    for (int64_t from = 0; from < size; from += LANES)
      largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_loadu_si512(x + from), no_sign));
    const int32_t bits = _mm512_reduce_max_epi32(largest);
    float top;
    memcpy(&top, &bits, sizeof top);
    const __m512 inverse = _mm512_set1_ps(top > 0 ? 127.0f / top : 0.0f);
    for (int64_t from = 0; from < size; from += LANES) {
      const __m512 part = _mm512_mul_ps(_mm512_loadu_ps(x + from), inverse);
      _mm_storeu_si128((__m128i *)byte, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(part)));
      for (int64_t i = 0; i < LANES; i++) numbers[index + (from + i) * step] = byte[i];
    }
    kept.scales[position] = top * (1.0f / 127.0f);
  }
}

INLINE __m512 load(const char *numbers, int64_t index, int kept) {
  if (kept == KEPT_FLOAT32) return _mm512_loadu_ps(numbers + 4 * index);
  if (kept == KEPT_FLOAT16) return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(numbers + 2 * index)));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(numbers + index))));
}

/* Writes keys and values of a task's tokens. */
TARGET static void append(const Call *call, const Task *task) {
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
  __m512 sum[ROWS][4];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
    for (int t = 0; t < tiles; t++) sum[r][t] = _mm512_setzero_ps();
  for (int64_t i = 0; i < size; i++) {
    __m512 key[4];
#pragma GCC unroll 8
    for (int t = 0; t < tiles; t++) key[t] = load(keys.numbers, at * size + (t * size + i) * LANES, kept);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      const __m512 query = _mm512_set1_ps(queries[i * rows + r]);
#pragma GCC unroll 8
      for (int t = 0; t < tiles; t++) sum[r][t] = _mm512_fmadd_ps(key[t], query, sum[r][t]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < tiles; t++) {
    const __m512 scale = kept == KEPT_INT8 ? _mm512_loadu_ps(keys.scales + at + t * LANES) : _mm512_set1_ps(1.0f);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      const __m512 scaled = kept == KEPT_INT8 ? _mm512_mul_ps(sum[r][t], scale) : sum[r][t];
      _mm512_storeu_ps(scores + r * stride + at + t * LANES, scaled);
    }
  }
}

/* Sums of values over positions [from, to), weighted for `rows` queries, `vectors` times 16 dimensions from `at` on. */
INLINE void weigh(const float *weights, int64_t stride, Kept values, int64_t at, int64_t size, int64_t from, int64_t to,
                  int rows, int vectors, int kept, float *const *outs) {
  __m512 sum[4][4];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_setzero_ps();
  for (int64_t t = from; t < to; t++) {
    const float scale = kept == KEPT_INT8 ? values.scales[t] : 1.0f;
    __m512 value[4];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) value[v] = load(values.numbers, t * size + at + v * LANES, kept);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      const float weight = weights[r * stride + t];
      const __m512 all = _mm512_set1_ps(kept == KEPT_INT8 ? weight * scale : weight);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_fmadd_ps(value[v], all, sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) _mm512_storeu_ps(outs[r] + at + v * LANES, sum[r][v]);
}

#define SCORED(rows, tiles) \
  case rows: score(queries, keys, at, size, rows, tiles, kept, scores, stride); break;
#define SCORE(name, cases)                                                                                           \
  INLINE void name##_as(const float *queries, Kept keys, int64_t at, int64_t size, int rows, int kept, float *scores, \
                        int64_t stride) {                                                                            \
    switch (rows) { cases }                                                                                          \
  }                                                                                                                  \
  TARGET static __attribute__((noinline)) void name(const float *queries, Kept keys, int64_t at, int64_t size,       \
                                                    int rows, int64_t kept, float *scores, int64_t stride) {         \
    if (kept == KEPT_FLOAT32) name##_as(queries, keys, at, size, rows, KEPT_FLOAT32, scores, stride);                \
    else if (kept == KEPT_FLOAT16) name##_as(queries, keys, at, size, rows, KEPT_FLOAT16, scores, stride);           \
    else name##_as(queries, keys, at, size, rows, KEPT_INT8, scores, stride);                                        \
  }
SCORE(score_4, SCORED(1, 4) SCORED(2, 4) SCORED(3, 4) SCORED(4, 4))
SCORE(score_2, SCORED(5, 2) SCORED(6, 2) SCORED(7, 2) SCORED(8, 2))
SCORE(score_1, SCORED(1, 1) SCORED(2, 1) SCORED(3, 1) SCORED(4, 1) SCORED(5, 1) SCORED(6, 1) SCORED(7, 1) SCORED(8, 1))

#define WEIGHED(rows, vectors) \
  case rows: weigh(weights, stride, values, at, size, from, to, rows, vectors, kept, outs); break;
#define WEIGH(name, cases)                                                                                           \
  INLINE void name##_as(const float *weights, int64_t stride, Kept values, int64_t at, int64_t size, int64_t from,   \
                        int64_t to, int rows, int kept, float *const *outs) {                                        \
    switch (rows) { cases }                                                                                          \
  }                                                                                                                  \
  TARGET static __attribute__((noinline)) void name(const float *weights, int64_t stride, Kept values, int64_t at,   \
                                                    int64_t size, int64_t from, int64_t to, int rows, int64_t kept,  \
                                                    float *const *outs) {                                            \
    if (kept == KEPT_FLOAT32) name##_as(weights, stride, values, at, size, from, to, rows, KEPT_FLOAT32, outs);      \
    else if (kept == KEPT_FLOAT16) name##_as(weights, stride, values, at, size, from, to, rows, KEPT_FLOAT16, outs); \
    else name##_as(weights, stride, values, at, size, from, to, rows, KEPT_INT8, outs);                              \
  }
WEIGH(weigh_4, WEIGHED(1, 4) WEIGHED(2, 4) WEIGHED(3, 4) WEIGHED(4, 4))
WEIGH(weigh_1, WEIGHED(1, 1) WEIGHED(2, 1) WEIGHED(3, 1) WEIGHED(4, 1))

/* Scores of positions [begin, end) → weights that sum to 1; only [from, to) counts, the others become 0. */
TARGET static void soften(float *scores, int64_t begin, int64_t end, int64_t from, int64_t to, float softcap) {
  const __m512 none = _mm512_set1_ps(-INFINITY);
  __m512 largest = none;
  for (int64_t t = begin; t < end; t += LANES) {
    __m512 x = _mm512_loadu_ps(scores + t);
    if (softcap > 0) x = capped(x, softcap);
    x = _mm512_mask_mov_ps(none, first_lanes(to - t) & ~first_lanes(from - t), x);
    _mm512_storeu_ps(scores + t, x);
    largest = _mm512_max_ps(largest, x);
  }
  const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
  __m512 sum = _mm512_setzero_ps();
  for (int64_t t = begin; t < end; t += LANES) {
    const __m512 e = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + t), top));
    _mm512_storeu_ps(scores + t, e);
    sum = _mm512_add_ps(sum, e);
  }
  const __m512 inverse = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sum));
  for (int64_t t = begin; t < end; t += LANES)
    _mm512_storeu_ps(scores + t, _mm512_mul_ps(_mm512_loadu_ps(scores + t), inverse));
}

static int64_t round_up(int64_t x) { return (x + LANES - 1) / LANES * LANES; }

/* A task's rows of scores, one for each query and each head of its group, by query first. */
typedef struct {
  const Call *call;
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

TARGET static void score_rows(const Rows *rows, Kept keys) {
  const Call *call = rows->call;
  const int64_t size = call->size, stride = rows->stride, kept = call->op->kept;
  float *queries = rows->queries;
  for (int64_t first = 0; first < rows->num; first += ROWS) {
    const int count = rows->num - first < ROWS ? (int)(rows->num - first) : ROWS;
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
    int64_t t = rows->begin;
    if (count <= ROWS_FEW)
      for (; t + 4 * LANES <= stop; t += 4 * LANES) score_4(queries, keys, t, size, count, kept, scores, stride);
    else
      for (; t + 2 * LANES <= stop; t += 2 * LANES) score_2(queries, keys, t, size, count, kept, scores, stride);
    for (; t < stop; t += LANES) score_1(queries, keys, t, size, count, kept, scores, stride);
  }
}

TARGET static void weigh_rows(const Rows *rows, Kept values) {
  const Call *call = rows->call;
  const int64_t size = call->size, stride = rows->stride, kept = call->op->kept;
  for (int64_t first = 0; first < rows->num; first += 4) {
    const int count = rows->num - first < 4 ? (int)(rows->num - first) : 4;
    const int64_t from = seen_from(rows, first), to = seen_to(rows, first + count - 1);
    float *weights = rows->scores + first * stride;
    float *outs[4];
    for (int r = 0; r < count; r++) {
      outs[r] = call->out + ((rows->start + token_of(rows, first + r)) * call->op->heads + head_of(rows, first + r)) * size;
      /* Positions that this query does not see but a later one of the four does. */
      for (int64_t t = round_up(seen_to(rows, first + r)); t < to; t++) weights[r * stride + t] = 0;
    }
    int64_t at = 0;
    for (; at + 4 * LANES <= size; at += 4 * LANES)
      weigh_4(weights, stride, values, at, size, from, to, count, kept, outs);
    for (; at < size; at += LANES) weigh_1(weights, stride, values, at, size, from, to, count, kept, outs);
  }
}

TARGET static void attend(void *argument, size_t index) {
  Call *call = argument;
  const Task *task = call->tasks + index;
  if (call->appends) append(call, task);
  Rows rows = {.call = call, .task = task, .num = task->count * call->group};
  rows.past = past_of(call, task->row), rows.start = call->starts[task->row];
  rows.begin = seen_from(&rows, 0) / LANES * LANES;
  rows.stride = round_up(seen_to(&rows, rows.num - 1)) - rows.begin;
  float *memory = scratch(1, (rows.num * rows.stride + ROWS * call->size) * sizeof(float));
  if (memory == NULL) {
    call->failed = 1;
    return;
  }
  rows.queries = memory;
  rows.scores = memory + ROWS * call->size - rows.begin;
  score_rows(&rows, kept_of(call, call->keys, call->key_scales, task));
  for (int64_t r = 0; r < rows.num; r++)
    soften(rows.scores + r * rows.stride, rows.begin, round_up(seen_to(&rows, r)), seen_from(&rows, r),
           seen_to(&rows, r), call->op->softcap);
  weigh_rows(&rows, kept_of(call, call->values, call->value_scales, task));
}

TARGET static void append_task(void *argument, size_t index) {
  const Call *call = argument;
  append(call, call->tasks + index);
}

/* Tasks of at most `most` tokens for each row and head; the last tokens of a prompt first, as they take longest. */
static size_t split(const Call *call, int64_t num_rows, int64_t (*most)(const Call *, int64_t row), Task *tasks) {
  size_t count = 0;
  for (int64_t row = 0; row < num_rows; row++) {
    const int64_t step = most(call, row);
    for (int64_t end = call->starts[row + 1] - call->starts[row]; end > 0; end = end > step ? end - step : 0) {
      const int32_t first = end > step ? (int32_t)(end - step) : 0;
      for (int32_t head = 0; head < call->op->kv_heads; head++)
        tasks[count++] = (Task){(int32_t)row, head, first, (int32_t)end - first};
    }
  }
  return count;
}

static int64_t most_appended(const Call *call, int64_t row) {
  (void)call, (void)row;
  return 64;
}

static int64_t most_attending(const Call *call, int64_t row) {
  const int64_t fit = SCORES_BYTES / (int64_t)sizeof(float) / (call->group * round_up(call->lengths[row]));
  return fit < 1 ? 1 : fit > QUERIES_MAX ? QUERIES_MAX : fit;
}

static OrtStatus *run(OrtKernelContext *context, Call *call, int64_t num_rows) {
  const OrtFunction *api = call->op->api;
  /* Single tokens in slots of their own need no keys that another task of this run writes. */
  int apart = 1;
  for (int64_t row = 0; row < num_rows; row++)
    apart &= call->starts[row + 1] - call->starts[row] == 1 && (row == 0 || call->slots[row - 1] < call->slots[row]);
  Task *tasks = scratch(2, (call->starts[num_rows] + 1) * call->op->kv_heads * sizeof(Task));
  if (tasks == NULL) return ort_status(api)(ORT_FAIL, "lepton.Attention: no memory");
  call->tasks = tasks;
  call->appends = apart;
  if (!call->appends)
    TRY(ort_parallel_for(api)(context, append_task, split(call, num_rows, most_appended, tasks), 0, call));
  TRY(ort_parallel_for(api)(context, attend, split(call, num_rows, most_attending, tasks), 0, call));
  return call->failed ? ort_status(api)(ORT_FAIL, "lepton.Attention: no memory") : NULL;
}

/* What does not fit, in words; NULL when all does. `input` as above; fills in what follows from shapes. */
static const char *check(Call *call, const Tensor *input) {
  const Attention *op = call->op;
  const Tensor *query = &input[0], *key = &input[1], *keys = &input[3], *slots = &input[5], *cos = &input[8];
  if (keys->num_dims != 4 || keys->dims[1] != op->kv_heads || keys->dims[2] % LANES || keys->dims[3] % LANES ||
      keys->dims[3] > HEAD_MAX || memcmp(keys->dims, input[4].dims, sizeof keys->dims))
    return "lepton.Attention: keys and values are not [slots, kv_heads, capacity, size], the last two multiples of 16";
  if (slots->num_dims != 1 || input[6].num_dims != 1 || input[7].num_dims != 1 ||
      input[6].dims[0] != slots->dims[0] + 1 || input[7].dims[0] != slots->dims[0])
    return "lepton.Attention: slots, starts and lengths do not fit each other";
  for (size_t i = 10; i < NUM_INPUTS; i++)
    if (op->kept == KEPT_INT8 && (input[i].num_dims != 3 || memcmp(keys->dims, input[i].dims, 3 * sizeof(int64_t))))
      return "lepton.Attention: scales are not [slots, kv_heads, capacity]";
  if (query->num_dims < 2) return "lepton.Attention: query has no tokens";
  if (op->rotates && (cos->data == NULL || input[9].data == NULL || cos->num_dims != 2 || 2 * cos->dims[1] > keys->dims[3]))
    return "lepton.Attention: cos and sin do not fit a head";

  call->size = keys->dims[3], call->capacity = keys->dims[2], call->group = op->heads / op->kv_heads;
  call->rotated = op->rotates ? 2 * cos->dims[1] : 0;
  const int64_t own = op->heads * call->size, shared = op->kv_heads * call->size;
  call->query_stride = query->dims[query->num_dims - 1];
  if (key->data == NULL) {
    call->kv_stride = call->query_stride;
    call->key = call->query + own, call->value = call->key + shared;
    if (call->query_stride != own + 2 * shared) return "lepton.Attention: query, key and value have another width";
  } else {
    call->kv_stride = shared;
    call->key = key->data, call->value = input[2].data;
    if (call->query_stride != own || key->dims[key->num_dims - 1] != shared || call->value == NULL)
      return "lepton.Attention: query, key or value has another width";
  }
  int64_t tokens = 1, next = 0;
  for (size_t i = 0; i + 1 < query->num_dims; i++) tokens *= query->dims[i];
  for (int64_t row = 0; row < slots->dims[0]; row++) {
    const int64_t count = call->starts[row + 1] - call->starts[row];
    if (call->starts[row] != next || count < 1 || call->lengths[row] < count || call->lengths[row] > call->capacity ||
        call->slots[row] < 0 || call->slots[row] >= keys->dims[0])
      return "lepton.Attention: a row is out of bounds";
    if (op->rotates && call->lengths[row] > cos->dims[0])
      return "lepton.Attention: cos_cache and sin_cache have fewer positions than a row";
    next += count;
  }
  return next == tokens ? NULL : "lepton.Attention: starts do not cover the tokens";
}

static OrtStatus *compute(void *kernel, OrtKernelContext *context) {
  const Attention *op = kernel;
  Tensor input[NUM_INPUTS];
  for (size_t i = 0; i < NUM_INPUTS; i++) TRY(tensor_input(op->api, context, i, &input[i]));
  Call call = {.op = op, .query = input[0].data, .keys = input[3].data, .values = input[4].data};
  call.slots = input[5].data, call.starts = input[6].data, call.lengths = input[7].data;
  call.cos = input[8].data, call.sin = input[9].data;
  if (op->kept == KEPT_INT8) call.key_scales = input[10].data, call.value_scales = input[11].data;
  const char *wrong = check(&call, input);
  if (wrong != NULL) return ort_status(op->api)(ORT_INVALID_ARGUMENT, wrong);
  Tensor out = input[0];
  out.dims[out.num_dims - 1] = op->heads * call.size;
  TRY(tensor_output(op->api, context, 0, &out));
  call.out = out.data;
  return run(context, &call, input[5].dims[0]);
}

static OrtStatus *create(const struct OrtCustomOp *self, const OrtFunction *api, const OrtKernelInfo *info,
                         void **kernel) {
  (void)self;
  Attention op = {.api = api};
  TRY(ort_attribute_int(api)(info, "num_heads", &op.heads));
  TRY(ort_attribute_int(api)(info, "kv_num_heads", &op.kv_heads));
  TRY(ort_attribute_int(api)(info, "local_window_size", &op.window));
  TRY(ort_attribute_int(api)(info, "do_rotary", &op.rotates));
  TRY(ort_attribute_int(api)(info, "rotary_interleaved", &op.interleaved));
  TRY(ort_attribute_int(api)(info, "kv_bits", &op.kept));
  TRY(ort_attribute_float(api)(info, "scale", &op.scale));
  TRY(ort_attribute_float(api)(info, "softcap", &op.softcap));
  if (op.kv_heads < 1 || op.heads < op.kv_heads || op.heads % op.kv_heads != 0 || !(op.scale > 0) ||
      (op.kept != KEPT_FLOAT32 && op.kept != KEPT_FLOAT16 && op.kept != KEPT_INT8))
    return ort_status(api)(ORT_INVALID_ARGUMENT, "lepton.Attention: attributes out of range");
  return operator_keep(api, &op, sizeof op, kernel);
}

static const char *name(const struct OrtCustomOp *self) {
  (void)self;
  return "Attention";
}

static size_t num_inputs(const struct OrtCustomOp *self) {
  (void)self;
  return NUM_INPUTS;
}

static int input_type(const struct OrtCustomOp *self, size_t index) {
  (void)self;
  if (index == 3 || index == 4) return ORT_ANY; /* `kv_bits` says what it is */
  return index >= 5 && index <= 7 ? ORT_INT32 : ORT_FLOAT;
}

static int input_kind(const struct OrtCustomOp *self, size_t index) {
  (void)self;
  return index == 1 || index == 2 || index >= 8 ? ORT_OPTIONAL : ORT_REQUIRED;
}

const struct OrtCustomOp attention = {
    .version = ORT_ABI_VERSION,
    .name = name,
    .provider = operator_provider,
    .input_type = input_type,
    .num_inputs = num_inputs,
    .output_type = operator_float,
    .num_outputs = operator_one,
    .destroy = free,
    .input_kind = input_kind,
    .output_kind = operator_required,
    .input_memory = operator_memory,
    .create = create,
    .compute = compute,
};
