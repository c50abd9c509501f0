#include "kernels/bconv/bconv.h"

#include <algorithm>
#include <cstring>

#include "base/bits.h"
#include "base/select.h"

namespace onebit {

void count_scalar(const Count& c) {
  int32_t* counts = c.counts;
  for (size_t p = 0; p < c.pixels; ++p) {
    for (size_t block = 0; block < c.blocks; ++block, counts += kBinaryLanes) {
      const uint32_t* w = c.weights + block * c.words * kBinaryLanes;
      std::fill_n(counts, kBinaryLanes, 0);
      for (size_t k = 0; k < c.words; ++k) {
        uint32_t a;
        const uint32_t mask = c.masks ? c.masks[k] : ~uint32_t{0};
        std::memcpy(&a, c.bits + p * c.step + c.offsets[k], sizeof(a));
        for (size_t lane = 0; lane < kBinaryLanes; ++lane)
          counts[lane] += popcount((a ^ w[k * kBinaryLanes + lane]) & mask);
      }
    }
  }
}

const CountKernel& select_count(Isa isa) {
  static const CountKernel kTable[] = {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function},
#include "kernels/bconv/kernels.inc"
#undef ONEBIT_KERNEL
  };
  return select_row(kTable, isa);
}

}  // namespace onebit
