// As x86_avx512.cc, in registers of half the width.
#include <immintrin.h>

#include "kernels/qconv/qconv.h"

namespace onebit {
namespace {

struct Halves {
  __m256i even, odd;
};

using Vector = __m256;
using Integers = __m256i;
using Bytes = Halves;
using Weights = Halves;
constexpr int kWidth = 8;

inline Bytes bytes_at(const uint8_t* p) {
  int word;
  __builtin_memcpy(&word, p, 4);
  const __m256i x = _mm256_set1_epi32(word);
  return {_mm256_and_si256(x, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(x, 8)};
}
inline Weights weights_at(const int8_t* p) {
  const __m256i w = _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(w, 8)};
}
inline Integers dot(Integers sums, Bytes x, Weights w) {
  const __m256i even = _mm256_madd_epi16(x.even, w.even), odd = _mm256_madd_epi16(x.odd, w.odd);
  return _mm256_add_epi32(sums, _mm256_add_epi32(even, odd));
}
inline Vector to_float(Integers x) { return _mm256_cvtepi32_ps(x); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION bytes_avx2
#define ONEBIT_SPLIT bytes_avx2_split
#define ONEBIT_PIXELS 4
#define ONEBIT_BLOCKS 1
#include "kernels/qconv/body.inc"
