#include <immintrin.h>

#include "bconv/bconv.h"
#include "bconv/tiles.inc"

namespace onebit {
namespace {

// Popcount of each byte: two table look-ups of 4 bits.
inline __m256i byte_counts(__m256i x) {
  const __m256i table =
      _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i nibble = _mm256_set1_epi8(0x0f);
  const __m256i low = _mm256_and_si256(x, nibble);
  const __m256i high = _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
  return _mm256_add_epi8(_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high));
}

// Sums of the 4 bytes of each 32-bit lane.
inline __m256i lane_sums(__m256i bytes) {
  const __m256i pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

// P pixels × 16 outputs. A byte counts up to 8 per word, so 31 words fit before it must be widened.
template <int P>
inline void tile(const uint64_t* windows, size_t words, const uint32_t* weights, int32_t* counts, size_t stride) {
  const size_t row = (words + 1) / 2;
  __m256i sums[P][2];
  for (int p = 0; p < P; ++p) sums[p][0] = sums[p][1] = _mm256_setzero_si256();
  for (size_t begin = 0; begin < words; begin += 31) {
    const size_t end = begin + 31 < words ? begin + 31 : words;
    __m256i bytes[P][2];
    for (int p = 0; p < P; ++p) bytes[p][0] = bytes[p][1] = _mm256_setzero_si256();
    for (size_t k = begin; k < end; ++k) {
      const __m256i* w = reinterpret_cast<const __m256i*>(weights + k * kBinaryLanes);
      for (int p = 0; p < P; ++p) {
        const __m256i a = _mm256_set1_epi32(word_at(windows + p * row, k));
        bytes[p][0] = _mm256_add_epi8(bytes[p][0], byte_counts(_mm256_xor_si256(a, w[0])));
        bytes[p][1] = _mm256_add_epi8(bytes[p][1], byte_counts(_mm256_xor_si256(a, w[1])));
      }
    }
    for (int p = 0; p < P; ++p) {
      sums[p][0] = _mm256_add_epi32(sums[p][0], lane_sums(bytes[p][0]));
      sums[p][1] = _mm256_add_epi32(sums[p][1], lane_sums(bytes[p][1]));
    }
  }
  for (int p = 0; p < P; ++p) {
    __m256i* to = reinterpret_cast<__m256i*>(counts + p * stride);
    _mm256_store_si256(to, sums[p][0]);
    _mm256_store_si256(to + 1, sums[p][1]);
  }
}

}  // namespace

void count_avx2(const uint64_t* windows, size_t pixels, size_t words, const uint32_t* weights, size_t blocks,
                int32_t* counts) {
  count_in_tiles<2>(windows, pixels, words, weights, blocks, counts);
}

}  // namespace onebit
