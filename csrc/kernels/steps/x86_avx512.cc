#include <immintrin.h>

#include "kernels/steps/steps.h"

#define ONEBIT_TABLE steps_avx512
#define ONEBIT_NAME "steps_avx512"
#define ONEBIT_ISA avx512
#define ONEBIT_WIDTH 16
#include "kernels/steps/body.inc"
