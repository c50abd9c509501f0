#include "kernels/steps/steps.h"

#define ONEBIT_TABLE steps_avx2
#define ONEBIT_NAME "steps_avx2"
#define ONEBIT_ISA avx2
#define ONEBIT_WIDTH 8
#include "kernels/steps/body.inc"
