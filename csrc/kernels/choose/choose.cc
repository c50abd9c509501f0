#include "kernels/choose/choose.h"

#include "base/select.h"

#define ONEBIT_FUNCTION(what) choose_scalar_##what
#include "kernels/choose/body.inc"

namespace onebit {

const ChooseKernel& select_choose(Isa isa) {
  static const ChooseKernel kTable[] = {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function##_below, function##_sum},
#include "kernels/choose/kernels.inc"
#undef ONEBIT_KERNEL
  };
  return select_row(kTable, isa);
}

}  // namespace onebit
