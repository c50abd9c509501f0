// The heart of a binary convolution: how many signs differ between each window and each output's weights.
//
//   counts[p][o] = Σ_k popcount((word k of window p xor weights[o][k]) and masks[k])
//
// Words have 32 bits: they waste less of a short window than 64 (3×3 taps of 16 channels are 144 bits), and a count in
// each 32-bit lane is stored as it is. Word k of window p lies at bits + p·step + offsets[k], in bytes, unaligned: a
// kernel reads the windows in a packed image as well as gathered ones. There, a row of taps may end within a word:
// masks leave out what follows it; where a mask is 0, the weights are, too.
//
//   weights  (blocks, words, 16): 16 outputs side by side, so that one register holds the same word of 16 outputs
//   counts   (pixels, 16·blocks)
// Contract: all sizes >= 1; weights and counts are aligned to 64 bytes; words <= 2^19 (MAX_PRODUCTS of the format /
// 32).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace onebit {

constexpr size_t kBinaryLanes = 16;

struct Count {
  const char* bits;
  size_t step;
  const size_t* offsets;  // (words)
  const uint32_t* masks;  // (words), or null: all bits
  size_t words, pixels;
  const uint32_t* weights;
  size_t blocks;
  int32_t* counts;
};

struct CountKernel {
  const char* name;
  Isa isa;
  void (*run)(const Count&);
};

#define ONEBIT_KERNEL(function, isa) void function(const Count&);
#include "kernels/bconv/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const CountKernel& select_count(Isa isa);

}  // namespace onebit
