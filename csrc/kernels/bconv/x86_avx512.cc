#include <immintrin.h>

#include "kernels/bconv/bconv.h"
#include "kernels/bconv/tiles.inc"

namespace onebit {
namespace {

using Vector = __m512i;

inline Vector load(const uint32_t* words) { return _mm512_load_si512(words); }
inline void store(int32_t* lanes, Vector v) { _mm512_store_si512(lanes, v); }
inline Vector broadcast(int word) { return _mm512_set1_epi32(word); }
inline Vector differences(Vector a, Vector b) { return _mm512_xor_si512(a, b); }
inline Vector differences(Vector a, Vector b, Vector mask) { return _mm512_ternarylogic_epi32(a, b, mask, 0x28); }
inline Vector zero() { return _mm512_setzero_si512(); }
inline Vector add_bytes(Vector a, Vector b) { return _mm512_add_epi8(a, b); }

inline Vector table(int weight) {
  const char w = static_cast<char>(weight);
  return _mm512_broadcast_i32x4(
      _mm_setr_epi8(0, w, w, 2 * w, w, 2 * w, 2 * w, 3 * w, w, 2 * w, 2 * w, 3 * w, 2 * w, 3 * w, 3 * w, 4 * w));
}

inline Vector look_up(Vector table, Vector bits) {
  const Vector nibble = _mm512_set1_epi8(0x0f);
  const Vector low = _mm512_and_si512(bits, nibble), high = _mm512_and_si512(_mm512_srli_epi16(bits, 4), nibble);
  return _mm512_add_epi8(_mm512_shuffle_epi8(table, low), _mm512_shuffle_epi8(table, high));
}

inline Vector full_add(Vector a, Vector b, Vector c, Vector& carry) {
  carry = _mm512_ternarylogic_epi32(a, b, c, 0xe8);  // majority
  return _mm512_ternarylogic_epi32(a, b, c, 0x96);   // a xor b xor c
}

inline Vector widen(Vector sums, Vector bytes, int weight) {
  const Vector pairs = _mm512_maddubs_epi16(bytes, _mm512_set1_epi8(static_cast<char>(weight)));
  return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

}  // namespace
}  // namespace onebit

#include "kernels/bconv/adders.inc"

namespace onebit {

void count_avx512(const Count& c) { usual_tiles<2>(c); }

}  // namespace onebit
