#include "kernels/codes/codes.h"

#define ONEBIT_FUNCTION quantize_avx512
#include "kernels/codes/body.inc"
