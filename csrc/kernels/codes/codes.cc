#include "kernels/codes/codes.h"

#include "base/select.h"

#define ONEBIT_FUNCTION quantize_scalar
#include "kernels/codes/body.inc"

namespace onebit {

const QuantizeKernel& select_quantize(Isa isa) {
  static const QuantizeKernel kTable[] = {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function},
#include "kernels/codes/kernels.inc"
#undef ONEBIT_KERNEL
  };
  return select_row(kTable, isa);
}

}  // namespace onebit
