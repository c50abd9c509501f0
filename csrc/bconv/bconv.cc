#include "bconv/bconv.h"

#include "base/bits.h"

namespace onebit {

void count_scalar(const uint64_t* windows, size_t pixels, size_t words, const uint64_t* weights, size_t blocks,
                  int32_t* counts) {
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t block = 0; block < blocks; ++block) {
      const uint64_t* w = weights + block * words * kBinaryLanes;
      for (size_t lane = 0; lane < kBinaryLanes; ++lane) {
        int32_t count = 0;
        for (size_t k = 0; k < words; ++k) count += popcount(windows[p * words + k] ^ w[k * kBinaryLanes + lane]);
        *counts++ = count;
      }
    }
  }
}

const CountKernel& select_count(Isa isa) {
  static const CountKernel kTable[] = {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function},
#include "bconv/kernels.inc"
#undef ONEBIT_KERNEL
  };
  const CountKernel* row = kTable;
  while (row->isa > isa) ++row;
  return *row;
}

}  // namespace onebit
