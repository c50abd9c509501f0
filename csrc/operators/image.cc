#include "operators/image.h"

#include <cstring>

namespace onebit {

const float* load_image(const Images& images, int64_t sample, Shape shape, float* to) {
  const int64_t pixels = shape.h * shape.w, first = sample * shape.elements();
  if (images.channels_last) return images.channels_last + first;
  if (images.channels_first) {
    const float* from = images.channels_first + first;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      for (int64_t c = 0; c < shape.c; ++c) to[pixel * shape.c + c] = from[c * pixels + pixel];
    }
    return to;
  }
  const uint8_t* from = images.bytes + first;
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    for (int64_t c = 0; c < shape.c; ++c) {
      const int64_t at = pixel * shape.c + c;
      to[at] = (static_cast<float>(from[at]) / 255.0f - images.mean[c]) / images.std[c];
    }
  }
  return to;
}

bool all_finite(const float* x, int64_t n) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, sizeof(bits));
    found |= (bits & kExponent) == kExponent;
  }
  return found == 0;
}

}  // namespace onebit
