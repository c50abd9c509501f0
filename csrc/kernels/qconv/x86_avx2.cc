#include "kernels/qconv/x86_avx2.inc"
#include "kernels/qconv/qconv.h"

#define ONEBIT_FUNCTION bytes_avx2
#define ONEBIT_PIXELS 4
#define ONEBIT_BLOCKS 1
#include "kernels/qconv/body.inc"
