/* y = x · Wᵀ with block-quantised weights, the same bits for a position whoever its neighbours are.
 *
 *   x       float32 [.., K]
 *   weights uint8   [N/32][K/8][2][64 or 128 bytes], see worker/kernels/packing.py
 *   scales  float32 [N/32][K/block][32]
 *   zeros   float32 [N/32][K/block][32], optional: without them the middle, 8 or 128
 *   bias    float32 [N], optional
 *   y       float32 [.., N], or gated [.., N/2]: of each 32 outputs the first 16 are gates, y = silu(gate) · other
 *
 * Each block of x is rounded to 8 bits with a scale of its own. A product of a block is a sum of integers, which is
 * exact in any order; blocks are added in their order in float32. So neither the number of positions in a run nor
 * the tile that a position falls into changes its result.
 *
 * VPDPBUSD multiplies unsigned by signed bytes: stored weights are the unsigned side as they are, and what their middle
 * adds is taken off at the start of the sum, where it depends on x alone.
 */
#include <stdlib.h>
#include <string.h>

#include "operators.h"
#include "tensor.h"
#include "vector.h"

enum { ROWS = 8, PANELS = 2, OUTPUTS = LANES * PANELS };
/* Bytes of weights that are asked for before they are needed: they come from main memory, in one stream. */
enum { AHEAD = 1024 };
/* Bytes of rounded positions that are worked on before the next weights come: they should stay in the level-2 cache. */
enum { POSITIONS_BYTES = 384 << 10 };

typedef struct {
  const OrtFunction *api;
  int64_t size, num_outputs, block, bits, gated; /* K, N */
} BlockMatMul;

typedef struct {
  const BlockMatMul *op;
  int64_t num_positions, padded, num_blocks, num_tasks, width; /* M, K rounded up, blocks, groups of outputs, of y */
  const float *x;
  /* Positions in groups of ROWS, the last one smaller; a group's values side by side, as a tile reads them. */
  int8_t *rounded; /* [M/ROWS][padded/4][ROWS][4] */
  float *scale;    /* [M/ROWS][num_blocks][ROWS] */
  int32_t *start;  /* the same shape: minus the middle times the sum of the block */
  float *sum;      /* the same shape: the sum of the block, for weights with zeros of their own */
  const uint8_t *weights;
  const float *scales, *zeros, *bias;
  float *y;
} Call;

TARGET static void round_position(void *argument, size_t position) {
  const Call *call = argument;
  const int64_t size = call->op->size, block = call->op->block;
  const float *x = call->x + position * size;
  const int64_t group = position / ROWS * ROWS, row = position - group;
  const int64_t rows = call->num_positions - group < ROWS ? call->num_positions - group : ROWS;
  int8_t *rounded = call->rounded + group * call->padded + row * 4;
  const int32_t middle = call->zeros != NULL ? 0 : 1 << (call->op->bits - 1);
  for (int64_t index = 0; index < call->num_blocks; index++) {
    const int64_t from = index * block, to = from + block < size ? from + block : size;
    /* Compared as integers, which has the same order, and what is no number is the largest of all. */
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff);
    __m512i largest = _mm512_setzero_si512();
    for (int64_t k = from; k < to; k += LANES) {
      const __mmask16 mask = first_lanes(to - k);
      largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_maskz_loadu_epi32(mask, x + k), no_sign));
    }
    const int32_t bits = _mm512_reduce_max_epi32(largest);
    float top;
    memcpy(&top, &bits, sizeof top);
    const __m512 inverse = _mm512_set1_ps(top > 0 ? 127.0f / top : 0.0f);
    __m512i sum = _mm512_setzero_si512();
    const int64_t end = from + block < call->padded ? from + block : call->padded;
    for (int64_t k = from; k < end; k += LANES) {
      const __mmask16 there = first_lanes(to - k);
      const __m512i whole =
          _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(there, x + k), inverse));
      sum = _mm512_add_epi32(sum, whole);
      int32_t fours[LANES / 4];
      _mm_storeu_si128((__m128i *)fours, _mm512_cvtsepi32_epi8(whole));
      for (int64_t four = 0; four < LANES / 4 && k + four * 4 < end; four++)
        memcpy(rounded + (k + four * 4) * rows, fours + four, 4);
    }
    const int32_t total = _mm512_reduce_add_epi32(sum);
    const int64_t at = group * call->num_blocks + index * rows + row;
    call->scale[at] = top * (1.0f / 127.0f);
    call->start[at] = -middle * total;
    call->sum[at] = (float)total;
  }
}

