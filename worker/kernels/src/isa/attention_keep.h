/* How Attention rotates, keeps and reads keys and values, for one instruction set. */
#ifndef LEPTON_ATTENTION_KEEP_H
#define LEPTON_ATTENTION_KEEP_H

#include <math.h>

#include "../attention.h"
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
      if (step == 1) {
        floats_store_half(numbers + index + from, floats_load(x + from));
        continue;
      }
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

/* Has the number at `index` brought near. It need not exist. */
INLINE void ask_for(const char *numbers, int64_t index, int kept) {
  _mm_prefetch(numbers + index * kept / 8, _MM_HINT_T0);
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

#endif
