// What may go wrong with a file, apart from what the engine cannot run (std::invalid_argument).
#pragma once

#include <stdexcept>

namespace onebit {

// The file is not what docs/format.md allows. The message is one short line of UTF-8.
class FormatError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace onebit
