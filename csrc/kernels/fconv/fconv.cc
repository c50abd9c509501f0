#include "kernels/fconv/fconv.h"

#include "base/fma.h"
#include "base/select.h"

namespace onebit {
namespace {

using Vector = float;
constexpr int kWidth = 1;

inline Vector broadcast(float x) { return x; }
inline Vector fma(Vector a, Vector b, Vector c) { return fma_once(a, b, c); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION multiply_scalar
#define ONEBIT_PIXELS 1
#define ONEBIT_BLOCKS 1
#include "kernels/fconv/body.inc"

namespace onebit {

const MultiplyKernel& select_multiply(Isa isa) {
  static const MultiplyKernel kTable[] = {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function},
#include "kernels/fconv/kernels.inc"
#undef ONEBIT_KERNEL
  };
  return select_row(kTable, isa);
}

}  // namespace onebit
