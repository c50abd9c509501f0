#include "steps/steps.h"

#define ONEBIT_TABLE steps_neon
#define ONEBIT_NAME "steps_neon"
#define ONEBIT_ISA neon
#define ONEBIT_WIDTH 4
#include "steps/body.inc"
