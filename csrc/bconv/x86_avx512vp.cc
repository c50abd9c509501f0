#include <immintrin.h>

#include "bconv/bconv.h"
#include "bconv/tiles.inc"

namespace onebit {
namespace {

// P pixels × 16 outputs: one xor, one popcount and one addition for 16 words.
template <int P>
inline void tile(const uint64_t* windows, size_t words, const uint32_t* weights, int32_t* counts, size_t stride) {
  const size_t row = (words + 1) / 2;
  __m512i sums[P];
  for (int p = 0; p < P; ++p) sums[p] = _mm512_setzero_si512();
  for (size_t k = 0; k < words; ++k) {
    const __m512i w = _mm512_load_si512(weights + k * kBinaryLanes);
    for (int p = 0; p < P; ++p) {
      const __m512i a = _mm512_set1_epi32(word_at(windows + p * row, k));
      sums[p] = _mm512_add_epi32(sums[p], _mm512_popcnt_epi32(_mm512_xor_si512(a, w)));
    }
  }
  for (int p = 0; p < P; ++p) _mm512_store_si512(counts + p * stride, sums[p]);
}

}  // namespace

void count_avx512vp(const uint64_t* windows, size_t pixels, size_t words, const uint32_t* weights, size_t blocks,
                    int32_t* counts) {
  count_in_tiles<4>(windows, pixels, words, weights, blocks, counts);
}

}  // namespace onebit
