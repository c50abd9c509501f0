// The heart of a float convolution. Sums start at the bias and take the products in one order with one rounding each
// (fused multiply-add), so that every instruction set gives the same bits as the reference:
//
//   out[p][o] = fma(x[p][n - 1], w[o][n - 1], ... fma(x[p][1], w[o][1], fma(x[p][0], w[o][0], bias[o])))
//
// A window is `count` runs of floats, one for each row of taps:
//   x[p][r·run + i] = rows[r][p·step + i],   n = count·run
//
//   weights  (blocks, n, 16): 16 outputs side by side, aligned to 64 bytes
//   bias     (16·blocks), aligned to 64 bytes
//   out      those of pixel p start at out + p·out_step; 16·(blocks - 1) < outputs <= 16·blocks
// Contract: all sizes >= 1.
#pragma once

#include <cstddef>

#include "base/cpu.h"

namespace onebit {

constexpr size_t kFloatLanes = 16;

struct Multiply {
  const float* const* rows;
  size_t count, run, step;
  size_t pixels;
  const float* weights;
  const float* bias;
  size_t blocks, outputs;
  float* out;
  size_t out_step;  // floats from pixel to pixel
};

struct MultiplyKernel {
  const char* name;
  Isa isa;
  void (*run)(const Multiply&);
};

#define ONEBIT_KERNEL(function, isa) void function(const Multiply&);
#include "kernels/fconv/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const MultiplyKernel& select_multiply(Isa isa);

}  // namespace onebit
