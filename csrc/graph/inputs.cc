#include "graph/inputs.h"

#include "base/finite.h"
#include "base/require.h"
#include "graph/node.h"

namespace onebit {
void check_shape(const Input& input, const Shape& shape) {
  require(shape.c == input.shape.c && shape.vector == input.shape.vector, "an input has the wrong number of channels");
  require(shape.h >= 1 && shape.w >= 1 && shape.h <= kMaxSize && shape.w <= kMaxSize, "a size is out of range");
  require(shape.h * shape.w <= kMaxElements / shape.c, "an input is too large");
  require(input.type != InputType::tokens || shape.w == 1, "tokens have one axis");
  require(!input.fixed || (shape.h == input.shape.h && shape.w == input.shape.w), "the network takes this size alone");
}

void check_values(const Input& input, const Values& values) {
  check_shape(input, values.shape);
  const bool tokens = input.type == InputType::tokens, image = input.type == InputType::image;
  require((values.tokens != nullptr) == tokens, "tokens are integers, other inputs are none");
  require(!values.bytes || image, "bytes are for images");
}

const float* load_sample(const Input& input, const Values& values, int64_t sample, float* to, bool& fits) {
  const Shape shape = values.shape;
  const int64_t pixels = shape.h * shape.w, size = shape.elements(), first = sample * size;
  if (values.tokens) {
    for (int64_t t = 0; t < size; ++t) {
      const int32_t token = values.tokens[first + t];
      const bool inside = token >= 0 && token < input.given.count;
      fits = fits && inside;
      to[t] = static_cast<float>(inside ? token : 0);  // exact below 2^24
    }
    return to;
  }
  if (values.bytes) {
    const uint8_t* from = values.bytes + first;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      for (int64_t c = 0; c < shape.c; ++c) {
        const int64_t at = pixel * shape.c + c;
        to[at] = (static_cast<float>(from[at]) / 255.0f - input.given.mean[c]) / input.given.std[c];
      }
    }
    return to;
  }
  const float* x = values.channels_last ? values.channels_last + first : to;
  if (values.channels_first) {
    const float* from = values.channels_first + first;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      for (int64_t c = 0; c < shape.c; ++c) to[pixel * shape.c + c] = from[c * pixels + pixel];
    }
  }
  fits = fits && all_finite(x, size);
  return x;
}

}  // namespace onebit
