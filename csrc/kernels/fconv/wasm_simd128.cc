// There is no fused multiply-add, and the exact one (base/fma_simd128.inc) takes three times what the sum takes that is
// rounded twice, to double and to float. Twice is once unless
//
//   - the double lies in the middle between two floats: its last 29 bits are 1000...0. This is looked for, and a tile
//     where it occurs is computed again, exactly. Of sums whose bits are random one in 2^29 is such;
//   - or the result is subnormal, where more bits than 29 are rounded off. If all products are multiples of 2^-149, so
//     are, with the bias, all sums, and floats rounded from them. A sum below 2^-126 then is a float and nothing is
//     rounded. So it is if the smallest biased exponents X and W of inputs and weights other than 0 (1 if subnormal:
//     such numbers are multiples of 2^(X - 150)) have X - 150 + W - 150 >= -149. Else all is computed exactly.
#include <wasm_simd128.h>

#include "base/fma_simd128.inc"
#include "kernels/fconv/fconv.h"

namespace onebit {
namespace {

using Vector = v128_t;
constexpr int kWidth = 4;

inline Vector broadcast(float x) { return wasm_f32x4_splat(x); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION multiply_simd128_exactly
#define ONEBIT_PIXELS 1
#define ONEBIT_BLOCKS 1
#include "kernels/fconv/body.inc"

namespace onebit {
namespace {

constexpr int kDoubles = 2, kSums = kFloatLanes / kDoubles;

// The smallest magnitude other than 0 among n floats and those before, less one, as bits: 0 becomes the largest number.
inline v128_t smallest(v128_t before, const float* x, size_t n) {
  const v128_t magnitude = wasm_i32x4_const_splat(0x7fffffff), one = wasm_i32x4_const_splat(1);
  const auto less = [&](v128_t v) { return wasm_i32x4_sub(wasm_v128_and(v, magnitude), one); };
  size_t i = 0;
  for (; i + 4 <= n; i += 4) before = wasm_u32x4_min(before, less(wasm_v128_load(x + i)));
  for (; i < n; ++i) before = wasm_u32x4_min(before, less(wasm_v128_load32_splat(x + i)));
  return before;
}

inline uint32_t biased_exponent(v128_t smallest) {
  uint32_t lanes[4], least = ~uint32_t{0};
  wasm_v128_store(lanes, smallest);
  for (uint32_t lane : lanes) least = lane < least ? lane : least;
  if (least == ~uint32_t{0}) return 255;  // zeros alone
  const uint32_t exponent = (least + 1) >> 23;
  return exponent ? exponent : 1;
}

inline bool products_are_coarse(const Multiply& m) {
  const v128_t none = wasm_i32x4_const_splat(-1);
  v128_t inputs = none;
  for (size_t r = 0; r < m.count; ++r) {
    if (m.step <= m.run) {
      inputs = smallest(inputs, m.rows[r], (m.pixels - 1) * m.step + m.run);
    } else {
      for (size_t p = 0; p < m.pixels; ++p) inputs = smallest(inputs, m.rows[r] + p * m.step, m.run);
    }
  }
  const v128_t weights = smallest(none, m.weights, m.blocks * m.count * m.run * kFloatLanes);
  return biased_exponent(inputs) + biased_exponent(weights) >= 151;
}

// The 16 outputs of a block of P pixels as floats, each in a double; whether no sum lay in the middle between two.
template <int P, int V>
[[gnu::always_inline]] inline bool sums_of(const Multiply& m, size_t pixel, const float* weights, const float* bias,
                                           v128_t (&to)[P][V]) {
  v128_t sums[P][V], middle = {};
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) {
    const v128_t start = wasm_f64x2_promote_low_f32x4(wasm_v128_load64_zero(bias + v * kDoubles));
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) sums[p][v] = start;
  }
  for (size_t r = 0; r < m.count; ++r) {
    const float* x = m.rows[r] + pixel * m.step;
    for (size_t i = 0; i < m.run; ++i, weights += kFloatLanes) {
      v128_t values[P];
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) values[p] = wasm_f64x2_splat(x[i + p * m.step]);
#pragma GCC unroll 16
      for (int v = 0; v < V; v += 2) {
        const v128_t low = wasm_f64x2_promote_low_f32x4(wasm_v128_load64_zero(weights + v * kDoubles));
        const v128_t high = wasm_f64x2_promote_low_f32x4(wasm_v128_load64_zero(weights + v * kDoubles + kDoubles));
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) {
          const v128_t a = wasm_f64x2_add(wasm_f64x2_mul(values[p], low), sums[p][v]);
          const v128_t b = wasm_f64x2_add(wasm_f64x2_mul(values[p], high), sums[p][v + 1]);
          const v128_t last = wasm_i32x4_shl(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), 3);
          middle = wasm_v128_or(middle, wasm_i32x4_eq(last, wasm_i32x4_const_splat(INT32_MIN)));
          sums[p][v] = wasm_f64x2_promote_low_f32x4(wasm_f32x4_demote_f64x2_zero(a));
          sums[p][v + 1] = wasm_f64x2_promote_low_f32x4(wasm_f32x4_demote_f64x2_zero(b));
        }
      }
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int v = 0; v < V; ++v) to[p][v] = sums[p][v];
  }
  return !wasm_v128_any_true(middle);
}

// The outputs of a block, V registers of doubles at a time: no more sums than registers.
template <int P, int V>
inline void quick_tile(const Multiply& m, size_t pixel, size_t block) {
  const size_t depth = m.count * m.run, outputs = m.outputs - block * kFloatLanes;
  v128_t rows[P][kFloatLanes / kWidth];
  for (int first = 0; first < kSums; first += V) {
    const size_t lane = block * kFloatLanes + first * kDoubles;
    v128_t sums[P][V];
    if (!sums_of<P, V>(m, pixel, m.weights + block * depth * kFloatLanes + first * kDoubles, m.bias + lane, sums)) {
      for (int p = 0; p < P; ++p) tile<1, 1>(m, pixel + p, block);
      return;
    }
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < V; v += 2) {
        const v128_t low = wasm_f32x4_demote_f64x2_zero(sums[p][v]),
                     high = wasm_f32x4_demote_f64x2_zero(sums[p][v + 1]);
        rows[p][(first + v) / 2] = wasm_i64x2_shuffle(low, high, 0, 2);
      }
    }
  }
  for (int p = 0; p < P; ++p) store(rows[p], outputs, m.out + (pixel + p) * m.out_step + block * kFloatLanes);
}

}  // namespace

void multiply_simd128(const Multiply& m) {
  if (!products_are_coarse(m)) return multiply_simd128_exactly(m);
  for (size_t block = 0; block < m.blocks; ++block) {
    size_t p = 0;
    for (; p + 2 <= m.pixels; p += 2) quick_tile<2, 4>(m, p, block);
    for (; p < m.pixels; ++p) quick_tile<1, 8>(m, p, block);
  }
}

}  // namespace onebit
