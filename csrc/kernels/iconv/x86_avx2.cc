// Products of bytes, added in pairs to 16 bits (`vpmaddubsw`), where the first factor has no sign: of |w| and q with
// the sign of w. A pair is at most 2·128·127 = 32512, so nothing saturates.
#include <immintrin.h>

#include "kernels/iconv/iconv.h"

namespace onebit {
namespace {

struct Parts {
  __m256i weights, magnitudes;
};

using Vector = __m256;
using Integers = __m256i;
using Bytes = __m256i;
using Weights = Parts;
constexpr int kWidth = 8;

inline Bytes bytes_at(const uint8_t* p) {
  int word;
  __builtin_memcpy(&word, p, 4);
  return _mm256_xor_si256(_mm256_set1_epi32(word), _mm256_set1_epi8(-128));  // q
}
inline Weights weights_at(const int8_t* p) {
  const __m256i w = _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
  return {w, _mm256_abs_epi8(w)};
}
inline Integers dot(Integers sums, Bytes x, const Weights& w) {
  const __m256i pairs = _mm256_maddubs_epi16(w.magnitudes, _mm256_sign_epi8(x, w.weights));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline Vector to_float(Integers x) { return _mm256_cvtepi32_ps(x); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
inline Vector splat(float x) { return _mm256_set1_ps(x); }
inline Integers start_at(const int32_t*) { return _mm256_setzero_si256(); }  // of q, no offset is to be taken off

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION codes_avx2
#define ONEBIT_PIXELS 3
#define ONEBIT_BLOCKS 1
#include "kernels/iconv/body.inc"
