#include "kernels/qconv/x86_avx512.inc"
#include "kernels/qconv/qconv.h"

#define ONEBIT_FUNCTION bytes_avx512
#define ONEBIT_PIXELS 6
#define ONEBIT_BLOCKS 2
#include "kernels/qconv/body.inc"
