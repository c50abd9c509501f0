#include "kernels/qconv/qconv.h"

#include "base/fma.h"
#include "base/select.h"

namespace onebit {

void bytes_scalar(const ByteMultiply& m) {
  for (size_t p = 0; p < m.pixels; ++p) {
    for (size_t o = 0; o < m.outputs; ++o) {
      const size_t block = o / kByteLanes, lane = o % kByteLanes, taps = m.rows * m.words * 4;
      const int8_t* w = m.weights + block * m.channels * taps * kByteLanes + lane * 4;
      float y = m.base[m.classes[p] * m.blocks * kByteLanes + o];
      for (size_t c = 0; c < m.channels; ++c) {
        int32_t sum = 0;
        for (size_t r = 0; r < m.rows; ++r) {
          const uint8_t* from = m.bytes + c * m.channel_step + r * m.row_step + p * m.step;
          for (size_t k = 0; k < m.words; ++k, w += 4 * kByteLanes) {
            for (size_t b = 0; b < 4; ++b) sum += from[4 * k + b] * w[b];
          }
        }
        y = fma_once(m.scales[c * m.blocks * kByteLanes + o], static_cast<float>(sum), y);
      }
      m.out[p * m.out_step + o] = y;
    }
  }
}

void bytes_scalar_split(const ByteSplit& s) {
  for (size_t p = 0; p < s.pixels; ++p) {
    for (size_t c = 0; c < s.channels; ++c) s.to[c * s.step + p] = s.from[p * s.channels + c];
  }
}

const ByteKernel& select_bytes(Isa isa) {
  static const ByteKernel kTable[] = {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function, function##_split},
#include "kernels/qconv/kernels.inc"
#undef ONEBIT_KERNEL
  };
  return select_row(kTable, isa);
}

}  // namespace onebit
