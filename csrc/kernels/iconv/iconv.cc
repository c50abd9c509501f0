#include "kernels/iconv/iconv.h"

#include "base/fma.h"
#include "base/select.h"

namespace onebit {

void codes_scalar(const CodeMultiply& m) {
  for (size_t p = 0; p < m.pixels; ++p) {
    for (size_t o = 0; o < m.outputs; ++o) {
      const size_t block = o / kCodeLanes, lane = o % kCodeLanes;
      const int8_t* w = m.weights + block * m.weight_step + lane * 4;
      float acc = 0;
      for (size_t t = 0; t < m.taps; ++t) {
        const size_t place = static_cast<size_t>(m.places[t * m.places_step + p]);
        const uint8_t* from = m.codes + place * m.pitch;
        int32_t sum = 0;
        for (size_t k = 0; k < m.words; ++k, w += 4 * kCodeLanes) {
          for (size_t b = 0; b < 4; ++b) sum += (from[4 * k + b] - 128) * w[b];
        }
        acc = fma_once(m.scales[place], static_cast<float>(sum), acc);
      }
      m.out[p * m.out_step + o] = fma_once(m.weight_scales[o], acc, m.bias[o]);
    }
  }
}

const CodeKernel& select_codes(Isa isa) {
  static const CodeKernel kTable[] = {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function},
#include "kernels/iconv/kernels.inc"
#undef ONEBIT_KERNEL
  };
  return select_row(kTable, isa);
}

}  // namespace onebit
