/* Functions of sixteen numbers at a time; the same bits on every instruction set. */
#ifndef LEPTON_FUNCTIONS_H
#define LEPTON_FUNCTIONS_H

#include <string.h>

/* e^x for x <= 0 to about one unit in the last place: 2^n · e^r with |r| <= ln 2 / 2, the latter by its series. */
INLINE Floats exponential(Floats x) {
  x = floats_max(floats_all(-105.0f), x); /* from there on 0 in float32; in this order what is no number stays so */
  const Floats n = floats_round(floats_mul(x, floats_all(1.44269504f)));
  Floats r = floats_fnma(n, floats_all(0.693359375f), x);
  r = floats_fnma(n, floats_all(-2.12194440e-4f), r);
  Floats p = floats_all(1.0f / 720);
  p = floats_fma(p, r, floats_all(1.0f / 120));
  p = floats_fma(p, r, floats_all(1.0f / 24));
  p = floats_fma(p, r, floats_all(1.0f / 6));
  p = floats_fma(p, r, floats_all(0.5f));
  p = floats_fma(p, r, floats_all(1.0f));
  p = floats_fma(p, r, floats_all(1.0f));
  return floats_scale(p, n);
}

/* x / (1 + e^-x) */
INLINE Floats silu(Floats x) {
  const Floats one = floats_all(1.0f);
  const Floats e = exponential(floats_or(x, floats_all(-0.0f))); /* e^-|x| */
  const Floats top = floats_pick(floats_negative(x), e, one);
  return floats_mul(x, floats_div(top, floats_add(one, e)));
}

/* cap · tanh(x / cap) */
INLINE Floats capped(Floats x, float cap) {
  const Floats sign = floats_all(-0.0f), one = floats_all(1.0f);
  const Floats at = floats_mul(x, floats_all(1.0f / cap));
  const Floats e = exponential(floats_mul(floats_or(at, sign), floats_all(2.0f)));
  const Floats size = floats_div(floats_sub(one, e), floats_add(one, e));
  return floats_mul(floats_all(cap), floats_or(size, floats_and(at, sign)));
}

/* Of all lanes, in one order. */
INLINE float floats_sum(Floats x) {
  const __m256 eight = floats_halves_sum(x);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* The largest |x[i]|; no number where one is none: compared as integers, which has the same order, it is the largest. */
INLINE float largest_magnitude(const float *x, int64_t count) {
  const Ints no_sign = ints_all(0x7fffffff);
  Ints largest = ints_all(0);
  for (int64_t i = 0; i < count; i += LANES)
    largest = ints_max(largest, ints_and(floats_bits(floats_load_some(x + i, first_lanes(count - i))), no_sign));
  const int32_t bits = ints_top(largest);
  float top;
  memcpy(&top, &bits, sizeof top);
  return top;
}

#endif
