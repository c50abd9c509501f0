#include <immintrin.h>

#include "kernels/bconv/bconv.h"
#include "kernels/bconv/tiles.inc"

namespace onebit {
namespace {

using Vector = __m256i;

inline Vector load(const uint32_t* words) { return _mm256_load_si256(reinterpret_cast<const Vector*>(words)); }
inline void store(int32_t* lanes, Vector v) { _mm256_store_si256(reinterpret_cast<Vector*>(lanes), v); }
inline Vector broadcast(int word) { return _mm256_set1_epi32(word); }
inline Vector differences(Vector a, Vector b) { return _mm256_xor_si256(a, b); }
inline Vector differences(Vector a, Vector b, Vector mask) { return _mm256_and_si256(_mm256_xor_si256(a, b), mask); }
inline Vector zero() { return _mm256_setzero_si256(); }
inline Vector add_bytes(Vector a, Vector b) { return _mm256_add_epi8(a, b); }

inline Vector table(int weight) {
  const char w = static_cast<char>(weight);
  return _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, w, w, 2 * w, w, 2 * w, 2 * w, 3 * w, w, 2 * w, 2 * w, 3 * w, 2 * w, 3 * w, 3 * w, 4 * w));
}

inline Vector look_up(Vector table, Vector bits) {
  const Vector nibble = _mm256_set1_epi8(0x0f);
  const Vector low = _mm256_and_si256(bits, nibble), high = _mm256_and_si256(_mm256_srli_epi16(bits, 4), nibble);
  return _mm256_add_epi8(_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high));
}

inline Vector full_add(Vector a, Vector b, Vector c, Vector& carry) {
  const Vector differ = _mm256_xor_si256(a, b);
  carry = _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(differ, c));
  return _mm256_xor_si256(differ, c);
}

inline Vector widen(Vector sums, Vector bytes, int weight) {
  const Vector pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(static_cast<char>(weight)));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

}  // namespace
}  // namespace onebit

#include "kernels/bconv/adders.inc"

namespace onebit {

void count_avx2(const Count& c) { usual_tiles<2>(c); }

}  // namespace onebit
