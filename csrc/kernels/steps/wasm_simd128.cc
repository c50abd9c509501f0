#include "kernels/steps/steps.h"

#define ONEBIT_TABLE steps_simd128
#define ONEBIT_NAME "steps_simd128"
#define ONEBIT_ISA simd128
#define ONEBIT_WIDTH 4
#include "kernels/steps/body.inc"
