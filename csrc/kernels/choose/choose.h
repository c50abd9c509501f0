// What binary attention chooses among keys by how many signs differ (convolutions/binary_attention.h):
//
//   below  bit u of `bits` = counts[u] < limit; bits past n in the last of ceil(n / 32) words are 0
//   sum    least = the least of counts[0 .. n); Σ_u table[counts[u] - least], in any order
//
// Contract: n >= 1; 0 <= counts < 2^30; counts are aligned to 64 bytes, and there is room for whole registers of 16 of
// them; `table` has `entries` floats, and zeros to a multiple of 32 of them: what is beyond counts as 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace onebit {

constexpr size_t kTableStep = 32;

struct Weighed {
  int32_t least;
  float sum;
};

struct ChooseKernel {
  const char* name;
  Isa isa;
  void (*below)(const int32_t* counts, size_t n, int32_t limit, uint32_t* bits);
  Weighed (*sum)(const int32_t* counts, size_t n, const float* table, size_t entries);
};

#define ONEBIT_KERNEL(function, isa)                                 \
  void function##_below(const int32_t*, size_t, int32_t, uint32_t*); \
  Weighed function##_sum(const int32_t*, size_t, const float*, size_t);
#include "kernels/choose/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const ChooseKernel& select_choose(Isa isa);

}  // namespace onebit
