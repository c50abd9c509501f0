#include "base/decimal.h"

#include <algorithm>
#include <charconv>
#include <clocale>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <system_error>

// Older versions of libc++ convert integers only. ONEBIT_STRTOD takes their way elsewhere, for tests.
#if defined(__cpp_lib_to_chars) && !defined(ONEBIT_STRTOD)
#define ONEBIT_FROM_CHARS 1
#endif

namespace onebit {

#if defined(ONEBIT_FROM_CHARS)

namespace {

// Whether a number outside the range of double is a large one: the place of its first digit other than 0 says so.
bool is_large(std::string_view token) {
  const size_t exponent_at = token.find_first_of("eE");
  const std::string_view digits = token.substr(0, exponent_at);
  const size_t point = std::min(digits.find('.'), digits.size()), first = digits.find_first_of("123456789");
  int64_t exponent = 0;
  if (exponent_at != token.npos) {
    std::string_view text = token.substr(exponent_at + 1);
    if (text[0] == '+') text.remove_prefix(1);
    constexpr int64_t far = int64_t{1} << 40;  // no text has so many digits
    const bool known = std::from_chars(text.data(), text.data() + text.size(), exponent).ec == std::errc();
    exponent = known ? std::clamp(exponent, -far, far) : text[0] == '-' ? -far : far;
  }
  return exponent + static_cast<int64_t>(point) - static_cast<int64_t>(first) > 0;
}

}  // namespace

double parse_decimal(std::string_view token) {
  double value = 0;
  if (std::from_chars(token.data(), token.data() + token.size(), value).ec == std::errc()) return value;
  value = is_large(token) ? std::numeric_limits<double>::infinity() : 0.0;
  return token[0] == '-' ? -value : value;
}

std::string print_decimal(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

#else

namespace {

const char* decimal_point() { return std::localeconv()->decimal_point; }

}  // namespace

double parse_decimal(std::string_view token) {
  std::string text(token);
  const size_t point = text.find('.');
  if (point != text.npos) text.replace(point, 1, decimal_point());
  return std::strtod(text.c_str(), nullptr);
}

std::string print_decimal(double value) {
  char digits[64];
  for (int precision = 1; precision <= 17; ++precision) {
    std::snprintf(digits, sizeof digits, "%.*g", precision, value);
    if (std::strtod(digits, nullptr) == value) break;
  }
  std::string text = digits;
  const size_t point = text.find(decimal_point());
  if (point != text.npos) text.replace(point, std::string_view(decimal_point()).size(), ".");
  return text;
}

#endif

}  // namespace onebit
