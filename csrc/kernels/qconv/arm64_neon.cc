#include <arm_neon.h>

#include <cstdint>

#include "base/bytes_neon.inc"
#include "kernels/qconv/qconv.h"

#define ONEBIT_FUNCTION bytes_neon
#define ONEBIT_SPLIT bytes_neon_split
#define ONEBIT_PIXELS 4
#define ONEBIT_BLOCKS 1
#include "kernels/qconv/body.inc"
