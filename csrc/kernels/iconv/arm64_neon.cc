#include <arm_neon.h>

#include <cstdint>

#include "base/bytes_neon.inc"
#include "kernels/iconv/iconv.h"

namespace onebit {
namespace {

inline Vector splat(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
inline Integers start_at(const int32_t* p) { return {vld1q_s32(p), vld1q_s32(p + 4)}; }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION codes_neon
#define ONEBIT_PIXELS 4
#define ONEBIT_BLOCKS 1
#include "kernels/iconv/body.inc"
