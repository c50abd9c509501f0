#include <immintrin.h>

#include "kernels/attend/attend.h"

namespace onebit {
namespace {

constexpr size_t kLanes = 16;

inline __mmask16 first(size_t n) { return static_cast<__mmask16>(n < kLanes ? (1u << n) - 1 : 0xffffu); }

// Entries 0 .. 32·S - 1 of the table, in registers.
template <size_t S>
struct Table {
  __m512 low[S], high[S];

  explicit Table(const float* table) {
    for (size_t s = 0; s < S; ++s) {
      low[s] = _mm512_loadu_ps(table + 32 * s);
      high[s] = _mm512_loadu_ps(table + 32 * s + kLanes);
    }
  }

  __m512 at(__m512i n) const {  // of which the two registers of a step look at the last 5 bits
    __m512 found = _mm512_permutex2var_ps(low[0], n, high[0]);
    for (size_t s = 1; s < S; ++s) {
      const __mmask16 beyond = _mm512_cmpge_epi32_mask(n, _mm512_set1_epi32(static_cast<int>(32 * s)));
      found = _mm512_mask_mov_ps(found, beyond, _mm512_permutex2var_ps(low[s], n, high[s]));
    }
    return found;
  }

  bool between(__m512 least, __m512 most) const {
    unsigned found = 0;
    for (size_t s = 0; s < S; ++s) {
      for (const __m512 entries : {low[s], high[s]}) {
        const __mmask16 above = _mm512_cmp_ps_mask(entries, least, _CMP_GE_OQ);
        found |= _mm512_mask_cmp_ps_mask(above, entries, most, _CMP_LT_OQ);
      }
    }
    return found != 0;
  }
};

// Words: of a query, or 0 for any number.
template <size_t S, size_t Words>
void attend(const Attend& a) {
  const Table<S> table(a.table);
  const size_t words = Words ? Words : a.words, blocks = (a.keys_count + kLanes - 1) / kLanes;
  const size_t chosen_words = (blocks + 1) / 2, of_values = (a.outputs + kLanes - 1) / kLanes;
  const __mmask16 last = first(a.keys_count - (blocks - 1) * kLanes);
  const __m512 factor = _mm512_set1_ps(a.factor);
  alignas(64) float weights[kMaxKeys + kLanes];
  alignas(64) uint32_t chosen[kMaxKeys / 32];
  _mm512_store_ps(weights + blocks * kLanes, _mm512_setzero_ps());  // of an odd number of blocks
  for (size_t t = 0; t < a.count; ++t) {
    const uint32_t* query = a.queries + t * a.step;
    __m512 sum = _mm512_setzero_ps();
    for (size_t b = 0; b < blocks; ++b) {
      const uint32_t* keys = a.keys + b * words * kLanes;
      __m512i n = _mm512_setzero_si512();
      for (size_t k = 0; k < words; ++k) {
        const __m512i differ =
            _mm512_xor_si512(_mm512_set1_epi32(static_cast<int>(query[k])), _mm512_load_si512(keys + k * kLanes));
        n = k ? _mm512_add_epi32(n, _mm512_popcnt_epi32(differ)) : _mm512_popcnt_epi32(differ);
      }
      const __m512 found = b + 1 < blocks ? table.at(n) : _mm512_maskz_mov_ps(last, table.at(n));
      _mm512_store_ps(weights + b * kLanes, found);
      sum = _mm512_add_ps(sum, found);
    }
    const float bound = a.level * _mm512_reduce_add_ps(sum);
    const __m512 least = _mm512_set1_ps(bound * (1 - a.slack)), most = _mm512_set1_ps(bound * (1 + a.slack));
    a.unsure[t] = table.between(least, most);
    for (size_t w = 0; w < chosen_words; ++w) {
      const __mmask16 low = _mm512_cmp_ps_mask(_mm512_load_ps(weights + 2 * w * kLanes), most, _CMP_GE_OQ);
      const __mmask16 high = _mm512_cmp_ps_mask(_mm512_load_ps(weights + (2 * w + 1) * kLanes), most, _CMP_GE_OQ);
      chosen[w] = static_cast<uint32_t>(high) << kLanes | low;
    }
    float* out = a.out + t * a.out_step;
    for (size_t b = 0; b < of_values; ++b) {
      const uint32_t* values = a.values + b * chosen_words * kLanes;
      __m512i n = _mm512_setzero_si512();
      for (size_t k = 0; k < chosen_words; ++k) {
        const __m512i differ =
            _mm512_xor_si512(_mm512_set1_epi32(static_cast<int>(chosen[k])), _mm512_load_si512(values + k * kLanes));
        n = _mm512_add_epi32(n, _mm512_popcnt_epi32(differ));
      }
      const __m512i whole = _mm512_sub_epi32(n, _mm512_load_si512(a.ones + b * kLanes));
      const __m512 y = _mm512_mul_ps(factor, _mm512_cvtepi32_ps(whole));
      _mm512_mask_storeu_ps(out + b * kLanes, first(a.outputs - b * kLanes), y);
    }
  }
}

template <size_t S>
void of_words(const Attend& a) {
  switch (a.words) {
    case 1:
      return attend<S, 1>(a);
    case 2:
      return attend<S, 2>(a);
    default:
      return attend<S, 0>(a);
  }
}

}  // namespace

void attend_avx512vp(const Attend& a) {
  size_t entries = kTableRoom;
  while (entries > 1 && a.table[entries - 1] == 0) --entries;
  entries <= 32 ? of_words<1>(a) : entries <= 64 ? of_words<2>(a) : of_words<3>(a);
}

}  // namespace onebit
