// The heart of a convolution whose values and weights both have 8 bits, of codes q and w, with a scale for each pixel
// and each output: exact integer sums over the channels of each tap, scaled and added up in one order with one rounding
// each, so that every instruction set gives the same bits:
//
//   sum[p][t][o] = Σ_i q(places[t][p], i)·w[o][t][i] = starts[o][t] + Σ_i (q + 128)(places[t][p], i)·w[o][t][i]
//   acc          = fma(scales[places[T - 1][p]], float(sum[p][T - 1][o]), ... fma(scales[places[0][p]],
//                      float(sum[p][0][o]), 0))
//   out[p][o]    = fma(weight_scales[o], acc, bias[o])
//
// Codes lie as bytes q + 128, those of pixel i from codes + i·pitch on, 4·words of them; starts[o][t] = -128·Σ_i
// w[o][t][i].
//
//   weights  (blocks, taps, words, 16, 4): 16 outputs side by side; blocks are weight_step bytes apart
//   starts   (blocks, taps, 16); blocks are start_step integers apart
//   out      those of pixel p start at out + p·out_step; 16·(blocks - 1) < outputs <= 16·blocks
// Contract: all sizes >= 1; weights, starts, weight_scales and bias are aligned to 64 bytes; words <= 2^14, so that no
// sum leaves 32 bits (sums of bytes may, and come back).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace onebit {

constexpr size_t kCodeLanes = 16;
constexpr int64_t kMaxCodes = 1 << 16;  // channels of a pixel

struct CodeMultiply {
  const uint8_t* codes;
  const float* scales;
  size_t pitch;
  const int32_t* places;  // (taps, places_step)
  size_t places_step;
  size_t taps, words, pixels;
  const int8_t* weights;
  size_t weight_step;
  const int32_t* starts;
  size_t start_step;
  const float *weight_scales, *bias;  // (16·blocks)
  size_t blocks, outputs;
  float* out;
  size_t out_step;  // floats from pixel to pixel
};

struct CodeKernel {
  const char* name;
  Isa isa;
  void (*run)(const CodeMultiply&);
};

#define ONEBIT_KERNEL(function, isa) void function(const CodeMultiply&);
#include "kernels/iconv/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const CodeKernel& select_codes(Isa isa);

}  // namespace onebit
