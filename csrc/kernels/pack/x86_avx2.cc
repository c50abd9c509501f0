#include <immintrin.h>

#include "kernels/pack/pack.h"

namespace onebit {

void pack_avx2(const float* x, const float* threshold, size_t step, size_t n, uint64_t* words) {
  size_t i = 0;
  const __m256 constant = _mm256_set1_ps(*threshold);
  for (; i + 64 <= n; i += 64) {
    uint64_t word = 0;
    for (size_t j = 0; j < 64; j += 8) {  // 8 floats -> 8 bits
      const __m256 level = step ? _mm256_loadu_ps(threshold + i + j) : constant;
      const __m256 below = _mm256_cmp_ps(_mm256_loadu_ps(x + i + j), level, _CMP_NGE_UQ);
      word |= static_cast<uint64_t>(static_cast<unsigned>(_mm256_movemask_ps(below))) << j;
    }
    *words++ = word;
  }
  if (i < n) pack_scalar(x + i, threshold + i * step, step, n - i, words);
}

}  // namespace onebit

#define popcount64(x) static_cast<int32_t>(__builtin_popcountll(x))
#define ONEBIT_FUNCTION pack_avx2_ones
#include "kernels/pack/ones.inc"
