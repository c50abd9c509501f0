#include "bindings/c/failure.h"

#include <cstddef>
#include <cstring>
#include <new>
#include <system_error>

#include "base/error.h"

namespace onebit {
namespace {

// No memory is asked for where there may be none: longer lines are cut, between characters.
constexpr size_t kLength = 1000;
thread_local char text[kLength + 1];

int32_t keep(int32_t code, const char* found) {
  size_t length = strnlen(found, kLength);
  if (length == kLength) {
    while (length > 0 && (static_cast<unsigned char>(found[length]) & 0xc0) == 0x80) --length;  // inside a character
  }
  std::memcpy(text, found, length);
  text[length] = '\0';
  return code;
}

}  // namespace

const char* failure_text() noexcept { return text; }

int32_t caught(int32_t refused) noexcept {
  try {
    throw;
  } catch (const Failure& error) {
    return keep(error.code, error.what());
  } catch (const FormatError& error) {
    return keep(ONEBIT_BAD_FILE, error.what());
  } catch (const std::invalid_argument& error) {
    return keep(refused, error.what());
  } catch (const std::bad_alloc&) {
    return keep(ONEBIT_NO_MEMORY, "there is not enough memory");
  } catch (const std::length_error&) {  // more than any memory holds
    return keep(ONEBIT_NO_MEMORY, "there is not enough memory");
  } catch (const std::system_error& error) {
    return keep(ONEBIT_NO_THREADS, error.what());
  } catch (const std::exception& error) {
    return keep(ONEBIT_CANNOT_RUN, error.what());
  } catch (...) {
    return keep(ONEBIT_CANNOT_RUN, "an unknown exception");
  }
}

}  // namespace onebit
