#include "bconv/bconv.h"

#include <algorithm>

#include "base/bits.h"

namespace onebit {

void count_scalar(const uint64_t* windows, size_t pixels, size_t words, const uint32_t* weights, size_t blocks,
                  int32_t* counts) {
  const size_t stride = (words + 1) / 2;
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t block = 0; block < blocks; ++block, counts += kBinaryLanes) {
      const uint32_t* w = weights + block * words * kBinaryLanes;
      std::fill_n(counts, kBinaryLanes, 0);
      for (size_t k = 0; k < words; ++k) {
        const uint32_t a = static_cast<uint32_t>(windows[p * stride + k / 2] >> (k % 2 * 32));
        for (size_t lane = 0; lane < kBinaryLanes; ++lane) counts[lane] += popcount(a ^ w[k * kBinaryLanes + lane]);
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
