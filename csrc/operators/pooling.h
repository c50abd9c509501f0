// Poolings: the maximum or the mean of a window, the mean of a map.
#pragma once

#include "base/window.h"
#include "kernels/steps/steps.h"

namespace onebit {

struct Pooling {
  Window window;
  bool ceil_mode = false, count_include_pad = true;  // as PyTorch; the latter for means only
};

// Throws std::invalid_argument if the image is too small.
Shape pool_shape(const Pooling& pooling, Shape in);

// Output row y: maxima or means of windows.
void pool_row(const Pooling& pooling, bool max, const StepKernels& steps, Shape in, Shape out, const Map& x, int64_t y,
              float* to);

// The mean of each channel over all pixels of x (H, W, C).
void global_average(const StepKernels& steps, Shape in, const float* x, float* to);

}  // namespace onebit
