/* Sixteen numbers at a time. */
#ifndef LEPTON_VECTOR_H
#define LEPTON_VECTOR_H

#include <immintrin.h>
#include <stdint.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { LANES = 16 };

INLINE __mmask16 first_lanes(int64_t count) {
  return count >= LANES ? 0xffff : count <= 0 ? 0 : (1u << count) - 1;
}

/* e^x for x <= 0 to about one unit in the last place: 2^n · e^r with |r| <= ln 2 / 2, the latter by its series. */
INLINE __m512 exponential(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-105.0f), x); /* from there on 0 in float32; in this order what is no number stays so */
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.0f / 720);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

/* x / (1 + e^-x) */
INLINE __m512 silu(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 e = exponential(_mm512_or_ps(x, _mm512_set1_ps(-0.0f))); /* e^-|x| */
  const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  const __m512 top = _mm512_mask_mov_ps(one, negative, e);
  return _mm512_mul_ps(x, _mm512_div_ps(top, _mm512_add_ps(one, e)));
}

#endif
