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
#ifndef LEPTON_ATTENTION_H
#define LEPTON_ATTENTION_H

#include "isa.h"

enum { HEAD_MAX = 512 };

/* How keys and values are kept, by bits of a number; the compiler makes a kernel for each. */
enum { KEPT_FLOAT32 = 32, KEPT_FLOAT16 = 16, KEPT_INT8 = 8 };

typedef struct {
  const OrtFunction *api;
  const Isa *isa;
  int64_t heads, kv_heads, window, rotates, interleaved, kept;
  float scale, softcap;
} Attention;

/* What a task does: all there is to do, or a part of one step of it. */
typedef enum { WHOLE, SCORE, SOFTEN, WEIGH } Step;

/* For queries [first, first + count) of a row and one head of keys and values. */
typedef struct {
  int32_t row, kv_head, first, count;
  Step step;
  int32_t from, to; /* of a step: positions to score, rows of scores to soften, dimensions to weigh */
  float *scores;    /* of a step: [count][group][length of a row of scores], shared by all tasks of these queries */
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
} AttentionCall;

INLINE int64_t round_up(int64_t x) { return (x + LANES - 1) / LANES * LANES; }

/* Where the token 0 of this run stands in its row. */
INLINE int64_t past_of(const AttentionCall *call, int32_t row) {
  return call->lengths[row] - (call->starts[row + 1] - call->starts[row]);
}

/* The first position that a query looks at which sees none from `to` on. */
INLINE int64_t first_seen(const AttentionCall *call, int64_t to) {
  const int64_t window = call->op->window;
  return window > 0 && to > window ? to - window : 0;
}

/* Positions that a task's queries look at, by whole tiles, and how far apart its rows of scores are: an odd number of
 * cache lines, for rows that lie a power of two apart push each other out of the level-1 cache. */
typedef struct {
  int64_t begin, end, stride;
} Span;

INLINE Span span_of(const AttentionCall *call, const Task *task) {
  const int64_t first = past_of(call, task->row) + task->first + 1;
  Span span = {.begin = first_seen(call, first) / LANES * LANES, .end = round_up(first + task->count - 1)};
  span.stride = (span.end - span.begin) | LANES;
  return span;
}

#endif
