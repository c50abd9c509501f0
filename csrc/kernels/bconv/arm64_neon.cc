// 16 outputs are four registers. Popcounts come in bytes (cnt), and so they are added: per register of 128 bits one
// xor, one cnt and one addition. A carry-save adder takes three operations (eor, eor, bsl) and saves one cnt and one
// addition, two: here counting every word is the fast way.
//
// A byte grows by at most 8 a word, so 31 words fit before bytes must be widened to lanes. Lanes wait in `counts` in
// the meantime: all registers are left to the bytes of 4 pixels, which share the loads of the weights.
#include <arm_neon.h>

#include "kernels/bconv/bconv.h"
#include "kernels/bconv/tiles.inc"

namespace onebit {
namespace {

constexpr int kVectors = 4;           // registers for 16 outputs
constexpr size_t kWordsPerByte = 31;  // 31·8 <= 255

template <int P, int, bool Masked>
[[gnu::always_inline]] inline void tile(const Count& c, const char* windows, const uint32_t* weights, int32_t* counts) {
  for (size_t k = 0; k < c.words;) {
    const bool first = k == 0;
    const size_t end = c.words - k < kWordsPerByte ? c.words : k + kWordsPerByte;
    uint8x16_t bytes[P][kVectors];
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < kVectors; ++v) bytes[p][v] = vdupq_n_u8(0);
    }
    for (; k < end; ++k) {
      uint8x16_t w[kVectors];
      for (int v = 0; v < kVectors; ++v) w[v] = vreinterpretq_u8_u32(vld1q_u32(weights + k * kBinaryLanes + 4 * v));
      uint8x16_t a[P];
      for (int p = 0; p < P; ++p) a[p] = vreinterpretq_u8_s32(vdupq_n_s32(word_at(c, windows + p * c.step, k)));
      if (Masked) {  // the weights have no bits there
        for (int p = 0; p < P; ++p) a[p] = vandq_u8(a[p], vreinterpretq_u8_u32(vdupq_n_u32(c.masks[k])));
      }
      for (int p = 0; p < P; ++p) {
        uint8x16_t x[kVectors];  // one kind of operation after the other: in-order cores wait for no result
        for (int v = 0; v < kVectors; ++v) x[v] = veorq_u8(a[p], w[v]);
        for (int v = 0; v < kVectors; ++v) x[v] = vcntq_u8(x[v]);
        for (int v = 0; v < kVectors; ++v) bytes[p][v] = vaddq_u8(bytes[p][v], x[v]);
      }
    }
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < kVectors; ++v) {
        int32_t* to = counts + p * c.blocks * kBinaryLanes + 4 * v;
        const int32x4_t before = first ? vdupq_n_s32(0) : vld1q_s32(to);
        const int16x8_t pairs = vreinterpretq_s16_u16(vpaddlq_u8(bytes[p][v]));  // <= 2·248
        vst1q_s32(to, vpadalq_s16(before, pairs));
      }
    }
  }
}

}  // namespace

void count_neon(const Count& c) { c.masks ? tiles<4, true>(c) : tiles<4, false>(c); }

}  // namespace onebit
