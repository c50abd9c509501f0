#include <immintrin.h>

#include "kernels/bconv/bconv.h"
#include "kernels/bconv/tiles.inc"

namespace onebit {
namespace {

// One xor, one popcount and one addition for 16 words.
template <int P, int, bool Masked>
[[gnu::always_inline]] inline void tile(const Count& c, const char* windows, const uint32_t* weights, int32_t* counts) {
  __m512i sums[P];
  for (int p = 0; p < P; ++p) sums[p] = _mm512_setzero_si512();
  for (size_t k = 0; k < c.words; ++k) {
    const __m512i w = _mm512_load_si512(weights + k * kBinaryLanes);
    for (int p = 0; p < P; ++p) {
      const __m512i a = _mm512_set1_epi32(word_at(c, windows + p * c.step, k));
      const __m512i differ = Masked
                                 ? _mm512_ternarylogic_epi32(a, w, _mm512_set1_epi32(c.masks[k]), 0x28)  // (a ^ w) & m
                                 : _mm512_xor_si512(a, w);
      sums[p] = _mm512_add_epi32(sums[p], _mm512_popcnt_epi32(differ));
    }
  }
  for (int p = 0; p < P; ++p) _mm512_store_si512(counts + p * c.blocks * kBinaryLanes, sums[p]);
}

}  // namespace

void count_avx512vp(const Count& c) { c.masks ? tiles<4, true>(c) : tiles<4, false>(c); }

}  // namespace onebit
