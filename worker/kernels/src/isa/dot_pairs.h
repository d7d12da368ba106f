/* Products of bytes by VPMADDUBSW, which adds two of them into 16 bits, and saturates there.
 *
 * It never comes to that: weights go in as nibbles, and 16 bits hold the sum of 16 products of a nibble by a byte,
 * 16 · 15 · 128 = 30720. Weights of 8 bits are two nibbles, the high one counted 16 times.
 */
#ifndef LEPTON_DOT_PAIRS_H
#define LEPTON_DOT_PAIRS_H

#include "dot.h"

/* Inputs after which sums of 16 bits are added to those of 32: each lane has had 16 products. */
enum { NARROW_INPUTS = 32 };

INLINE Ints add_pairs(Ints narrow, Ints weights, Ints x) {
  const Ints pairs = EACH_2(Ints, _mm256_maddubs_epi16, weights, x);
  return EACH_2(Ints, _mm256_add_epi16, narrow, pairs);
}

/* sum + narrow · times, where a sum has two numbers of 16 bits. */
INLINE Ints add_narrow(Ints sum, Ints narrow, int times) {
  const Ints all = {_mm256_set1_epi16(times), _mm256_set1_epi16(times)};
  return ints_add(sum, EACH_2(Ints, _mm256_madd_epi16, narrow, all));
}

INLINE void dot(Ints sum[ROWS][PANELS_AT_ONCE], const uint8_t *weights, const int8_t *rounded, int64_t num_inputs,
                int rows, int bits) {
  _Static_assert(PANELS_AT_ONCE == 1, "more sums than there are registers");
  for (int64_t from = 0; from < num_inputs; from += NARROW_INPUTS) {
    const int64_t to = from + NARROW_INPUTS < num_inputs ? from + NARROW_INPUTS : num_inputs;
#pragma GCC unroll 2
    for (int nibble = 0; nibble < bits / 4; nibble++) {
      Ints narrow[ROWS];
#pragma GCC unroll 4
      for (int r = 0; r < rows; r++) narrow[r] = ints_all(0);
      for (int64_t k = from; k < to; k += 8) {
        const uint8_t *at = weights + k * OUTPUTS * bits / 8;
        if (nibble == 0) ask_ahead(at, bits);
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
          const Ints part = bits == 8 ? half_of_eight(at + half * 64, 0, nibble) : half_of_eight(at, 0, half);
#pragma GCC unroll 4
          for (int r = 0; r < rows; r++)
            narrow[r] = add_pairs(narrow[r], part, four_inputs(rounded + (k + 4 * half) * rows + 4 * r));
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < rows; r++) sum[r][0] = add_narrow(sum[r][0], narrow[r], nibble == 0 ? 1 : 16);
    }
  }
}

#endif
