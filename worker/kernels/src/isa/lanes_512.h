/* Sixteen numbers in one register of 512 bits, of which there are 32. `lanes_256.h` has the same by the same names. */
#ifndef LEPTON_LANES_H
#define LEPTON_LANES_H

#include <immintrin.h>

#include "../isa.h"

/* How many sums fit into registers: of a product rows × panels of 16 outputs; of attention queries × tiles of 16 keys,
 * and queries × vectors of 16 dimensions, which are more (FEW) where there is half of the queries or less. */
enum { ROWS = 8, PANELS_AT_ONCE = 2 };
enum { QUERIES_SCORED = 12, TILES_FEW = 4, TILES_MANY = 2 };
enum { QUERIES_WEIGHED = 12, VECTORS_FEW = 4, VECTORS_MANY = 2 };

typedef __m512 Floats;
typedef __m512i Ints; /* 16 of 32 bits, or 64 bytes */
typedef __mmask16 Mask;

INLINE Mask first_lanes(int64_t count) { return count >= LANES ? 0xffff : count <= 0 ? 0 : (1u << count) - 1; }
INLINE Mask lanes_between(int64_t from, int64_t to) { return first_lanes(to) & ~first_lanes(from); }

INLINE Floats floats_all(float x) { return _mm512_set1_ps(x); }
INLINE Floats floats_load(const float *at) { return _mm512_loadu_ps(at); }
INLINE void floats_store(float *at, Floats x) { _mm512_storeu_ps(at, x); }
INLINE Floats floats_load_some(const float *at, Mask mask) { return _mm512_maskz_loadu_ps(mask, at); }
INLINE void floats_store_some(float *at, Mask mask, Floats x) { _mm512_mask_storeu_ps(at, mask, x); }
INLINE Floats floats_add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
INLINE Floats floats_sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
INLINE Floats floats_mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
INLINE Floats floats_div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
INLINE Floats floats_max(Floats a, Floats b) { return _mm512_max_ps(a, b); } /* b where one is no number */
INLINE Floats floats_and(Floats a, Floats b) { return _mm512_and_ps(a, b); }
INLINE Floats floats_or(Floats a, Floats b) { return _mm512_or_ps(a, b); }
INLINE Floats floats_fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }   /* c + a·b */
INLINE Floats floats_fnma(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); } /* c − a·b */
INLINE Floats floats_round(Floats x) { return _mm512_roundscale_ps(x, 0); }                   /* half to even */
INLINE Floats floats_scale(Floats x, Floats n) { return _mm512_scalef_ps(x, n); }             /* x · 2ⁿ, n whole */
INLINE Mask floats_negative(Floats x) { return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ); }
INLINE Mask floats_above(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
INLINE Floats floats_pick(Mask mask, Floats a, Floats b) { return _mm512_mask_mov_ps(b, mask, a); } /* mask ? a : b */
INLINE float floats_top(Floats x) { return _mm512_reduce_max_ps(x); }
INLINE __m256 floats_halves_sum(Floats x) {
  return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
}

INLINE Ints ints_all(int32_t x) { return _mm512_set1_epi32(x); }
INLINE Ints ints_load(const void *at) { return _mm512_loadu_si512(at); }
INLINE Ints ints_add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
INLINE Ints ints_max(Ints a, Ints b) { return _mm512_max_epi32(a, b); }
INLINE Ints ints_and(Ints a, Ints b) { return _mm512_and_si512(a, b); }
INLINE Ints ints_high_nibbles(Ints x) { return ints_and(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(0x0f)); }
INLINE Ints ints_low_nibbles(Ints x) { return ints_and(x, _mm512_set1_epi8(0x0f)); }
INLINE int32_t ints_top(Ints x) { return _mm512_reduce_max_epi32(x); }
INLINE int32_t ints_sum(Ints x) { return _mm512_reduce_add_epi32(x); }
INLINE __m128i ints_to_bytes(Ints x) { return _mm512_cvtsepi32_epi8(x); } /* the nearest that a signed byte can be */

INLINE Ints floats_bits(Floats x) { return _mm512_castps_si512(x); }
INLINE Floats bits_floats(Ints x) { return _mm512_castsi512_ps(x); }
INLINE Ints floats_to_ints(Floats x) { return _mm512_cvtps_epi32(x); } /* half to even; the smallest of no number */
INLINE Floats ints_to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
INLINE Floats floats_load_half(const void *at) { return _mm512_cvtph_ps(_mm256_loadu_si256(at)); }
INLINE void floats_store_half(void *at, Floats x) {
  _mm256_storeu_si256(at, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INLINE Floats floats_load_bytes(const void *at) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at))); }

#endif
