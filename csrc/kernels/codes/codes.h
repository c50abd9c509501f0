// Pixels in 8 bits, each by its own largest magnitude, of float32 with one rounding per operation:
//
//   m = max(max_c |x[c]|, 2^-100),  scale = m / 127,  q[c] = x[c]·(127 / m) rounded to an integer, of two the even one
//
// |q| <= 127: the product is at most 127·(1 + 2^-22). Codes are bytes q + 128; those from `channels` to `pitch` are
// 128.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace onebit {

struct QuantizeKernel {
  const char* name;
  Isa isa;
  // x (pixels, channels) -> codes (pixels, pitch), scales (pixels)
  void (*run)(const float* x, size_t pixels, size_t channels, size_t pitch, uint8_t* codes, float* scales);
};

#define ONEBIT_KERNEL(function, isa) void function(const float*, size_t, size_t, size_t, uint8_t*, float*);
#include "kernels/codes/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const QuantizeKernel& select_quantize(Isa isa);

}  // namespace onebit
