// The heart of a depth-wise convolution, of a filter of its own for each channel. Sums start at the bias and take the
// products in the order of the taps with one rounding each (fused multiply-add), so that every instruction set gives
// the same bits as the reference:
//
//   out[p][c] = fma(x[p][n - 1][c], weights[n - 1][c], ... fma(x[p][0][c], weights[0][c], bias[c]))
//
// n = count is the number of taps. Pixels come in runs whose taps see them at equal distances:
// x[p][k][c] = taps[k].x[p·taps[k].step + c] for pixel p of a run. Taps in the padding point to zeros.
//
//   weights  (n, channels), bias (channels)
//   out      those of pixel p of a run start at its out + p·out_step; apart from all that is read
// Contract: all sizes >= 1. Nothing need be aligned.
#pragma once

#include <cstddef>

#include "base/cpu.h"

namespace onebit {

struct DepthwiseTap {
  const float* x;
  size_t step;
};

struct DepthwiseRun {
  const DepthwiseTap* taps;
  size_t pixels;
  float* out;
};

struct Depthwise {
  const DepthwiseRun* runs;
  size_t run_count, count;
  size_t channels;
  const float* weights;
  const float* bias;
  size_t out_step;  // floats from pixel to pixel
};

struct DepthwiseKernel {
  const char* name;
  Isa isa;
  void (*run)(const Depthwise&);
};

#define ONEBIT_KERNEL(function, isa) void function(const Depthwise&);
#include "kernels/dwconv/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const DepthwiseKernel& select_depthwise(Isa isa);

}  // namespace onebit
