// Checks of single values of the graph; what fails is a FormatError that begins with `where`.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace onebit {

constexpr size_t kMaxText = 1'000;  // characters

[[noreturn]] void refuse(const std::string& where, const std::string& why);

// "`where` must be <what>, got <value>"
[[noreturn]] void refuse_value(const std::string& where, const std::string& what, const json::Value& value);

// An object that has all the required keys and none but the optional ones beside them.
void check_keys(const json::Value& value, const std::string& where, std::initializer_list<std::string_view> required,
                std::initializer_list<std::string_view> optional = {});

int64_t integer_of(const json::Value& value, const std::string& where, int64_t low, int64_t high);
double number_of(const json::Value& value, const std::string& where);  // finite, as float32 too
std::string text_of(const json::Value& value, const std::string& where);
std::string checked_text(std::string_view text, const std::string& where);  // a key, as text_of
// The name of a node, an input or an output: 1 to 200 letters, digits or _ . / -, of which the first is none of . / -.
std::string name_of(const json::Value& value, const std::string& where);

// A list of at most so many elements; `what` says of what.
const json::Value& list_of(const json::Value& value, const std::string& where, size_t least, size_t most,
                           const std::string& what);

}  // namespace onebit
