#include "kernels/dwconv/dwconv.h"

#include "base/fma.h"
#include "base/select.h"

namespace onebit {

void depthwise_scalar(const Depthwise& d) {
  for (size_t r = 0; r < d.run_count; ++r) {
    const DepthwiseRun& run = d.runs[r];
    for (size_t p = 0; p < run.pixels; ++p) {
      for (size_t c = 0; c < d.channels; ++c) {
        float sum = d.bias[c];
        for (size_t k = 0; k < d.count; ++k) {
          sum = fma_once(run.taps[k].x[p * run.taps[k].step + c], d.weights[k * d.channels + c], sum);
        }
        run.out[p * d.out_step + c] = sum;
      }
    }
  }
}

const DepthwiseKernel& select_depthwise(Isa isa) {
  static const DepthwiseKernel kTable[] = {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function},
#include "kernels/dwconv/kernels.inc"
#undef ONEBIT_KERNEL
  };
  return select_row(kTable, isa);
}

}  // namespace onebit
