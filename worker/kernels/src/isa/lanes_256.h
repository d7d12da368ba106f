/* Sixteen numbers in two registers of 256 bits, of which there are 16: AVX2 with FMA and F16C.
 *
 * Each number goes through the same roundings as in `lanes_512.h`, so results are the same to the bit.
 */
#ifndef LEPTON_LANES_H
#define LEPTON_LANES_H

#include <immintrin.h>

#include "../isa.h"

/* What they mean: `lanes_512.h`. */
enum { ROWS = 4, PANELS_AT_ONCE = 1 };
enum { QUERIES_SCORED = 4, TILES_FEW = 2, TILES_MANY = 1 };
enum { QUERIES_WEIGHED = 4, VECTORS_FEW = 2, VECTORS_MANY = 1 };

typedef struct {
  __m256 low, high;
} Floats;
typedef struct {
  __m256i low, high;
} Ints;
typedef Ints Mask; /* all bits of a number, or none */

/* One instruction on both halves. */
#define EACH_1(kind, op, a) ((kind){op((a).low), op((a).high)})
#define EACH_2(kind, op, a, b) ((kind){op((a).low, (b).low), op((a).high, (b).high)})
#define EACH_3(kind, op, a, b, c) ((kind){op((a).low, (b).low, (c).low), op((a).high, (b).high, (c).high)})

