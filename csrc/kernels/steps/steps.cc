#include "kernels/steps/steps.h"

#define ONEBIT_TABLE steps_scalar
#define ONEBIT_NAME "steps_scalar"
#define ONEBIT_ISA scalar
#define ONEBIT_WIDTH 4
#include "kernels/steps/body.inc"

namespace onebit {

const StepKernels& select_steps(Isa isa) {
  static const StepKernels* const kTable[] = {
#define ONEBIT_KERNEL(table, isa) &table,
#include "kernels/steps/kernels.inc"
#undef ONEBIT_KERNEL
  };
  const StepKernels* const* row = kTable;
  while ((*row)->isa > isa) ++row;
  return **row;
}

}  // namespace onebit
