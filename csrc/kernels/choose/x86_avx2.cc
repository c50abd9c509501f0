#include "kernels/choose/choose.h"

#define ONEBIT_FUNCTION(what) choose_avx2_##what
#include "kernels/choose/body.inc"
