/* The work of BlockMatMul for one instruction set, which has a `dot`. */
#include "../block_matmul.h"
#include "functions.h"

static void round_position(void *argument, size_t position) {
  const BlockMatMulCall *call = argument;
  const int64_t size = call->op->size, block = call->op->block;
  const float *x = call->x + position * size;
  const int64_t group = position / ROWS * ROWS, row = position - group;
  const int64_t rows = call->num_positions - group < ROWS ? call->num_positions - group : ROWS;
  int8_t *rounded = call->rounded + group * call->padded + row * 4;
  const int32_t middle = call->zeros != NULL ? 0 : 1 << (call->op->bits - 1);
  for (int64_t index = 0; index < call->num_blocks; index++) {
    const int64_t from = index * block, to = from + block < size ? from + block : size;
    const float top = largest_magnitude(x + from, to - from);
    const Floats inverse = floats_all(top > 0 ? 127.0f / top : 0.0f);
    Ints sum = ints_all(0);
    const int64_t end = from + block < call->padded ? from + block : call->padded;
    for (int64_t k = from; k < end; k += LANES) {
      const Ints whole = floats_to_ints(floats_mul(floats_load_some(x + k, first_lanes(to - k)), inverse));
      sum = ints_add(sum, whole);
      int32_t fours[LANES / 4];
      _mm_storeu_si128((__m128i *)fours, ints_to_bytes(whole));
      for (int64_t four = 0; four < LANES / 4 && k + four * 4 < end; four++)
        memcpy(rounded + (k + four * 4) * rows, fours + four, 4);
    }
    const int32_t total = ints_sum(sum);
    const int64_t at = group * call->num_blocks + index * rows + row;
    call->scale[at] = top * (1.0f / 127.0f);
    call->start[at] = -middle * total;
    call->sum[at] = (float)total;
  }
}

/* To the totals of `rows` positions, panels from `first` on, a block's integers with its scales. */
INLINE void add_block(const BlockMatMulCall *call, int64_t task, int64_t index, int64_t about, int first, int rows,
                      Ints sum[ROWS][PANELS_AT_ONCE], Floats total[ROWS][PANELS]) {
  const int64_t at = (task * call->num_blocks + index) * OUTPUTS + first * LANES;
#pragma GCC unroll 2
  for (int p = 0; p < PANELS_AT_ONCE; p++) {
    const Floats scale = floats_load(call->scales + at + p * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      Floats value = ints_to_floats(sum[r][p]);
      if (call->zeros != NULL)
        value = floats_fnma(floats_load(call->zeros + at + p * LANES), floats_all(call->sum[about + r]), value);
      const Floats both = floats_mul(scale, floats_all(call->scale[about + r]));
      total[r][first + p] = floats_fma(value, both, total[r][first + p]);
    }
  }
}

INLINE void store_tile(const BlockMatMulCall *call, int64_t position, int64_t task, int rows,
                       Floats total[ROWS][PANELS]) {
  if (call->op->gated) {
    const Mask mask = first_lanes(call->width - task * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
      floats_store_some(call->y + (position + r) * call->width + task * LANES, mask,
                        floats_mul(silu(total[r][0]), total[r][1]));
    return;
  }
#pragma GCC unroll 2
  for (int p = 0; p < PANELS; p++) {
    const int64_t output = task * OUTPUTS + p * LANES;
    const Mask mask = first_lanes(call->width - output);
    const Floats bias = call->bias == NULL ? floats_all(0) : floats_load_some(call->bias + output, mask);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
      floats_store_some(call->y + (position + r) * call->width + output, mask, floats_add(total[r][p], bias));
  }
}

/* `rows` positions from `position` on, the outputs of one task; `rows` and `bits` are known to the compiler. */
INLINE void tile(const BlockMatMulCall *call, int64_t position, int64_t task, int rows, int bits) {
  const int64_t block = call->op->block, padded = call->padded;
  const int8_t *rounded = call->rounded + position * padded;
  const uint8_t *weights = call->weights + task * padded * OUTPUTS * bits / 8;
  Floats total[ROWS][PANELS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int p = 0; p < PANELS; p++) total[r][p] = floats_all(0);

  for (int64_t index = 0; index < call->num_blocks; index++) {
    const int64_t from = index * block, to = from + block < padded ? from + block : padded;
    const int64_t about = position * call->num_blocks + index * rows;
#pragma GCC unroll 2
    for (int first = 0; first < PANELS; first += PANELS_AT_ONCE) {
      Ints sum[ROWS][PANELS_AT_ONCE];
#pragma GCC unroll 8
      for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int p = 0; p < PANELS_AT_ONCE; p++) sum[r][p] = ints_all(call->start[about + r]);
      dot(sum, weights + (from * OUTPUTS / 8 + first * LANES) * bits, rounded + from * rows, to - from, rows, bits);
      add_block(call, task, index, about, first, rows, sum, total);
    }
  }
  store_tile(call, position, task, rows, total);
}

#define CASE(rows, bits)                                       \
  case rows:                                                   \
    if (rows <= ROWS) tile(call, position, task, rows, bits);  \
    break;
#define TILE(name, bits)                                                                                              \
  static __attribute__((noinline)) void name(const BlockMatMulCall *call, int64_t position, int64_t task,             \
                                             int64_t rows) {                                                          \
    switch (rows) {                                                                                                   \
      CASE(1, bits) CASE(2, bits) CASE(3, bits) CASE(4, bits) CASE(5, bits) CASE(6, bits) CASE(7, bits) CASE(8, bits) \
    }                                                                                                                 \
  }
TILE(tile_4, 4)
TILE(tile_8, 8)

/* The outputs of one task, for all positions. */
static void multiply(void *argument, size_t task) {
  const BlockMatMulCall *call = argument;
  const int is_4 = call->op->bits == 4;
  for (int64_t position = 0; position < call->num_positions; position += ROWS) {
    const int64_t left = call->num_positions - position, rows = left < ROWS ? left : ROWS;
    (is_4 ? tile_4 : tile_8)(call, position, (int64_t)task, rows);
  }
}
