// What conv and binary_conv have in common: stride, padding, dilation and groups.
#pragma once

#include <string>

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

}  // namespace onebit
