#include <algorithm>

#include "base/decimal.h"
#include "base/json.h"
#include "base/utf8.h"

namespace onebit::json {

namespace {

// Text of at most kMaxShown characters. What is longer is found out early, so that a message never costs much.
class Shown {
 public:
  void add(std::string_view character) {
    if (++characters_ <= kMaxShown - 3) kept_ = text_.size() + character.size();
    if (!full()) text_ += character;
  }

  void add_ascii(std::string_view text) {
    for (size_t i = 0; i < text.size() && !full(); ++i) add(text.substr(i, 1));
  }

  void add_string(std::string_view text) {
    add("\"");
    while (!text.empty() && !full()) {
      const size_t length = utf8_length(text);
      add_character(length ? text.substr(0, length) : "?");
      text.remove_prefix(std::max<size_t>(length, 1));
    }
    add("\"");
  }

  void add_value(const Value& value) {
    switch (value.kind()) {
      case Kind::null:
        return add_ascii("null");
      case Kind::boolean:
        return add_ascii(value.boolean() ? "true" : "false");
      case Kind::integer:
        return add_ascii(std::to_string(value.integer()));
      case Kind::number:
        return add_ascii(print_decimal(value.number()));
      case Kind::string:
        return add_string(value.text());
      case Kind::array:
        return add_array(value);
      case Kind::object:
        return add_object(value);
    }
  }

  std::string take() {
    if (full()) text_ = text_.substr(0, kept_) + "...";
    return text_;
  }

 private:
  bool full() const { return characters_ > kMaxShown; }

  // Control characters could change a terminal: C0, DEL and C1.
  void add_character(std::string_view character) {
    const uint8_t first = static_cast<uint8_t>(character[0]), last = static_cast<uint8_t>(character.back());
    if (first == '"' || first == '\\') {
      add("\\");
      add(character);
    } else if (first < 0x20 || first == 0x7f || (first == 0xc2 && last < 0xa0)) {
      constexpr const char* hex = "0123456789abcdef";
      add_ascii("\\u00");
      add({hex + (last >> 4), 1});
      add({hex + (last & 15), 1});
    } else {
      add(character);
    }
  }

  void add_array(const Value& array) {
    const char* between = "[";
    for (const Value& value : array) {
      if (full()) return;
      add_ascii(between);
      add_value(value);
      between = ", ";
    }
    add_ascii(array.size() ? "]" : "[]");
  }

  void add_object(const Value& object) {
    const char* between = "{";
    for (const auto [key, value] : object.members()) {
      if (full()) return;
      add_ascii(between);
      add_string(key);
      add_ascii(": ");
      add_value(value);
      between = ", ";
    }
    add_ascii(object.size() ? "}" : "{}");
  }

  std::string text_;
  int characters_ = 0;
  size_t kept_ = 0;  // bytes, if three dots follow
};

}  // namespace

std::string show(const Value& value) {
  Shown shown;
  shown.add_value(value);
  return shown.take();
}

std::string show(std::string_view text) {
  Shown shown;
  shown.add_string(text);
  return shown.take();
}

}  // namespace onebit::json
