#include <immintrin.h>

#include "kernels/bconv/bconv.h"

namespace onebit {
namespace {

// One xor, one popcount and one addition for 16 words: of P pixels × 16·B outputs, so that these three wait for no
// load.
template <int P, int B, bool Masked>
[[gnu::always_inline]] inline void tile(const Count& c, size_t pixel, size_t block) {
  const char* windows = c.bits + pixel * c.step;
  const uint32_t* weights = c.weights + block * c.words * kBinaryLanes;
  __m512i sums[B][P];
  for (int b = 0; b < B; ++b) {
    for (int p = 0; p < P; ++p) sums[b][p] = _mm512_setzero_si512();
  }
  for (size_t k = 0; k < c.words; ++k) {
    const char* at = windows + c.offsets[k];
    __m512i w[B], mask = _mm512_setzero_si512();
    for (int b = 0; b < B; ++b) w[b] = _mm512_load_si512(weights + (b * c.words + k) * kBinaryLanes);
    if (Masked) mask = _mm512_set1_epi32(static_cast<int>(c.masks[k]));
    for (int p = 0; p < P; ++p) {
      int word;
      __builtin_memcpy(&word, at + p * c.step, 4);
      const __m512i a = _mm512_set1_epi32(word);
      for (int b = 0; b < B; ++b) {
        const __m512i differ = Masked ? _mm512_ternarylogic_epi32(a, w[b], mask, 0x28)  // (a ^ w) & mask
                                      : _mm512_xor_si512(a, w[b]);
        sums[b][p] = _mm512_add_epi32(sums[b][p], _mm512_popcnt_epi32(differ));
      }
    }
  }
  for (int b = 0; b < B; ++b) {
    for (int p = 0; p < P; ++p) {
      _mm512_store_si512(c.counts + ((pixel + p) * c.blocks + block + b) * kBinaryLanes, sums[b][p]);
    }
  }
}

// All pixels of B blocks. The last tile ends at the last pixel, even if it counts some pixels again.
template <int P, int B, bool Masked>
void pixels(const Count& c, size_t block) {
  size_t p = 0;
  for (; p + P <= c.pixels; p += P) tile<P, B, Masked>(c, p, block);
  if (p < c.pixels && c.pixels >= P) return tile<P, B, Masked>(c, c.pixels - P, block);
  for (; p < c.pixels; ++p) tile<1, B, Masked>(c, p, block);
}

// Rows of 7, 14, 28 and 56 pixels, those of images of 224 × 224, are whole tiles of 7.
template <bool Masked>
void blocks(const Count& c) {
  size_t block = 0;
  for (; block + 2 <= c.blocks; block += 2) {
    if (Masked || c.pixels % 7) {
      pixels<4, 2, Masked>(c, block);
    } else {
      for (size_t p = 0; p < c.pixels; p += 7) tile<7, 2, false>(c, p, block);
    }
  }
  if (block < c.blocks) pixels<8, 1, Masked>(c, block);
}

}  // namespace

void count_avx512vp(const Count& c) { c.masks ? blocks<true>(c) : blocks<false>(c); }

}  // namespace onebit
