// Numbers to and from decimal digits, the same under every locale.
#pragma once

#include <string>
#include <string_view>

namespace onebit {

// The double nearest to a number in JSON's grammar, as Python's float(): ties to even, infinity or zero where it
// lies outside the range.
double parse_decimal(std::string_view token);

// In the fewest digits that read back as the same double; infinity is "inf".
std::string print_decimal(double value);

}  // namespace onebit
