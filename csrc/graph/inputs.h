// The inputs of a network, and what callers give for them: made into floats (H, W, C), or taken as bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/window.h"
#include "operators/source.h"

namespace onebit {

enum class InputType { image, tokens, floats };

struct Input {
  std::string name;
  InputType type = InputType::image;
  Shape shape;                    // by default: of tokens (T, 1, 1)
  std::vector<double> mean, std;  // of an image, as the file says them
  bool fixed = false;             // whether it has no other size
  int64_t resize = 0;             // of an image: pixels of the shorter side before the centre crop, or 0
  std::string holds;              // of tokens: "pieces", "types" or "mask" of texts, or nothing
  bool lowercase = true;          // of pieces: whether texts are put in small letters first
  std::string vocabulary;         // of pieces: each followed by a line feed
  Given given;                    // what operators see of it
};

// A batch of values for one input, in one of these forms.
struct Values {
  const float* channels_first = nullptr;  // (B, C, H, W); images are normalised
  const float* channels_last = nullptr;   // (B, H, W, C); images are normalised
  const uint8_t* bytes = nullptr;         // (B, H, W, C) of an image; x = (byte / 255 - mean[c]) / std[c]
  const int32_t* tokens = nullptr;        // (B, T)
  Shape shape;
};

// Throws std::invalid_argument if an input cannot have the shape, or take values of this form and shape.
void check_shape(const Input& input, const Shape& shape);
void check_values(const Input& input, const Values& values);

// Sample number `sample` as (H, W, C): where it lies, or written to `to` (H·W·C floats). `fits` becomes false if a
// float is NaN or infinite, or a token is out of range.
const float* load_sample(const Input& input, const Values& values, int64_t sample, float* to, bool& fits);

}  // namespace onebit
