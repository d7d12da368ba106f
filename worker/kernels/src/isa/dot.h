/* What every `dot` needs. An instruction set has one:
 *
 *   void dot(Ints sum[ROWS][PANELS_AT_ONCE], const uint8_t *weights, const int8_t *rounded, int64_t num_inputs,
 *            int rows, int bits)
 *
 * adds to the sums of `rows` positions and PANELS_AT_ONCE × 16 outputs the products of the next inputs, a multiple of 8
 * and at most a block. Sums are exact. `rows` and `bits` are known to the compiler.
 */
#ifndef LEPTON_DOT_H
#define LEPTON_DOT_H

#include <string.h>

#include "../block_matmul.h"

/* Bytes of weights that are asked for before they are needed: they come from main memory, in one stream. */
enum { AHEAD = 1024 };

/* `at`: weights of the first panel for 8 inputs. */
INLINE void ask_ahead(const uint8_t *at, int bits) {
#pragma GCC unroll 4
  for (int line = 0; line < PANELS_AT_ONCE * bits / 4; line++)
    _mm_prefetch((const char *)at + AHEAD + line * 64, _MM_HINT_T0);
}

/* Four inputs of one position, for all outputs. */
INLINE Ints four_inputs(const int8_t *rounded) {
  int32_t four;
  memcpy(&four, rounded, sizeof four);
  return ints_all(four);
}

/* The next four inputs of panel `p` from weights of 4 bits at `at`: the first or the second half of eight. */
INLINE Ints half_of_eight(const uint8_t *at, int p, int half) {
  const Ints both = ints_load(at + p * 64);
  return half == 0 ? ints_low_nibbles(both) : ints_high_nibbles(both);
}

#endif
