// Elementwise operators on a run of pixels, in place: the steps fused behind a convolution or run on their own.
//
//   x       (pixels, channels) floats
//   params  what the operator's tensor holds: (rows, channels) floats; for `add` the other operand, shaped as x
//
// and `dequantize`, which turns the counts of a binary convolution into floats.
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
  void (*run[kSteps])(float* x, const float* params, size_t pixels, size_t channels);  // by Step
  void (*dequantize)(const Dequantize&);
};

#define ONEBIT_KERNEL(table, isa) extern const StepKernels table;
#include "steps/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const StepKernels& select_steps(Isa isa);

}  // namespace onebit
