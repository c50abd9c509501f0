#include "kernels/qconv/wasm_simd128.inc"
#include "kernels/iconv/iconv.h"

#define ONEBIT_FUNCTION codes_simd128
#define ONEBIT_PIXELS 2
#define ONEBIT_BLOCKS 1
#include "kernels/iconv/body.inc"
