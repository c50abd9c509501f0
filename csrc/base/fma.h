// a·b + c, rounded once.
#pragma once

#if defined(ONEBIT_WASM)
#include <cstdint>
#include <cstring>
#else
#include <cmath>
#endif

namespace onebit {

#if defined(ONEBIT_WASM)
// WebAssembly has no such instruction, and its C library rounds twice where the result is subnormal. A product of two
// floats is exact as a double (48 bits). The sum is then rounded to odd: cut off, and if anything was cut off, made
// odd. An odd double is no float and lies on no middle between two, and it keeps its side of all of them: rounded to
// float it gives what the exact sum gives (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
inline float fma_once(float a, float b, float c) {
  const double product = static_cast<double>(a) * b, addend = c, sum = product + addend;
  const double part = sum - product, error = (product - (sum - part)) + (addend - part);  // sum + error is exact
  if (!(error < 0 || error > 0)) return static_cast<float>(sum);
  uint64_t bits;
  std::memcpy(&bits, &sum, sizeof(bits));
  if ((error < 0) != (sum < 0)) --bits;  // it was rounded away from 0
  bits |= 1;
  double odd;
  std::memcpy(&odd, &bits, sizeof(odd));
  return static_cast<float>(odd);
}
#else
inline float fma_once(float a, float b, float c) { return std::fma(a, b, c); }
#endif

}  // namespace onebit
