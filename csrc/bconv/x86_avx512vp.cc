#include <immintrin.h>

#include "bconv/bconv.h"

namespace onebit {
namespace {

// P pixels × 8 outputs: one xor, one popcount and one addition for 8 words.
template <int P>
inline void tile(const uint64_t* windows, size_t words, const uint64_t* weights, int32_t* counts, size_t stride) {
  __m512i sums[P];
  for (int p = 0; p < P; ++p) sums[p] = _mm512_setzero_si512();
  for (size_t k = 0; k < words; ++k) {
    const __m512i w = _mm512_load_si512(weights + k * 8);
    for (int p = 0; p < P; ++p) {
      const __m512i a = _mm512_set1_epi64(static_cast<long long>(windows[p * words + k]));
      sums[p] = _mm512_add_epi64(sums[p], _mm512_popcnt_epi64(_mm512_xor_si512(a, w)));
    }
  }
  for (int p = 0; p < P; ++p) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(counts + p * stride), _mm512_cvtepi64_epi32(sums[p]));
  }
}

}  // namespace

void count_avx512vp(const uint64_t* windows, size_t pixels, size_t words, const uint64_t* weights, size_t blocks,
                    int32_t* counts) {
  const size_t stride = blocks * kBinaryLanes;
  for (size_t block = 0; block < blocks; ++block) {
    const uint64_t* w = weights + block * words * kBinaryLanes;
    int32_t* out = counts + block * kBinaryLanes;
    size_t p = 0;
    for (; p + 4 <= pixels; p += 4) tile<4>(windows + p * words, words, w, out + p * stride, stride);
    for (; p < pixels; ++p) tile<1>(windows + p * words, words, w, out + p * stride, stride);
  }
}

}  // namespace onebit
