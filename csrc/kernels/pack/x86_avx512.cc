#include <immintrin.h>

#include "kernels/pack/pack.h"

namespace onebit {

void pack_avx512(const float* x, const float* threshold, size_t step, size_t n, uint64_t* words) {
  size_t i = 0;
  const __m512 constant = _mm512_set1_ps(*threshold);
  for (; i + 64 <= n; i += 64) {
    uint64_t word = 0;
    for (size_t j = 0; j < 64; j += 16) {  // 16 floats -> 16 bits
      const __m512 level = step ? _mm512_loadu_ps(threshold + i + j) : constant;
      word |= static_cast<uint64_t>(_mm512_cmp_ps_mask(_mm512_loadu_ps(x + i + j), level, _CMP_NGE_UQ)) << j;
    }
    *words++ = word;
  }
  if (i < n) pack_scalar(x + i, threshold + i * step, step, n - i, words);
}

}  // namespace onebit

#define popcount64(x) static_cast<int32_t>(__builtin_popcountll(x))
#define ONEBIT_FUNCTION pack_avx512_ones
#include "kernels/pack/ones.inc"
