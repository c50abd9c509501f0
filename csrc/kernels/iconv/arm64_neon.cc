// Products of 16-bit numbers, one tap of 4 outputs at a time; a register of sums holds 4 outputs, `Integers` two of
// them.
#include <arm_neon.h>

#include "kernels/iconv/iconv.h"

namespace onebit {
namespace {

struct Vector {
  float32x4_t low, high;
};
struct Integers {
  int32x4_t low, high;
};
struct Weights {
  int16x8_t taps[4];  // of 8 outputs each
};
using Bytes = int16x4_t;
constexpr int kWidth = 8;

inline Bytes bytes_at(const uint8_t* p) {
  uint32_t word;
  __builtin_memcpy(&word, p, 4);
  return vreinterpret_s16_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(word)))));
}
inline Weights weights_at(const int8_t* p) {
  const int8x8x4_t w = vld4_s8(p);  // tap by tap
  return {{vmovl_s8(w.val[0]), vmovl_s8(w.val[1]), vmovl_s8(w.val[2]), vmovl_s8(w.val[3])}};
}
template <int Tap>
inline Integers add_tap(Integers sums, Bytes x, int16x8_t w) {
  return {vmlal_lane_s16(sums.low, vget_low_s16(w), x, Tap), vmlal_lane_s16(sums.high, vget_high_s16(w), x, Tap)};
}
inline Integers dot(Integers sums, Bytes x, const Weights& w) {
  sums = add_tap<0>(sums, x, w.taps[0]);
  sums = add_tap<1>(sums, x, w.taps[1]);
  sums = add_tap<2>(sums, x, w.taps[2]);
  return add_tap<3>(sums, x, w.taps[3]);
}
inline Vector to_float(Integers x) { return {vcvtq_f32_s32(x.low), vcvtq_f32_s32(x.high)}; }
inline Vector fma(Vector a, Vector b, Vector c) {
  return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}
inline Vector splat(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
inline Integers start_at(const int32_t* p) { return {vld1q_s32(p), vld1q_s32(p + 4)}; }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION codes_neon
#define ONEBIT_PIXELS 4
#define ONEBIT_BLOCKS 1
#include "kernels/iconv/body.inc"
