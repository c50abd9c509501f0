// As arm64_neon.cc: popcounts of bytes (i8x16.popcnt) are added in bytes, and those widened to lanes before they
// overflow. On x86 a popcount is a handful of instructions, table look-ups of both halves of each byte; full adders, of
// which WebAssembly needs five operations each, save less than they cost. Two pixels share the loads of the weights:
// their eight registers of bytes are what 16 registers have room for.
#include <wasm_simd128.h>

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
    v128_t bytes[P][kVectors] = {};
    for (; k < end; ++k) {
      v128_t w[kVectors];
      for (int v = 0; v < kVectors; ++v) w[v] = wasm_v128_load(weights + k * kBinaryLanes + 4 * v);
      for (int p = 0; p < P; ++p) {
        v128_t a = wasm_i32x4_splat(word_at(c, windows + p * c.step, k));
        if (Masked) a = wasm_v128_and(a, wasm_i32x4_splat(c.masks[k]));  // the weights have no bits there
        for (int v = 0; v < kVectors; ++v) {
          bytes[p][v] = wasm_i8x16_add(bytes[p][v], wasm_i8x16_popcnt(wasm_v128_xor(a, w[v])));
        }
      }
    }
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < kVectors; ++v) {
        int32_t* to = counts + p * c.blocks * kBinaryLanes + 4 * v;
        const v128_t now = wasm_u32x4_extadd_pairwise_u16x8(wasm_u16x8_extadd_pairwise_u8x16(bytes[p][v]));
        wasm_v128_store(to, first ? now : wasm_i32x4_add(wasm_v128_load(to), now));
      }
    }
  }
}

}  // namespace

void count_simd128(const Count& c) { c.masks ? tiles<2, true>(c) : tiles<2, false>(c); }

}  // namespace onebit
