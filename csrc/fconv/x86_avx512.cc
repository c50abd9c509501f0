#include "fconv/fconv.h"

#define ONEBIT_FUNCTION multiply_avx512
#define ONEBIT_WIDTH 16
#include "fconv/body.inc"
