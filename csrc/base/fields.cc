#include "base/fields.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace onebit {
namespace {

constexpr double kMaxNumber = 3.4e38;
constexpr size_t kMaxName = 200;
const std::string kText = "a string of at most " + std::to_string(kMaxText) + " characters";

bool contains(std::initializer_list<std::string_view> keys, std::string_view key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

}  // namespace

void refuse(const std::string& where, const std::string& why) { throw FormatError(where + " " + why); }

void refuse_value(const std::string& where, const std::string& what, const json::Value& value) {
  refuse(where, "must be " + what + ", got " + json::show(value));
}

void check_keys(const json::Value& value, const std::string& where, std::initializer_list<std::string_view> required,
                std::initializer_list<std::string_view> optional) {
  if (!value.is(json::Kind::object)) refuse_value(where, "an object", value);
  std::string missing;
  for (std::string_view key : required) {
    if (!value.find(key)) missing += (missing.empty() ? "" : ", ") + std::string(key);
  }
  if (!missing.empty()) refuse(where, "lacks " + missing);
  for (const auto [key, member] : value.members()) {
    if (contains(required, key) || contains(optional, key)) continue;
    refuse(where, "has the unknown key " + json::show(key) + "; write the file with a matching onebit");
  }
}

int64_t integer_of(const json::Value& value, const std::string& where, int64_t low, int64_t high) {
  if (!value.is(json::Kind::integer) || value.integer() < low || value.integer() > high) {
    refuse_value(where, "an integer from " + std::to_string(low) + " to " + std::to_string(high), value);
  }
  return value.integer();
}

double number_of(const json::Value& value, const std::string& where) {
  if (!value.is_number() || !(std::fabs(value.number()) <= kMaxNumber)) refuse_value(where, "a finite number", value);
  return value.number();
}

std::string text_of(const json::Value& value, const std::string& where) {
  if (!value.is(json::Kind::string)) refuse_value(where, kText, value);
  return checked_text(value.text(), where);
}

std::string checked_text(std::string_view text, const std::string& where) {
  const auto begins = [](char c) { return (c & 0xc0) != 0x80; };  // a character, in UTF-8
  if (static_cast<size_t>(std::count_if(text.begin(), text.end(), begins)) > kMaxText) {
    refuse(where, "must be " + kText + ", got " + json::show(text));
  }
  return std::string(text);
}

std::string name_of(const json::Value& value, const std::string& where) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  const auto allowed = [&](char c) { return letter(c) || c == '.' || c == '/' || c == '-'; };
  const std::string_view name = value.is(json::Kind::string) ? value.text() : std::string_view();
  if (name.empty() || name.size() > kMaxName || !letter(name[0]) || !std::all_of(name.begin(), name.end(), allowed)) {
    refuse_value(where, "1 to 200 letters, digits or _ . / -", value);
  }
  return std::string(name);
}

const json::Value& list_of(const json::Value& value, const std::string& where, size_t least, size_t most,
                           const std::string& what) {
  if (!value.is(json::Kind::array) || value.size() < least || value.size() > most) {
    const std::string range = (least ? std::to_string(least) + " to " : "at most ") + std::to_string(most);
    refuse(where, "must be a list of " + range + " " + what);
  }
  return value;
}

}  // namespace onebit
