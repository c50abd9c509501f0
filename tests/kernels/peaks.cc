// How fast the kernels of each level are on this processor, or in this emulator: billions of multiply-accumulates a
// second on one thread.
#include <cstdio>

#include "base/cpu.h"
#include "graph/peak.h"

int main() {
  using namespace onebit;
  for (int level = 0; level <= static_cast<int>(best_isa()); ++level) {
    const Isa isa = static_cast<Isa>(level);
    std::printf("%-12s binary %7.1f  bytes %7.1f  float %7.1f\n", isa_name(isa), binary_peak(isa) / 1e9,
                byte_peak(isa) / 1e9, float_peak(isa) / 1e9);
  }
}
