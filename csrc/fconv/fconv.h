// The heart of a float convolution, one rounding per multiplication and per addition and a fixed order of the
// additions, so that every instruction set gives the same bits as the reference (no FMA: it rounds once):
//
//   out[p][o] = (((0 + x[p][0]·w[o][0]) + x[p][1]·w[o][1]) + ...)
//
//   windows  pixel p starts at windows + p·window_stride and has `depth` floats
//   weights  (blocks, depth, 16): 16 outputs side by side, aligned to 64 bytes
//   out      (pixels, 16·blocks), aligned to 64 bytes
#pragma once

#include <cstddef>

#include "base/cpu.h"

namespace onebit {

constexpr size_t kFloatLanes = 16;

struct MultiplyKernel {
  const char* name;
  Isa isa;
  void (*run)(const float* windows, size_t window_stride, size_t pixels, size_t depth, const float* weights,
              size_t blocks, float* out);
};

#define ONEBIT_KERNEL(function, isa) void function(const float*, size_t, size_t, size_t, const float*, size_t, float*);
#include "fconv/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const MultiplyKernel& select_multiply(Isa isa);

}  // namespace onebit
