#include "kernels/codes/codes.h"

#define ONEBIT_FUNCTION quantize_avx2
#include "kernels/codes/body.inc"
