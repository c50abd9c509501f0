// Floats to sign bits: bit i = 0 if x[i] >= threshold[i·step], else 1. And the number of 1 bits of each pixel:
//   counts[p] = popcount(bits p·channels .. (p + 1)·channels), as a float: they are summed with floats
//
// Contract: n, pixels, channels >= 1; `words` has room for ceil(n / 64) words, all of which are written, tail bits 0;
// no alignment is needed; step is 0 (one threshold for all) or 1 (one per element).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace onebit {

struct PackKernel {
  const char* name;
  Isa isa;
  void (*run)(const float* x, const float* threshold, size_t step, size_t n, uint64_t* words);
  void (*ones)(const uint64_t* words, size_t pixels, size_t channels, float* counts);
};

#define ONEBIT_KERNEL(function, isa)                                    \
  void function(const float*, const float*, size_t, size_t, uint64_t*); \
  void function##_ones(const uint64_t*, size_t, size_t, float*);
#include "kernels/pack/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const PackKernel& select_pack(Isa isa);

}  // namespace onebit
