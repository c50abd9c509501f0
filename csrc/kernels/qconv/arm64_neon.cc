#include "kernels/qconv/arm64_neon.inc"
#include "kernels/qconv/qconv.h"

#define ONEBIT_FUNCTION bytes_neon
#define ONEBIT_PIXELS 4
#define ONEBIT_BLOCKS 1
#include "kernels/qconv/body.inc"
