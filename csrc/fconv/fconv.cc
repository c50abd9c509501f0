#include "fconv/fconv.h"

#define ONEBIT_FUNCTION multiply_scalar
#define ONEBIT_WIDTH 4
#include "fconv/body.inc"

namespace onebit {

const MultiplyKernel& select_multiply(Isa isa) {
  static const MultiplyKernel kTable[] = {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function},
#include "fconv/kernels.inc"
#undef ONEBIT_KERNEL
  };
  const MultiplyKernel* row = kTable;
  while (row->isa > isa) ++row;
  return *row;
}

}  // namespace onebit
