#include <immintrin.h>

#include <cstdint>

#include "base/bytes_avx512vnni.inc"
#include "kernels/qconv/qconv.h"

#define ONEBIT_FUNCTION bytes_avx512vnni
#define ONEBIT_SPLIT bytes_avx512vnni_split
#define ONEBIT_PIXELS 4
#define ONEBIT_BLOCKS 2
#include "kernels/qconv/body.inc"
