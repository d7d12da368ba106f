/* Which number of each row is the largest: what a greedy row draws, found while the logits are still in the caches.
 *
 *   x   float32 [rows, size]
 *   y   int64 [rows]    index of the largest, the lowest among equals; -1 where a number of the row is not finite
 */
#ifndef LEPTON_LARGEST_H
#define LEPTON_LARGEST_H

#include "isa.h"

typedef struct {
  const OrtFunction *api;
  const Isa *isa;
} Largest;

typedef struct {
  const float *x;
  int64_t size;
  int64_t *y;
} LargestCall;

#endif
