#include "kernels/codes/codes.h"

#define ONEBIT_FUNCTION quantize_simd128
#include "kernels/codes/body.inc"