/* `rows` positions from `position` on, the outputs of one task; `rows` and `bits` are known to the compiler. */
INLINE void tile(const Call *call, int64_t position, int64_t task, int rows, int bits) {
  const int64_t num_blocks = call->num_blocks, block = call->op->block, padded = call->padded;
  const int8_t *rounded = call->rounded + position * padded;
  const uint8_t *weights = call->weights + task * padded * OUTPUTS * bits / 8;
  const float *scales = call->scales + task * num_blocks * OUTPUTS;
  const float *zeros = call->zeros == NULL ? NULL : call->zeros + task * num_blocks * OUTPUTS;
  const __m512i nibble = _mm512_set1_epi8(0x0f);
  __m512 total[ROWS][PANELS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int p = 0; p < PANELS; p++) total[r][p] = _mm512_setzero_ps();

  for (int64_t index = 0; index < num_blocks; index++) {
    const int64_t from = index * block, to = from + block < padded ? from + block : padded;
    const int64_t about = position * num_blocks + index * rows;
    __m512i sum[ROWS][PANELS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
      for (int p = 0; p < PANELS; p++) sum[r][p] = _mm512_set1_epi32(call->start[about + r]);
    for (int64_t k = from; k < to; k += 8) {
      const uint8_t *at = weights + k * OUTPUTS * bits / 8;
#pragma GCC unroll 4
      for (int line = 0; line < OUTPUTS * bits / 64; line++)
        _mm_prefetch((const char *)at + AHEAD + line * 64, _MM_HINT_T0);
      /* Half of the eight at a time: fewer registers hold weights, more hold sums. */
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        __m512i part[PANELS];
#pragma GCC unroll 2
        for (int p = 0; p < PANELS; p++) {
          if (bits == 8) {
            part[p] = _mm512_loadu_si512(at + (2 * p + half) * 64);
          } else {
            const __m512i both = _mm512_loadu_si512(at + p * 64);
            part[p] = _mm512_and_si512(half == 0 ? both : _mm512_srli_epi16(both, 4), nibble);
          }
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
          int32_t four;
          memcpy(&four, rounded + (k + 4 * half) * rows + 4 * r, sizeof four);
          const __m512i x = _mm512_set1_epi32(four);
#pragma GCC unroll 2
          for (int p = 0; p < PANELS; p++) sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], part[p], x);
        }
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < PANELS; p++) {
      const __m512 scale = _mm512_loadu_ps(scales + index * OUTPUTS + p * LANES);
#pragma GCC unroll 8
      for (int r = 0; r < rows; r++) {
        __m512 value = _mm512_cvtepi32_ps(sum[r][p]);
        if (zeros != NULL)
          value = _mm512_fnmadd_ps(_mm512_loadu_ps(zeros + index * OUTPUTS + p * LANES),
                                   _mm512_set1_ps(call->sum[about + r]), value);
        total[r][p] = _mm512_fmadd_ps(value, _mm512_mul_ps(scale, _mm512_set1_ps(call->scale[about + r])), total[r][p]);
      }
    }
  }

  if (call->op->gated) {
    const __mmask16 mask = first_lanes(call->width - task * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
      _mm512_mask_storeu_ps(call->y + (position + r) * call->width + task * LANES, mask,
                            _mm512_mul_ps(silu(total[r][0]), total[r][1]));
    return;
  }
#pragma GCC unroll 2
  for (int p = 0; p < PANELS; p++) {
    const int64_t output = task * OUTPUTS + p * LANES;
    const __mmask16 mask = first_lanes(call->width - output);
    const __m512 bias = call->bias == NULL ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, call->bias + output);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
      _mm512_mask_storeu_ps(call->y + (position + r) * call->width + output, mask, _mm512_add_ps(total[r][p], bias));
  }
}

#define CASE(rows, bits) \
  case rows: tile(call, position, task, rows, bits); break;
#define TILE(name, bits)                                                                                              \
  TARGET static __attribute__((noinline)) void name(const Call *call, int64_t position, int64_t task, int64_t rows) { \
    switch (rows) {                                                                                                   \
      CASE(1, bits) CASE(2, bits) CASE(3, bits) CASE(4, bits) CASE(5, bits) CASE(6, bits) CASE(7, bits) CASE(8, bits) \
    }                                                                                                                 \
  }
TILE(tile_4, 4)
TILE(tile_8, 8)

/* The outputs of one task, for all positions. */
TARGET static void multiply(void *argument, size_t task) {
  const Call *call = argument;
  const int is_4 = call->op->bits == 4;
  for (int64_t position = 0; position < call->num_positions; position += ROWS) {
    const int64_t left = call->num_positions - position, rows = left < ROWS ? left : ROWS;
    (is_4 ? tile_4 : tile_8)(call, position, (int64_t)task, rows);
  }
}