INLINE Floats floats_all(float x) { return (Floats){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE Ints ints_all(int32_t x) { return (Ints){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }

INLINE Mask lanes_from(int64_t first) {
  const Ints lanes = {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
  const int64_t before = first > LANES ? LANES : first < 0 ? 0 : first;
  return EACH_2(Ints, _mm256_cmpgt_epi32, lanes, ints_all((int32_t)before - 1));
}
INLINE Mask lanes_between(int64_t from, int64_t to) {
  return EACH_2(Ints, _mm256_andnot_si256, lanes_from(to), lanes_from(from));
}
INLINE Mask first_lanes(int64_t count) { return lanes_between(0, count); }

INLINE Floats floats_load(const float *at) { return (Floats){_mm256_loadu_ps(at), _mm256_loadu_ps(at + 8)}; }
INLINE void floats_store(float *at, Floats x) {
  _mm256_storeu_ps(at, x.low);
  _mm256_storeu_ps(at + 8, x.high);
}
INLINE Floats floats_load_some(const float *at, Mask mask) {
  return (Floats){_mm256_maskload_ps(at, mask.low), _mm256_maskload_ps(at + 8, mask.high)};
}
INLINE void floats_store_some(float *at, Mask mask, Floats x) {
  _mm256_maskstore_ps(at, mask.low, x.low);
  _mm256_maskstore_ps(at + 8, mask.high, x.high);
}
INLINE Floats floats_add(Floats a, Floats b) { return EACH_2(Floats, _mm256_add_ps, a, b); }
INLINE Floats floats_sub(Floats a, Floats b) { return EACH_2(Floats, _mm256_sub_ps, a, b); }
INLINE Floats floats_mul(Floats a, Floats b) { return EACH_2(Floats, _mm256_mul_ps, a, b); }
INLINE Floats floats_div(Floats a, Floats b) { return EACH_2(Floats, _mm256_div_ps, a, b); }
INLINE Floats floats_max(Floats a, Floats b) { return EACH_2(Floats, _mm256_max_ps, a, b); }
INLINE Floats floats_and(Floats a, Floats b) { return EACH_2(Floats, _mm256_and_ps, a, b); }
INLINE Floats floats_or(Floats a, Floats b) { return EACH_2(Floats, _mm256_or_ps, a, b); }
INLINE Floats floats_fma(Floats a, Floats b, Floats c) { return EACH_3(Floats, _mm256_fmadd_ps, a, b, c); }
INLINE Floats floats_fnma(Floats a, Floats b, Floats c) { return EACH_3(Floats, _mm256_fnmadd_ps, a, b, c); }
#define ROUND_HALF(x) _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
INLINE Floats floats_round(Floats x) { return EACH_1(Floats, ROUND_HALF, x); }
/* In two steps, since 2ⁿ alone may be too small for a float32; only the second step can round. */
INLINE __m256 scale_half(__m256 x, __m256 n) {
  const __m256i whole = _mm256_cvtps_epi32(n), first = _mm256_srai_epi32(whole, 1);
  const __m256i second = _mm256_sub_epi32(whole, first), zero = _mm256_set1_epi32(127);
  x = _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, zero), 23)));
  return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, zero), 23)));
}
INLINE Floats floats_scale(Floats x, Floats n) { return EACH_2(Floats, scale_half, x, n); }
#define NEGATIVE_HALF(x) _mm256_castps_si256(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ))
INLINE Mask floats_negative(Floats x) { return EACH_1(Mask, NEGATIVE_HALF, x); }
#define ABOVE_HALF(a, b) _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_GT_OQ))
INLINE Mask floats_above(Floats a, Floats b) { return EACH_2(Mask, ABOVE_HALF, a, b); }
#define PICK_HALF(mask, a, b) _mm256_blendv_ps(b, a, _mm256_castsi256_ps(mask))
INLINE Floats floats_pick(Mask mask, Floats a, Floats b) { return EACH_3(Floats, PICK_HALF, mask, a, b); }
INLINE float floats_top(Floats x) {
  const __m256 eight = _mm256_max_ps(x.low, x.high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
INLINE __m256 floats_halves_sum(Floats x) { return _mm256_add_ps(x.low, x.high); }

INLINE Ints ints_load(const void *at) {
  return (Ints){_mm256_loadu_si256(at), _mm256_loadu_si256((const __m256i *)at + 1)};
}
INLINE Ints ints_add(Ints a, Ints b) { return EACH_2(Ints, _mm256_add_epi32, a, b); }
INLINE Ints ints_max(Ints a, Ints b) { return EACH_2(Ints, _mm256_max_epi32, a, b); }
INLINE Ints ints_and(Ints a, Ints b) { return EACH_2(Ints, _mm256_and_si256, a, b); }
#define LOW_HALF(x) _mm256_and_si256(x, _mm256_set1_epi8(0x0f))
INLINE Ints ints_low_nibbles(Ints x) { return EACH_1(Ints, LOW_HALF, x); }
#define HIGH_HALF(x) LOW_HALF(_mm256_srli_epi16(x, 4))
INLINE Ints ints_high_nibbles(Ints x) { return EACH_1(Ints, HIGH_HALF, x); }
INLINE int32_t ints_top(Ints x) {
  const __m256i eight = _mm256_max_epi32(x.low, x.high);
  const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}
INLINE int32_t ints_sum(Ints x) {
  const __m256i eight = _mm256_add_epi32(x.low, x.high);
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}
INLINE __m128i ints_to_bytes(Ints x) {
  const __m128i low = _mm_packs_epi32(_mm256_castsi256_si128(x.low), _mm256_extracti128_si256(x.low, 1));
  const __m128i high = _mm_packs_epi32(_mm256_castsi256_si128(x.high), _mm256_extracti128_si256(x.high, 1));
  return _mm_packs_epi16(low, high);
}

INLINE Ints floats_bits(Floats x) { return EACH_1(Ints, _mm256_castps_si256, x); }
INLINE Floats bits_floats(Ints x) { return EACH_1(Floats, _mm256_castsi256_ps, x); }
INLINE Ints floats_to_ints(Floats x) { return EACH_1(Ints, _mm256_cvtps_epi32, x); }
INLINE Floats ints_to_floats(Ints x) { return EACH_1(Floats, _mm256_cvtepi32_ps, x); }
INLINE Floats floats_load_half(const void *at) {
  return (Floats){_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)at + 1))};
}
INLINE void floats_store_half(void *at, Floats x) {
  _mm_storeu_si128(at, _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128((__m128i *)at + 1, _mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT));
}
INLINE Floats floats_load_bytes(const void *at) {
  const __m128i bytes = _mm_loadu_si128(at);
  const Ints whole = {_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))};
  return ints_to_floats(whole);
}

#endif
