// Images as callers hold them, made into what the first layer reads: floats (H, W, C).
#pragma once

#include <cstdint>

#include "base/window.h"

namespace onebit {

struct Images {
  const float* channels_first = nullptr;  // (B, C, H, W), normalised
  const float* channels_last = nullptr;   // (B, H, W, C), normalised
  const uint8_t* bytes = nullptr;         // (B, H, W, C); x = (byte / 255 - mean[c]) / std[c]
  const float* mean = nullptr;
  const float* std = nullptr;
};

// Sample number `sample` as (H, W, C): where it lies, or written to `to` (H·W·C floats).
const float* load_image(const Images& images, int64_t sample, Shape shape, float* to);

// Whether no value is NaN or infinite.
bool all_finite(const float* x, int64_t n);

}  // namespace onebit