static OrtStatus *run(const BlockMatMul *op, OrtKernelContext *context, Call *call) {
  const OrtFunction *api = op->api;
  const size_t num_positions = call->num_positions, blocks = num_positions * call->num_blocks;
  char *memory = scratch(0, num_positions * call->padded + 64 + 3 * blocks * sizeof(float));
  if (memory == NULL) return ort_status(api)(ORT_FAIL, "lepton.BlockMatMul: no memory");
  call->scale = (float *)memory;
  call->sum = call->scale + blocks;
  call->start = (int32_t *)(call->sum + blocks);
  call->rounded = (int8_t *)(call->start + blocks);
  if (num_positions * op->size < 32768) {
    for (size_t position = 0; position < num_positions; position++) round_position(call, position);
  } else {
    TRY(ort_parallel_for(api)(context, round_position, num_positions, 0, call));
  }
  /* In shares of the positions that fit into the level-2 cache. */
  Call share = *call;
  const int64_t groups = POSITIONS_BYTES / call->padded / ROWS, most = groups > 0 ? groups * ROWS : ROWS;
  for (int64_t from = 0; from < call->num_positions; from += most) {
    share.num_positions = call->num_positions - from < most ? call->num_positions - from : most;
    share.rounded = call->rounded + from * call->padded;
    share.scale = call->scale + from * call->num_blocks;
    share.sum = call->sum + from * call->num_blocks;
    share.start = call->start + from * call->num_blocks;
    share.y = call->y + from * call->width;
    TRY(ort_parallel_for(api)(context, multiply, call->num_tasks, 0, &share));
  }
  return NULL;
}

static int64_t count(const Tensor *tensor) {
  int64_t product = 1;
  for (size_t i = 0; i < tensor->num_dims; i++) product *= tensor->dims[i];
  return product;
}

static OrtStatus *compute(void *kernel, OrtKernelContext *context) {
  const BlockMatMul *op = kernel;
  Tensor x, weights, scales, zeros, bias;
  TRY(tensor_input(op->api, context, 0, &x));
  TRY(tensor_input(op->api, context, 1, &weights));
  TRY(tensor_input(op->api, context, 2, &scales));
  TRY(tensor_input(op->api, context, 3, &zeros));
  TRY(tensor_input(op->api, context, 4, &bias));
  Call call = {.op = op, .x = x.data, .weights = weights.data, .scales = scales.data};
  call.zeros = zeros.data;
  call.bias = bias.data;
  call.padded = (op->size + 7) / 8 * 8;
  call.num_blocks = (op->size + op->block - 1) / op->block;
  call.num_tasks = (op->num_outputs + OUTPUTS - 1) / OUTPUTS;
  const int64_t num_scales = call.num_tasks * call.num_blocks * OUTPUTS;
  if (x.num_dims < 1 || x.dims[x.num_dims - 1] != op->size ||
      count(&weights) != call.num_tasks * OUTPUTS * call.padded * op->bits / 8 ||
      count(&scales) != num_scales || (zeros.data != NULL && count(&zeros) != num_scales) ||
      (bias.data != NULL && (op->gated || count(&bias) != op->num_outputs)))
    return ort_status(op->api)(ORT_INVALID_ARGUMENT, "lepton.BlockMatMul: shapes do not fit its attributes");
  call.num_positions = count(&x) / op->size;
  Tensor y = x;
  call.width = op->gated ? op->num_outputs / 2 : op->num_outputs;
  y.dims[y.num_dims - 1] = call.width;
  TRY(tensor_output(op->api, context, 0, &y));
  call.y = y.data;
  if (call.num_positions == 0) return NULL;
  return run(op, context, &call);
}

static OrtStatus *create(const struct OrtCustomOp *self, const OrtFunction *api, const OrtKernelInfo *info,
                         void **kernel) {
  (void)self;
  BlockMatMul op = {.api = api};
  TRY(ort_attribute_int(api)(info, "K", &op.size));
  TRY(ort_attribute_int(api)(info, "N", &op.num_outputs));
  TRY(ort_attribute_int(api)(info, "bits", &op.bits));
  TRY(ort_attribute_int(api)(info, "block_size", &op.block));
  TRY(ort_attribute_int(api)(info, "gated", &op.gated));
  if (op.size < 1 || op.num_outputs < 1 || (op.bits != 4 && op.bits != 8) || op.block < 16 ||
      op.block % 16 != 0 || op.block > 1024 || (op.gated && op.num_outputs % 2 != 0))
    return ort_status(api)(ORT_INVALID_ARGUMENT, "lepton.BlockMatMul: attributes out of range");
  return operator_keep(api, &op, sizeof op, kernel);
}

static const char *name(const struct OrtCustomOp *self) {
  (void)self;
  return "BlockMatMul";
}

static size_t num_inputs(const struct OrtCustomOp *self) {
  (void)self;
  return 5;
}

static int input_type(const struct OrtCustomOp *self, size_t index) {
  (void)self;
  return index == 1 ? ORT_UINT8 : ORT_FLOAT;
}

static int input_kind(const struct OrtCustomOp *self, size_t index) {
  (void)self;
  return index < 3 ? ORT_REQUIRED : ORT_OPTIONAL;
}

const struct OrtCustomOp block_matmul = {
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
