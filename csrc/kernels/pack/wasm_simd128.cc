#include <wasm_simd128.h>

#include "kernels/pack/pack.h"

namespace onebit {
namespace {

// Whether x >= threshold, for 4 floats: lanes of ones or zeros.
template <bool kEach>
inline v128_t reached(const float* x, const float* threshold) {
  const v128_t level = kEach ? wasm_v128_load(threshold) : wasm_v128_load32_splat(threshold);
  return wasm_f32x4_ge(wasm_v128_load(x), level);
}

// 16 floats to 16 bits. Narrowed with saturation, all ones stay all ones.
template <bool kEach>
inline uint64_t reached16(const float* x, const float* threshold) {
  constexpr size_t kStep = kEach ? 4 : 0;
  v128_t lanes[4];
  for (size_t j = 0; j < 4; ++j) lanes[j] = reached<kEach>(x + 4 * j, threshold + kStep * j);
  const v128_t low = wasm_i16x8_narrow_i32x4(lanes[0], lanes[1]), high = wasm_i16x8_narrow_i32x4(lanes[2], lanes[3]);
  return static_cast<uint32_t>(wasm_i8x16_bitmask(wasm_i8x16_narrow_i16x8(low, high)));
}

template <bool kEach>
inline size_t pack_words(const float* x, const float* threshold, size_t n, uint64_t* words) {
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    uint64_t word = 0;
    for (size_t j = 0; j < 64; j += 16) word |= reached16<kEach>(x + i + j, threshold + (kEach ? i + j : 0)) << j;
    *words++ = ~word;
  }
  return i;
}

}  // namespace

void pack_simd128(const float* x, const float* threshold, size_t step, size_t n, uint64_t* words) {
  const size_t i = step ? pack_words<true>(x, threshold, n, words) : pack_words<false>(x, threshold, n, words);
  if (i < n) pack_scalar(x + i, threshold + i * step, step, n - i, words + i / 64);
}

}  // namespace onebit

#define popcount64(x) static_cast<int32_t>(__builtin_popcountll(x))
#define ONEBIT_FUNCTION pack_simd128_ones
#include "kernels/pack/ones.inc"
