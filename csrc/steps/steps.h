// Elementwise operators on a run of pixels: the steps fused behind a convolution or run on their own.
//
//   x       (pixels, channels) floats
//   params  what the operator's tensor holds: (rows, channels) floats; for `add` the other operand, shaped as x
//   out     (pixels, channels) floats; may be x or, for `add`, params
//
// `dequantize`, which turns the counts of a binary convolution into floats, and what pools and means are made of.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace onebit {

enum class Step { affine, add, hardtanh, relu, prelu, rprelu, maxout };
constexpr size_t kSteps = 7;

// Counts to outputs, for pixels of one border class (derived in bconv/layer.h):
//   y[o] = (scale[o]·(float(base[o] - 2·count[o]) + shifted[o]) + offset[o]·window) + bias[o]
// `shifted` and `offset` may be null: then their terms are left out.
struct Dequantize {
  const int32_t* counts;  // (pixels, count_stride)
  size_t count_stride;
  size_t pixels, outputs;
  const int32_t* base;   // (outputs)
  const float* shifted;  // (outputs) or null
  const float* scale;    // (outputs)
  const float* bias;     // (outputs)
  const float* offset;   // (outputs) or null
  const float* window;   // (pixels), read only with offset
  float* out;            // (pixels, out_stride)
  size_t out_stride;
};

struct StepKernels {
  const char* name;
  Isa isa;
  // By Step.
  void (*run[kSteps])(const float* x, const float* params, float* out, size_t pixels, size_t channels);
  void (*dequantize)(const Dequantize&);
  void (*maximum)(float* x, const float* other, size_t n);  // x[i] = other[i] > x[i] ? other[i] : x[i]
  // sums[c] += x[p][c], over the pixels in order
  void (*channel_sums)(const float* x, double* sums, size_t pixels, size_t channels);
};

#define ONEBIT_KERNEL(table, isa) extern const StepKernels table;
#include "steps/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const StepKernels& select_steps(Isa isa);

}  // namespace onebit
