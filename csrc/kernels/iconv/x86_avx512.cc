#include "kernels/qconv/x86_avx512.inc"
#include "kernels/iconv/iconv.h"

#define ONEBIT_FUNCTION codes_avx512
#define ONEBIT_PIXELS 16
#define ONEBIT_BLOCKS 4
#include "kernels/iconv/body.inc"
