// What the binary kernel (csrc/kernels/bconv/arm64_neon.cc) was chosen over: the same counts by carry-save adders, as
// on x86 without a popcount instruction. Only read by benchmarks/mca.py.
#include <arm_neon.h>

#include "kernels/bconv/bconv.h"
#include "kernels/bconv/tiles.inc"

namespace onebit {
namespace {

using Vector = uint8x16_t;

inline Vector load(const uint32_t* words) { return vreinterpretq_u8_u32(vld1q_u32(words)); }
inline void store(int32_t* lanes, Vector v) { vst1q_s32(lanes, vreinterpretq_s32_u8(v)); }
inline Vector broadcast(int word) { return vreinterpretq_u8_s32(vdupq_n_s32(word)); }
inline Vector differences(Vector a, Vector b) { return veorq_u8(a, b); }
inline Vector differences(Vector a, Vector b, Vector mask) { return vandq_u8(veorq_u8(a, b), mask); }
inline Vector zero() { return vdupq_n_u8(0); }
inline Vector add_bytes(Vector a, Vector b) { return vaddq_u8(a, b); }

// One instruction counts, so that no table is needed.
inline int table(int weight) { return weight; }
inline Vector look_up(int weight, Vector bits) { return vmulq_u8(vcntq_u8(bits), vdupq_n_u8(weight)); }

inline Vector full_add(Vector a, Vector b, Vector c, Vector& carry) {
  const Vector differ = veorq_u8(a, b);
  carry = vbslq_u8(differ, c, a);
  return veorq_u8(differ, c);
}

inline Vector widen(Vector sums, Vector bytes, int weight) {
  const uint32x4_t lanes = vpaddlq_u16(vpaddlq_u8(bytes));
  return vreinterpretq_u8_u32(vmlaq_n_u32(vreinterpretq_u32_u8(sums), lanes, weight));
}

}  // namespace
}  // namespace onebit

#include "kernels/bconv/adders.inc"

namespace onebit {

void count_carry_save(const Count& c) { tiles<2, false>(c); }

}  // namespace onebit
