// As x86_avx2.cc, in registers of twice the width, whose bytes take a sign by a mask.
#include <immintrin.h>

#include "kernels/iconv/iconv.h"

namespace onebit {
namespace {

struct Parts {
  __mmask64 negative;
  __m512i magnitudes;
};

using Vector = __m512;
using Integers = __m512i;
using Bytes = __m512i;
using Weights = Parts;
constexpr int kWidth = 16;

inline Bytes bytes_at(const uint8_t* p) {
  int word;
  __builtin_memcpy(&word, p, 4);
  return _mm512_xor_si512(_mm512_set1_epi32(word), _mm512_set1_epi8(-128));  // q
}
inline Weights weights_at(const int8_t* p) {
  const __m512i w = _mm512_load_si512(p);
  return {_mm512_movepi8_mask(w), _mm512_abs_epi8(w)};
}
inline Integers dot(Integers sums, Bytes x, const Weights& w) {
  const __m512i signed_x = _mm512_mask_sub_epi8(x, w.negative, _mm512_setzero_si512(), x);
  const __m512i pairs = _mm512_maddubs_epi16(w.magnitudes, signed_x);
  return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
inline Vector to_float(Integers x) { return _mm512_cvtepi32_ps(x); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
inline Vector splat(float x) { return _mm512_set1_ps(x); }
inline Integers start_at(const int32_t*) { return _mm512_setzero_si512(); }  // of q, no offset is to be taken off

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION codes_avx512
#define ONEBIT_PIXELS 16
#define ONEBIT_BLOCKS 4
#include "kernels/iconv/body.inc"
