// The heart of a binary convolution: how many signs differ between each window and each output's weights.
//
//   counts[p][o] = Σ_k popcount(windows[p][k] xor weights[o][k])
//
//   windows  (pixels, words)                        64-bit words
//   weights  (blocks, words, 8): 8 outputs side by side, so that one register holds the same word of 8 outputs
//   counts   (pixels, 8·blocks)                     int32
//
// Contract: all sizes >= 1; weights are aligned to 64 bytes; words <= 2^18 (MAX_PRODUCTS of the format / 64).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace onebit {

constexpr size_t kBinaryLanes = 8;

struct CountKernel {
  const char* name;
  Isa isa;
  void (*run)(const uint64_t* windows, size_t pixels, size_t words, const uint64_t* weights, size_t blocks,
              int32_t* counts);
};

#define ONEBIT_KERNEL(function, isa) void function(const uint64_t*, size_t, size_t, const uint64_t*, size_t, int32_t*);
#include "bconv/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const CountKernel& select_count(Isa isa);

}  // namespace onebit
