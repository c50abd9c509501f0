#include "kernels/bproduct/bproduct.h"

#include "base/select.h"

namespace onebit {

void product_scalar(const Product& p) {
  int32_t* counts = p.counts;
  for (size_t window = 0; window < p.tiles * p.tile; ++window) {
    const uint8_t* bytes = p.bytes + p.starts[window / p.tile] + window % p.tile * p.step;
    for (size_t o = 0; o < p.blocks * kProductLanes; ++o) {
      const size_t block = o / kProductLanes, lane = o % kProductLanes;
      const uint64_t* weights = p.weights + block * p.runs * kProductLanes;
      int32_t count = p.ones[o];
      for (size_t k = 0; k < p.runs; ++k) {
        for (size_t i = 0; i < kProductRun; ++i) {
          const int bit = weights[k * kProductLanes + i / 4] >> (4 * lane + i % 4) & 1;
          count += bytes[p.offsets[k] + i] * (1 - 2 * bit);
        }
      }
      *counts++ = count;
    }
  }
}

void product_scalar_expand(const uint64_t* words, size_t n, uint8_t* bytes) {
  for (size_t i = 0; i < 64 * n; ++i) bytes[i] = words[i / 64] >> (i % 64) & 1;
}

const ProductKernel* select_product(Isa isa, bool oracle) {
  static const ProductKernel kTable[] = {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function, function##_expand},
#include "kernels/bproduct/kernels.inc"
#undef ONEBIT_KERNEL
  };
  const ProductKernel& kernel = select_row(kTable, isa);
  return kernel.isa != Isa::scalar || oracle ? &kernel : nullptr;
}

}  // namespace onebit
