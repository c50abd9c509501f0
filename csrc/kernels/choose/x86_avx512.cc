#include <immintrin.h>

#include "kernels/choose/choose.h"

namespace onebit {
namespace {

constexpr size_t kLanes = 16;

inline __mmask16 first(size_t n) { return static_cast<__mmask16>(n < kLanes ? (1u << n) - 1 : 0xffffu); }

// The sum of table[counts[u] - least] where the table has 32·S entries: each register of counts looks them all up.
template <size_t S>
inline float looked_up(const int32_t* counts, size_t n, const float* table, __m512i least) {
  __m512 low[S], high[S], sum = _mm512_setzero_ps();
  for (size_t s = 0; s < S; ++s) {
    low[s] = _mm512_loadu_ps(table + s * kTableStep);
    high[s] = _mm512_loadu_ps(table + s * kTableStep + kLanes);
  }
  for (size_t i = 0; i < n; i += kLanes) {
    const __m512i place = _mm512_sub_epi32(_mm512_load_si512(counts + i), least);
    const __mmask16 there = first(n - i);
    for (size_t s = 0; s < S; ++s) {
      const __m512i own = _mm512_sub_epi32(place, _mm512_set1_epi32(static_cast<int>(s * kTableStep)));
      const __mmask16 inside = _mm512_mask_cmplt_epu32_mask(there, own, _mm512_set1_epi32(kTableStep));
      sum = _mm512_mask_add_ps(sum, inside, sum, _mm512_permutex2var_ps(low[s], own, high[s]));
    }
  }
  return _mm512_reduce_add_ps(sum);
}

inline float gathered(const int32_t* counts, size_t n, const float* table, size_t entries, __m512i least) {
  __m512 sum = _mm512_setzero_ps();
  const __m512i most = _mm512_set1_epi32(static_cast<int>(entries));
  for (size_t i = 0; i < n; i += kLanes) {
    const __m512i place = _mm512_sub_epi32(_mm512_load_si512(counts + i), least);
    const __mmask16 inside = _mm512_mask_cmplt_epu32_mask(first(n - i), place, most);
    sum = _mm512_add_ps(sum, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), inside, place, table, 4));
  }
  return _mm512_reduce_add_ps(sum);
}

}  // namespace

void choose_avx512_below(const int32_t* counts, size_t n, int32_t limit, uint32_t* bits) {
  const __m512i level = _mm512_set1_epi32(limit);
  for (size_t i = 0; i < n; i += 2 * kLanes) {
    uint32_t word = _mm512_mask_cmplt_epi32_mask(first(n - i), _mm512_load_si512(counts + i), level);
    if (i + kLanes < n) {
      const __m512i next = _mm512_load_si512(counts + i + kLanes);
      word |= static_cast<uint32_t>(_mm512_mask_cmplt_epi32_mask(first(n - i - kLanes), next, level)) << kLanes;
    }
    *bits++ = word;
  }
}

Weighed choose_avx512_sum(const int32_t* counts, size_t n, const float* table, size_t entries) {
  __m512i smallest = _mm512_set1_epi32(INT32_MAX);
  for (size_t i = 0; i < n; i += kLanes) {
    smallest = _mm512_mask_min_epi32(smallest, first(n - i), smallest, _mm512_load_si512(counts + i));
  }
  const int32_t least = _mm512_reduce_min_epi32(smallest);
  const __m512i wide = _mm512_set1_epi32(least);
  switch ((entries + kTableStep - 1) / kTableStep) {
    case 1:
      return {least, looked_up<1>(counts, n, table, wide)};
    case 2:
      return {least, looked_up<2>(counts, n, table, wide)};
    case 3:
      return {least, looked_up<3>(counts, n, table, wide)};
    default:
      return {least, gathered(counts, n, table, entries, wide)};
  }
}

}  // namespace onebit
