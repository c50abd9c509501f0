// There is no fused multiply-add, and the exact one (base/fma_simd128.inc) takes many operations. A sum of doubles that
// is rounded to 24 bits costs five, product included: Veltkamp's high part of s is t - (t - s) with t = (2^29 + 1)·s,
// which is one of the nearest numbers of 24 bits. It is the float that fused multiply-add gives unless
//
//   - the double s lies in the middle between two such numbers: its last 29 bits are 1000...0. The exact sum may lie
//     beside it, and of two nearest ones the high part may be the odd one. This is looked for, and a tile where it
//     occurs is computed again, exactly. Of sums whose bits are random one in 2^29 is such;
//   - or the result is subnormal, with fewer bits than 24. If all products are multiples of 2^-149, so are, with the
//     bias, all sums and what they are rounded to: such a sum below 2^-126 is a float already. With the smallest biased
//     exponents X and W of inputs and weights other than 0 (1 if subnormal: those numbers are multiples of 2^(X - 150))
//     it is so if X - 150 + W - 150 >= -149;
//   - or the result is too large for a float. With the largest exponents X and W products are below
//     2^(X - 126 + W - 126), and 2^32 of them with all roundings and a bias below 2^126 below 2^127 if that is <= 2^86.
//
// Where the exponents exceed these bounds all is computed exactly.
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

// The smallest magnitude other than 0, less one, and the largest, as bits. Less one, 0 becomes the largest number.
struct Range {
  v128_t least = wasm_i32x4_const_splat(-1), most = {};
};

inline void extend(Range& range, v128_t x) {
  const v128_t magnitude = wasm_v128_and(x, wasm_i32x4_const_splat(0x7fffffff));
  range.least = wasm_u32x4_min(range.least, wasm_i32x4_sub(magnitude, wasm_i32x4_const_splat(1)));
  range.most = wasm_i32x4_max(range.most, magnitude);
}

inline void extend(Range& range, const float* x, size_t n) {
  size_t i = 0;
  for (; i + 4 <= n; i += 4) extend(range, wasm_v128_load(x + i));
  for (; i < n; ++i) extend(range, wasm_v128_load32_splat(x + i));
}

struct Exponents {
  int least, most;  // biased, as floats have them; 1 for subnormal numbers
};

inline Exponents exponents(const Range& range) {
  uint32_t small[4], large[4], least = ~uint32_t{0}, most = 0;
  wasm_v128_store(small, range.least);
  wasm_v128_store(large, range.most);
  for (int lane = 0; lane < 4; ++lane) {
    least = small[lane] < least ? small[lane] : least;
    most = large[lane] > most ? large[lane] : most;
  }
  const auto exponent = [](uint32_t bits) { return bits >> 23 ? static_cast<int>(bits >> 23) : 1; };
  return {most ? exponent(least + 1) : 255, exponent(most)};  // zeros alone are multiples of anything
}

inline bool quick_is_exact(const Multiply& m) {
  Range x, w, bias;
  for (size_t r = 0; r < m.count; ++r) {
    if (m.step <= m.run) {
      extend(x, m.rows[r], (m.pixels - 1) * m.step + m.run);
    } else {
      for (size_t p = 0; p < m.pixels; ++p) extend(x, m.rows[r] + p * m.step, m.run);
    }
  }
  extend(w, m.weights, m.blocks * m.count * m.run * kFloatLanes);
  extend(bias, m.bias, m.blocks * kFloatLanes);
  const Exponents inputs = exponents(x), weights = exponents(w);
  return inputs.least + weights.least >= 151 && inputs.most + weights.most <= 338 && exponents(bias).most < 253;
}

// The nearest number of 24 bits.
inline v128_t rounded(v128_t sum) {
  const v128_t high = wasm_f64x2_mul(sum, wasm_f64x2_const_splat(0x1p29 + 1));
  return wasm_f64x2_sub(high, wasm_f64x2_sub(high, sum));
}

inline v128_t doubles_at(const float* from) { return wasm_f64x2_promote_low_f32x4(wasm_v128_load64_zero(from)); }

#define ONEBIT_EACH(i, n, step) _Pragma("GCC unroll 16") for (int i = 0; i < (n); i += (step))

// P pixels from `pixel` on, 16 outputs: sums are floats, each in a double.
template <int P>
inline void quick_tile(const Multiply& m, size_t pixel, size_t block) {
  const size_t depth = m.count * m.run, outputs = m.outputs - block * kFloatLanes;
  const float* weights = m.weights + block * depth * kFloatLanes;
  v128_t sums[P][kSums];
  v128_t least = {};  // of the last 29 bits, moved to the top: of integers 1000...0 is the smallest
  ONEBIT_EACH(v, kSums, 1) {
    const v128_t start = doubles_at(m.bias + block * kFloatLanes + v * kDoubles);
    ONEBIT_EACH(p, P, 1) sums[p][v] = start;
  }
  for (size_t r = 0; r < m.count; ++r) {
    const float* x = m.rows[r] + pixel * m.step;
    for (size_t i = 0; i < m.run; ++i, weights += kFloatLanes) {
      v128_t values[P];
      ONEBIT_EACH(p, P, 1) values[p] = wasm_f64x2_splat(x[i + p * m.step]);
      ONEBIT_EACH(v, kSums, 2) {
        const v128_t w[] = {doubles_at(weights + v * kDoubles), doubles_at(weights + (v + 1) * kDoubles)};
        ONEBIT_EACH(p, P, 1) {
          const v128_t low = wasm_f64x2_add(wasm_f64x2_mul(values[p], w[0]), sums[p][v]);
          const v128_t high = wasm_f64x2_add(wasm_f64x2_mul(values[p], w[1]), sums[p][v + 1]);
          least = wasm_i32x4_min(least, wasm_i32x4_shl(wasm_i32x4_shuffle(low, high, 0, 2, 4, 6), 3));
          sums[p][v] = rounded(low);
          sums[p][v + 1] = rounded(high);
        }
      }
    }
  }
  const bool middle = wasm_v128_any_true(wasm_i32x4_eq(least, wasm_i32x4_const_splat(INT32_MIN)));
  ONEBIT_EACH(p, P, 1) {
    if (middle) {
      tile<1, 1>(m, pixel + p, block);
      continue;
    }
    v128_t row[kFloatLanes / kWidth];
    ONEBIT_EACH(v, kSums, 2) {
      const v128_t low = wasm_f32x4_demote_f64x2_zero(sums[p][v]), high = wasm_f32x4_demote_f64x2_zero(sums[p][v + 1]);
      row[v / 2] = wasm_i64x2_shuffle(low, high, 0, 2);
    }
    store(row, outputs, m.out + (pixel + p) * m.out_step + block * kFloatLanes);
  }
}

}  // namespace

void multiply_simd128(const Multiply& m) {
  if (!quick_is_exact(m)) return multiply_simd128_exactly(m);
  for (size_t block = 0; block < m.blocks; ++block) {
    size_t p = 0;
    for (; p + 2 <= m.pixels; p += 2) quick_tile<2>(m, p, block);
    if (p < m.pixels) quick_tile<1>(m, p, block);
  }
}

}  // namespace onebit
