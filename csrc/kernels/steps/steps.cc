#include "kernels/steps/steps.h"

#include "base/select.h"

#define ONEBIT_TABLE steps_scalar
#define ONEBIT_NAME "steps_scalar"
#define ONEBIT_ISA scalar
#if defined(ONEBIT_WASM)
#define ONEBIT_WIDTH 2  // there more floats are more code, and no less time
#else
#define ONEBIT_WIDTH 4
#endif
#include "kernels/steps/body.inc"

namespace onebit {

const StepKernels& select_steps(Isa isa) {
  static const StepKernels kTable[] = {
#define ONEBIT_KERNEL(table, isa) table,
#include "kernels/steps/kernels.inc"
#undef ONEBIT_KERNEL
  };
  return select_row(kTable, isa);
}

}  // namespace onebit
