// The most that the kernels of an instruction set reach here: the same kernels on operands that stay in the L1 cache.
#pragma once

#include "base/cpu.h"

namespace onebit {

double binary_peak(Isa isa);  // binary multiply-accumulates a second, on the calling thread
double float_peak(Isa isa);   // float multiply-accumulates a second
double byte_peak(Isa isa);    // multiply-accumulates of bytes a second

}  // namespace onebit
