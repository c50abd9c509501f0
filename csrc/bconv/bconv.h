// The heart of a binary convolution: how many signs differ between each window and each output's weights.
//
//   counts[p][o] = Σ_k popcount(windows[p][k] xor weights[o][k])
//
//   windows  (pixels, ceil(words / 2)) of 64 bits, read as 32-bit words; `words` counts those
//   weights  (blocks, words, 16): 16 outputs side by side, so that one register holds the same word of 16 outputs
//   counts   (pixels, 16·blocks)
//
// Words of 32 bits waste less of a short window than 64 (3×3 taps of 16 channels are 144 bits) and a count in each
// 32-bit lane is stored as it is.
// Contract: all sizes >= 1; weights and counts are aligned to 64 bytes; words <= 2^19 (MAX_PRODUCTS of the format /
// 32).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace onebit {

constexpr size_t kBinaryLanes = 16;

struct CountKernel {
  const char* name;
  Isa isa;
  void (*run)(const uint64_t* windows, size_t pixels, size_t words, const uint32_t* weights, size_t blocks,
              int32_t* counts);
};

#define ONEBIT_KERNEL(function, isa) void function(const uint64_t*, size_t, size_t, const uint32_t*, size_t, int32_t*);
#include "bconv/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const CountKernel& select_count(Isa isa);

}  // namespace onebit
