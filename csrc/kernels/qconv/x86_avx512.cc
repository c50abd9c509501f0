// Without VNNI, products are taken of 16-bit numbers, two at once: those of the even bytes and those of the odd ones.
// (Those of bytes, `vpmaddubsw`, would saturate.)
#include <immintrin.h>

#include "kernels/qconv/qconv.h"

namespace onebit {
namespace {

struct Halves {
  __m512i even, odd;
};

using Vector = __m512;
using Integers = __m512i;
using Bytes = Halves;
using Weights = Halves;
constexpr int kWidth = 16;

inline Bytes bytes_at(const uint8_t* p) {
  int word;
  __builtin_memcpy(&word, p, 4);
  const __m512i x = _mm512_set1_epi32(word);
  return {_mm512_and_si512(x, _mm512_set1_epi16(0xff)), _mm512_srli_epi16(x, 8)};
}
inline Weights weights_at(const int8_t* p) {
  const __m512i w = _mm512_load_si512(p);
  return {_mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8), _mm512_srai_epi16(w, 8)};
}
inline Integers dot(Integers sums, Bytes x, Weights w) {
  const __m512i even = _mm512_madd_epi16(x.even, w.even), odd = _mm512_madd_epi16(x.odd, w.odd);
  return _mm512_add_epi32(sums, _mm512_add_epi32(even, odd));
}
inline Vector to_float(Integers x) { return _mm512_cvtepi32_ps(x); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION bytes_avx512
#define ONEBIT_SPLIT bytes_avx512_split
#define ONEBIT_PIXELS 6
#define ONEBIT_BLOCKS 2
#include "kernels/qconv/body.inc"
