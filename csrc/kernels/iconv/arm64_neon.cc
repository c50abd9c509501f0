#include "kernels/qconv/arm64_neon.inc"
#include "kernels/iconv/iconv.h"

#define ONEBIT_FUNCTION codes_neon
#define ONEBIT_PIXELS 4
#define ONEBIT_BLOCKS 1
#include "kernels/iconv/body.inc"
