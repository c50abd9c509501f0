#include "kernels/qconv/x86_avx512vnni.inc"
#include "kernels/iconv/iconv.h"

#define ONEBIT_FUNCTION codes_avx512vnni
#define ONEBIT_PIXELS 16
#define ONEBIT_BLOCKS 4
#include "kernels/iconv/body.inc"
