// The same instructions as the scalar table, whose vectors of 4 are NEON's. More than one register at a time would help
// in-order cores, but GCC 12 takes wider vectors through memory.
#include "kernels/steps/steps.h"

#define ONEBIT_TABLE steps_neon
#define ONEBIT_NAME "steps_neon"
#define ONEBIT_ISA neon
#define ONEBIT_WIDTH 4
#include "kernels/steps/body.inc"
