/* The work of Largest for one instruction set. */
#include <math.h>

#include "../largest.h"
#include "functions.h"

/* What each lane has seen so far. */
typedef struct {
  Floats value, index; /* its largest, and where that stood: the bits of a whole number */
  Ints size;           /* of the magnitudes of its numbers, as integers, the largest: from INFINITY's on not finite */
} Seen;

INLINE Seen look(Seen seen, Floats x, Ints index) {
  const Mask above = floats_above(x, seen.value); /* not where they are equal: the first one stays */
  return (Seen){floats_pick(above, x, seen.value), floats_pick(above, bits_floats(index), seen.index),
                ints_max(seen.size, ints_and(floats_bits(x), ints_all(0x7fffffff)))};
}

static void find_largest(void *argument, size_t row) {
  const LargestCall *call = argument;
  const float *x = call->x + row * call->size;
  static const int32_t lanes[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  Ints index = ints_load(lanes);
  Seen seen = {floats_all(-INFINITY), bits_floats(index), ints_all(0)};
  int64_t i = 0;
  for (; i + LANES <= call->size; i += LANES, index = ints_add(index, ints_all(LANES)))
    seen = look(seen, floats_load(x + i), index);
  if (i < call->size) { /* the lanes behind the end see the row's first number once more */
    const Mask mask = first_lanes(call->size - i);
    seen = look(seen, floats_pick(mask, floats_load_some(x + i, mask), floats_all(x[0])), index);
  }
  float values[LANES], bits[LANES];
  int32_t indices[LANES];
  floats_store(values, seen.value);
  floats_store(bits, seen.index);
  memcpy(indices, bits, sizeof indices);
  int32_t best = 0;
  for (int32_t lane = 1; lane < LANES; lane++)
    if (values[lane] > values[best] || (values[lane] == values[best] && indices[lane] < indices[best])) best = lane;
  call->y[row] = ints_top(seen.size) < 0x7f800000 ? indices[best] : -1;
}
