#include "kernels/pack/pack.h"

#include "base/bits.h"
#include "base/select.h"

#define popcount64(x) popcount(static_cast<uint64_t>(x))
#define ONEBIT_FUNCTION pack_scalar_ones
#include "kernels/pack/ones.inc"

namespace onebit {

void pack_scalar(const float* x, const float* threshold, size_t step, size_t n, uint64_t* words) {
  for (size_t begin = 0; begin < n; begin += 64) {
    uint64_t word = 0;
    for (size_t i = begin; i < n && i < begin + 64; ++i) {
      word |= static_cast<uint64_t>(!(x[i] >= threshold[i * step])) << (i - begin);
    }
    *words++ = word;
  }
}

const PackKernel& select_pack(Isa isa) {
  static const PackKernel kTable[] = {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function, function##_ones},
#include "kernels/pack/kernels.inc"
#undef ONEBIT_KERNEL
  };
  return select_row(kTable, isa);
}

}  // namespace onebit
