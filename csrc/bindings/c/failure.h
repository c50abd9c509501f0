// What went wrong, as callers in C learn it: a code, and a line that is kept for the thread.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "bindings/c/onebit.h"

namespace onebit {

// A failure that has its code already.
class Failure : public std::runtime_error {
 public:
  Failure(int32_t code, const std::string& text) : std::runtime_error(text), code(code) {}
  const int32_t code;
};

// What the last call that failed on this thread said.
const char* failure_text() noexcept;

// The code of the exception that is being handled, whose text is kept. `refused` is what std::invalid_argument means.
int32_t caught(int32_t refused) noexcept;

// The code of call(refused), which may change what std::invalid_argument means as it goes. No exception leaves it.
template <typename Call>
int32_t guarded(const Call& call) noexcept {
  int32_t refused = ONEBIT_BAD_ARGUMENT;
  try {
    call(refused);
    return ONEBIT_OK;
  } catch (...) {
    return caught(refused);
  }
}

}  // namespace onebit
