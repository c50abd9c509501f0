// What convolutions have in common: stride, padding, dilation and groups, and the weight and bias of float ones.
#pragma once

#include <string>
#include <vector>

#include "operators/source.h"

namespace onebit {

struct WindowAttributes {
  Window window;
  int64_t groups;

  WindowAttributes(Source& source, Pair kernel) {
    const Pair stride = source.pair("stride", 1, kMaxSize, {1, 1}),
               padding = source.pair("padding", 0, kMaxSize, {0, 0});
    const Pair dilation = source.pair("dilation", 1, kMaxSize, {1, 1});
    groups = source.integer("groups", 1, kMaxSize, 1);
    window.rows = {kernel.first, stride.first, padding.first, dilation.first};
    window.columns = {kernel.second, stride.second, padding.second, dilation.second};
  }

  // Channels of a group; refuses groups that do not divide the channels on both sides.
  int64_t group_channels(const Source& source, int64_t in, int64_t out) const {
    if (in % groups || out % groups) {
      source.refuse("groups " + std::to_string(groups) + " must divide " + std::to_string(in) + " inputs and " +
                    std::to_string(out) + " outputs");
    }
    return in / groups;
  }
};

// The weight (O, I/g, KH, KW) of a float convolution of a map, its bias (O) or nothing, and its attributes, all
// checked.
struct ConvWeight {
  Weight weight;
  WindowAttributes attributes;
  std::vector<float> bias;

  ConvWeight(Source& source, Shape in) : weight(source.weight({0, 0, 0, 0})), attributes(source, kernel(source)) {
    const int64_t out = weight.shape[0];
    if (weight.shape[1] != attributes.group_channels(source, in.c, out)) {
      source.refuse("weight has " + std::to_string(weight.shape[1]) + " input channels, the map has " +
                    std::to_string(in.c));
    }
    if (source.has("bias")) bias = source.floats("bias", {out});
  }

 private:
  Pair kernel(const Source& source) const {
    const Pair kernel{weight.shape[2], weight.shape[3]};
    if (kernel.first > kMaxSize || kernel.second > kMaxSize) {
      source.refuse("the kernel " + show(kernel) + " is larger than " + std::to_string(kMaxSize));
    }
    return kernel;
  }
};

}  // namespace onebit
