#include <arm_neon.h>

#include "kernels/fconv/fconv.h"

namespace onebit {
namespace {

using Vector = float32x4_t;
constexpr int kWidth = 4;

inline Vector broadcast(float x) { return vdupq_n_f32(x); }
inline Vector fma(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION multiply_neon
#define ONEBIT_PIXELS 5
#define ONEBIT_BLOCKS 1
#include "kernels/fconv/body.inc"
