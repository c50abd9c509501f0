#include <arm_neon.h>

#include "kernels/pack/pack.h"

namespace onebit {
namespace {

// Whether x >= threshold, for 8 floats: lanes of ones or zeros.
template <bool kEach>
inline uint16x8_t reached(const float* x, const float* threshold) {
  const float32x4_t low = kEach ? vld1q_f32(threshold) : vdupq_n_f32(*threshold);
  const float32x4_t high = kEach ? vld1q_f32(threshold + 4) : low;
  const uint32x4_t a = vcgeq_f32(vld1q_f32(x), low), b = vcgeq_f32(vld1q_f32(x + 4), high);
  return vuzp1q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b));  // the lower half of each lane, in order
}

// 16 floats: one byte each, which is the bit's value within its byte, or 0 if the threshold is reached.
template <bool kEach>
inline uint8x16_t below(const float* x, const float* threshold) {
  const uint8x16_t powers = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
  const uint16x8_t a = reached<kEach>(x, threshold), b = reached<kEach>(x + 8, threshold + (kEach ? 8 : 0));
  return vbicq_u8(powers, vuzp1q_u8(vreinterpretq_u8_u16(a), vreinterpretq_u8_u16(b)));
}

// There is no instruction that moves the sign of each lane to a bit. But the sum of 8 neighbours, each with a power of
// two of its own, is their byte: three rounds of adding pairs make 64 such bytes 8, in order.
template <bool kEach>
inline size_t pack_words(const float* x, const float* threshold, size_t n, uint64_t* words) {
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const float* level = threshold + (kEach ? i : 0);
    uint8x16_t bytes[4];
    for (int j = 0; j < 4; ++j) bytes[j] = below<kEach>(x + i + 16 * j, level + (kEach ? 16 * j : 0));
    const uint8x16_t fours = vpaddq_u8(vpaddq_u8(bytes[0], bytes[1]), vpaddq_u8(bytes[2], bytes[3]));
    *words++ = vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(fours, fours)), 0);
  }
  return i;
}

}  // namespace

void pack_neon(const float* x, const float* threshold, size_t step, size_t n, uint64_t* words) {
  const size_t i = step ? pack_words<true>(x, threshold, n, words) : pack_words<false>(x, threshold, n, words);
  if (i < n) pack_scalar(x + i, threshold + i * step, step, n - i, words + i / 64);
}

}  // namespace onebit

#define popcount64(x) static_cast<int32_t>(__builtin_popcountll(x))
#define ONEBIT_FUNCTION pack_neon_ones
#include "kernels/pack/ones.inc"
