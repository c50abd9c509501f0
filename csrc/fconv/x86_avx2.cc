#include "fconv/fconv.h"

#define ONEBIT_FUNCTION multiply_avx2
#define ONEBIT_WIDTH 8
#include "fconv/body.inc"
