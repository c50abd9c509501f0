// The axis of a map that an operator works along. A vector has channels alone.
#pragma once

#include "operators/source.h"

namespace onebit {

enum class Along { channels, height, width };

// The attribute "axis"; `missing` is null where it must be there.
inline Along along(Source& source, const char* missing = nullptr) {
  const Along axis = static_cast<Along>(source.word("axis", {"channels", "height", "width"}, missing));
  if (axis != Along::channels) source.map(0);
  return axis;
}

inline int64_t& size_along(Shape& shape, Along axis) {
  return axis == Along::channels ? shape.c : axis == Along::height ? shape.h : shape.w;
}

}  // namespace onebit
