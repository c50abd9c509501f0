#include <immintrin.h>

#include "kernels/iconv/iconv.h"

namespace onebit {
namespace {

using Vector = __m512;
using Integers = __m512i;
using Bytes = __m512i;
using Weights = __m512i;
constexpr int kWidth = 16;

inline Bytes bytes_at(const uint8_t* p) {
  int word;
  __builtin_memcpy(&word, p, 4);
  return _mm512_set1_epi32(word);
}
inline Weights weights_at(const int8_t* p) { return _mm512_load_si512(p); }
inline Integers dot(Integers sums, Bytes x, Weights w) { return _mm512_dpbusd_epi32(sums, x, w); }
inline Vector to_float(Integers x) { return _mm512_cvtepi32_ps(x); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
inline Vector splat(float x) { return _mm512_set1_ps(x); }
inline Integers start_at(const int32_t* p) { return _mm512_load_si512(p); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION codes_avx512vnni
#define ONEBIT_PIXELS 16
#define ONEBIT_BLOCKS 4
#include "kernels/iconv/body.inc"
