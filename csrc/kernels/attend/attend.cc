#include "kernels/attend/attend.h"

#include <vector>

#include "base/bits.h"
#include "base/select.h"

namespace onebit {
namespace {

constexpr size_t kLanes = 16;

int differ(const uint32_t* words, const uint32_t* blocks, size_t count, size_t o) {
  int n = 0;
  for (size_t k = 0; k < count; ++k) n += popcount(words[k] ^ blocks[(o / kLanes * count + k) * kLanes + o % kLanes]);
  return n;
}

}  // namespace

void attend_scalar(const Attend& a) {
  const size_t words = (a.keys_count + 31) / 32;
  std::vector<float> weights(a.keys_count);
  for (size_t t = 0; t < a.count; ++t) {
    float sum = 0;
    for (size_t u = 0; u < a.keys_count; ++u) {
      weights[u] = a.table[differ(a.queries + t * a.step, a.keys, a.words, u)];
      sum += weights[u];
    }
    const float bound = a.level * sum, low = bound * (1 - a.slack), high = bound * (1 + a.slack);
    a.unsure[t] = 0;
    for (size_t j = 0; j < kTableRoom; ++j) a.unsure[t] |= a.table[j] >= low && a.table[j] < high;
    std::vector<uint32_t> chosen(words);
    for (size_t u = 0; u < a.keys_count; ++u) chosen[u / 32] |= static_cast<uint32_t>(weights[u] >= high) << u % 32;
    for (size_t c = 0; c < a.outputs; ++c) {
      a.out[t * a.out_step + c] = a.factor * static_cast<float>(differ(chosen.data(), a.values, words, c) - a.ones[c]);
    }
  }
}

const AttendKernel* select_attend(Isa isa, bool oracle) {
  static const AttendKernel kTable[] = {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function},
#include "kernels/attend/kernels.inc"
#undef ONEBIT_KERNEL
  };
  const AttendKernel& kernel = select_row(kTable, isa);
  return kernel.isa != Isa::scalar || oracle ? &kernel : nullptr;
}

}  // namespace onebit
