// The counts of bconv.h as products of bytes, for CPUs that multiply matrices of bytes: 1024 products a cycle against
// 341 by xor, popcount and addition. A bit of a window is expanded to the byte 0 or 1, a bit of a weight to the byte +1
// or -1, and both layouts are chosen so that either takes one instruction for 64 bits:
//
//   popcount(a xor w) = Σ a + w - 2·a·w = popcount(w) + Σ a·(1 - 2·w)
//
// A run is 64 bytes of a window: 64 channels of a tap. Run k of window p lies at
// bytes + starts[p / M] + (p mod M)·step + offsets[k]: M windows, a tile, lie at equal distances.
//
//   weights  (blocks, runs, 16): the 64-bit word r has the bits 4·r .. 4·r + 3 of the run for each of 16 outputs, those
//            of one output side by side. Weights stay bits in memory: they are expanded for some tiles at a time
//   ones     (blocks, 16): 1 bits of each output's weights
//   counts   (tiles·M, 16·blocks)
// Contract: all sizes >= 1; M <= 16; weights, ones and counts are aligned to 64 bytes; panel has kPanelBytes, aligned
// to 64 bytes; runs <= 2^18.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace onebit {

constexpr size_t kProductLanes = 16, kProductRun = 64, kPanelRuns = 16, kPanelBytes = 2 * kPanelRuns * 1024;

struct Product {
  const uint8_t* bytes;
  const size_t* starts;  // (tiles), bytes
  size_t tiles, tile, step;
  const size_t* offsets;  // (runs), bytes
  size_t runs;
  const uint64_t* weights;
  const int32_t* ones;
  size_t blocks;
  int8_t* panel;
  int32_t* counts;
};

struct ProductKernel {
  const char* name;
  Isa isa;
  void (*run)(const Product&);
  // Bit i of n words to byte i; bytes are aligned to 64 bytes.
  void (*expand)(const uint64_t* words, size_t n, uint8_t* bytes);
};

#define ONEBIT_KERNEL(function, isa) \
  void function(const Product&);     \
  void function##_expand(const uint64_t*, size_t, uint8_t*);
#include "kernels/bproduct/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows. The scalar one is the oracle and slower than counting: null without
// another one, unless `oracle` asks for it.
const ProductKernel* select_product(Isa isa, bool oracle = false);

}  // namespace onebit
