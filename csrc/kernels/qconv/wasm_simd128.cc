#include <wasm_simd128.h>

#include <cstdint>

#include "base/bytes_simd128.inc"
#include "base/fma_simd128.inc"
#include "kernels/qconv/qconv.h"

#define ONEBIT_FUNCTION bytes_simd128
#define ONEBIT_SPLIT bytes_simd128_split
#define ONEBIT_PIXELS 2
#define ONEBIT_BLOCKS 1
#include "kernels/qconv/body.inc"
