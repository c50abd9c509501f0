#include <immintrin.h>

#include "bconv/bconv.h"
#include "bconv/tiles.inc"

namespace onebit {
namespace {

// P pixels × 16 outputs, popcount by table look-up of 4 bits: the low nibbles of (a xor w) are ternary logic on a, w
// and the mask; so are the high ones of a and w shifted beforehand, w once per tile instead of once per pixel. A byte
// counts up to 8 per word, so 31 words fit before it must be widened.
template <int P>
inline void tile(const uint64_t* windows, size_t words, const uint32_t* weights, int32_t* counts, size_t stride) {
  const size_t row = (words + 1) / 2;
  const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m512i nibble = _mm512_set1_epi8(0x0f);
  constexpr int kXorAnd = 0x28;  // (first xor second) and third
  __m512i sums[P];
  for (int p = 0; p < P; ++p) sums[p] = _mm512_setzero_si512();
  for (size_t begin = 0; begin < words; begin += 31) {
    const size_t end = begin + 31 < words ? begin + 31 : words;
    __m512i bytes[P];
    for (int p = 0; p < P; ++p) bytes[p] = _mm512_setzero_si512();
    for (size_t k = begin; k < end; ++k) {
      const __m512i w = _mm512_load_si512(weights + k * kBinaryLanes);
      const __m512i w_high = _mm512_srli_epi32(w, 4);
      for (int p = 0; p < P; ++p) {
        const __m512i a = _mm512_set1_epi32(word_at(windows + p * row, k));
        const __m512i low = _mm512_ternarylogic_epi32(a, w, nibble, kXorAnd);
        const __m512i high = _mm512_ternarylogic_epi32(_mm512_srli_epi32(a, 4), w_high, nibble, kXorAnd);
        bytes[p] = _mm512_add_epi8(bytes[p], _mm512_shuffle_epi8(table, low));
        bytes[p] = _mm512_add_epi8(bytes[p], _mm512_shuffle_epi8(table, high));
      }
    }
    for (int p = 0; p < P; ++p) {
      const __m512i pairs = _mm512_maddubs_epi16(bytes[p], _mm512_set1_epi8(1));
      sums[p] = _mm512_add_epi32(sums[p], _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    }
  }
  for (int p = 0; p < P; ++p) _mm512_store_si512(counts + p * stride, sums[p]);
}

}  // namespace

void count_avx512(const uint64_t* windows, size_t pixels, size_t words, const uint32_t* weights, size_t blocks,
                  int32_t* counts) {
  count_in_tiles<4>(windows, pixels, words, weights, blocks, counts);
}

}  // namespace onebit
