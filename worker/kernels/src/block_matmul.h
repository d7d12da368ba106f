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
 * the tile that a position falls into, nor the instruction set, changes its result.
 */
#ifndef LEPTON_BLOCK_MATMUL_H
#define LEPTON_BLOCK_MATMUL_H

#include "isa.h"

/* What one task computes: two panels of as many outputs as there are lanes. */
enum { PANELS = 2, OUTPUTS = LANES * PANELS };

typedef struct {
  const OrtFunction *api;
  const Isa *isa;
  int64_t size, num_outputs, block, bits, gated; /* K, N */
} BlockMatMul;

typedef struct {
  const BlockMatMul *op;
  int64_t num_positions, padded, num_blocks, num_tasks, width; /* M, K rounded up, blocks, groups of outputs, of y */
  const float *x;
  /* Positions in groups of `isa->rows`, the last one smaller; a group's values side by side, as a tile reads them. */
  int8_t *rounded; /* [M/rows][padded/4][rows][4] */
  float *scale;    /* [M/rows][num_blocks][rows] */
  int32_t *start;  /* the same shape: minus the middle times the sum of the block */
  float *sum;      /* the same shape: the sum of the block, for weights with zeros of their own */
  const uint8_t *weights;
  const float *scales, *zeros, *bias;
  float *y;
} BlockMatMulCall;

#endif
