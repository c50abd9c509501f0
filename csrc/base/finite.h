// Whether numbers are numbers.
#pragma once

#include <cstdint>
#include <cstring>

namespace onebit {

// Whether none of n floats is NaN or infinite.
inline bool all_finite(const float* x, int64_t n) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, sizeof(bits));
    found |= (bits & kExponent) == kExponent;
  }
  return found == 0;
}

}  // namespace onebit
