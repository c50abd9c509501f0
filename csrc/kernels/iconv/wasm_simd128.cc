// Products of 16-bit numbers, added in pairs (i32x4.dot_i16x8_s): of each four bytes the even ones, then the odd ones.
#include <wasm_simd128.h>

#define fma fma_inline
#include "base/fma_simd128.inc"
#undef fma
#include "kernels/iconv/iconv.h"

namespace onebit {
namespace {

struct Halves {
  v128_t even, odd;
};

using Vector = v128_t;
using Integers = v128_t;
using Bytes = Halves;
using Weights = Halves;
constexpr int kWidth = 4;

inline Bytes bytes_at(const uint8_t* p) {
  const v128_t x = wasm_v128_load32_splat(p);
  return {wasm_v128_and(x, wasm_i16x8_const_splat(0xff)), wasm_u16x8_shr(x, 8)};
}
inline Weights weights_at(const int8_t* p) {
  const v128_t w = wasm_v128_load(p);
  return {wasm_i16x8_shr(wasm_i16x8_shl(w, 8), 8), wasm_i16x8_shr(w, 8)};
}
inline Integers dot(Integers sums, Bytes x, Weights w) {
  const v128_t even = wasm_i32x4_dot_i16x8(x.even, w.even), odd = wasm_i32x4_dot_i16x8(x.odd, w.odd);
  return wasm_i32x4_add(sums, wasm_i32x4_add(even, odd));
}
inline Vector to_float(Integers x) { return wasm_f32x4_convert_i32x4(x); }
// Called, not inlined: it is long, and once a tap.
[[gnu::noinline]] Vector fma(Vector a, Vector b, Vector c) { return fma_inline(a, b, c); }
inline Vector splat(float x) { return wasm_f32x4_splat(x); }
inline Integers start_at(const int32_t* p) { return wasm_v128_load(p); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION codes_simd128
#define ONEBIT_PIXELS 2
#define ONEBIT_BLOCKS 1
#include "kernels/iconv/body.inc"
