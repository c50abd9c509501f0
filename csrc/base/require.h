// What is asked of sizes and arrays before they are used.
#pragma once

#include <stdexcept>

namespace onebit {

inline void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

}  // namespace onebit
