#include <arm_neon.h>

#include "kernels/dwconv/dwconv.h"

namespace onebit {
namespace {

using Vector = float32x4_t;
constexpr int kWidth = 4;

inline Vector load(const float* p) { return vld1q_f32(p); }
inline Vector load(const float* p, size_t n) {
  Vector x = vld1q_lane_f32(p, vdupq_n_f32(0), 0);
  if (n > 1) x = vld1q_lane_f32(p + 1, x, 1);
  return n > 2 ? vld1q_lane_f32(p + 2, x, 2) : x;
}
inline void store(float* p, Vector x) { vst1q_f32(p, x); }
inline void store(float* p, Vector x, size_t n) {
  vst1q_lane_f32(p, x, 0);
  if (n > 1) vst1q_lane_f32(p + 1, x, 1);
  if (n > 2) vst1q_lane_f32(p + 2, x, 2);
}
inline Vector fma(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION depthwise_neon
#define ONEBIT_PIXELS 4
#define ONEBIT_VECTORS 4
#include "kernels/dwconv/body.inc"
