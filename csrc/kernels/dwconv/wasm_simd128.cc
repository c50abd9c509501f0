// There is no fused multiply-add: it is made of exact products and sums rounded to odd.
#include <wasm_simd128.h>

#include "base/fma_simd128.inc"
#include "kernels/dwconv/dwconv.h"

namespace onebit {
namespace {

using Vector = v128_t;
constexpr int kWidth = 4;

inline Vector load(const float* p) { return wasm_v128_load(p); }
inline Vector load(const float* p, size_t n) {
  Vector x = wasm_v128_load32_zero(p);
  if (n > 1) x = wasm_v128_load32_lane(p + 1, x, 1);
  return n > 2 ? wasm_v128_load32_lane(p + 2, x, 2) : x;
}
inline void store(float* p, Vector x) { wasm_v128_store(p, x); }
inline void store(float* p, Vector x, size_t n) {
  wasm_v128_store32_lane(p, x, 0);
  if (n > 1) wasm_v128_store32_lane(p + 1, x, 1);
  if (n > 2) wasm_v128_store32_lane(p + 2, x, 2);
}

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION depthwise_simd128
#define ONEBIT_PIXELS 2
#define ONEBIT_VECTORS 1
#include "kernels/dwconv/body.inc"
