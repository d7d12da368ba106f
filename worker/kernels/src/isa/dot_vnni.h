/* Products of bytes by VPDPBUSD: unsigned by signed, four at a time, into 32 bits. */
#ifndef LEPTON_DOT_VNNI_H
#define LEPTON_DOT_VNNI_H

#include "dot.h"

INLINE void dot(Ints sum[ROWS][PANELS_AT_ONCE], const uint8_t *weights, const int8_t *rounded, int64_t num_inputs,
                int rows, int bits) {
  for (int64_t k = 0; k < num_inputs; k += 8) {
    const uint8_t *at = weights + k * OUTPUTS * bits / 8;
    ask_ahead(at, bits);
    /* Half of the eight at a time: fewer registers hold weights, more hold sums. */
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      Ints part[PANELS_AT_ONCE];
#pragma GCC unroll 2
      for (int p = 0; p < PANELS_AT_ONCE; p++)
        part[p] = bits == 8 ? ints_load(at + (2 * p + half) * 64) : half_of_eight(at, p, half);
#pragma GCC unroll 8
      for (int r = 0; r < rows; r++) {
        const Ints x = four_inputs(rounded + (k + 4 * half) * rows + 4 * r);
#pragma GCC unroll 2
        for (int p = 0; p < PANELS_AT_ONCE; p++) sum[r][p] = vpdpbusd(sum[r][p], part[p], x);
      }
    }
  }
}

#endif
