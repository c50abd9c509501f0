#include <wasm_simd128.h>

#include <cstdint>

#include "base/bytes_simd128.inc"
#define fma fma_inline
#include "base/fma_simd128.inc"
#undef fma
#include "kernels/iconv/iconv.h"

namespace onebit {
namespace {

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
