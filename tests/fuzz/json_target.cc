// The fuzz target of the JSON reader and of the safetensors container: any bytes are refused with a FormatError of one
// short line, or read. What is read is walked, written and read again.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

#include "base/decimal.h"
#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"
#include "file/safetensors.h"

namespace {

using onebit::FormatError;
using onebit::json::Kind;
using onebit::json::Value;

void expect(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "json_target: %s\n", what);
  std::abort();
}

// Characters of a text; -1 if it is not UTF-8.
int characters(std::string_view text) {
  int count = 0;
  for (; !text.empty(); ++count) {
    const size_t length = onebit::utf8_length(text);
    if (length == 0) return -1;
    text.remove_prefix(length);
  }
  return count;
}

void check_message(std::string_view message) {
  expect(characters(message) > 0 && message.size() < 500, "a message is short and UTF-8");
  for (const char c : message) expect(c < 0 || c >= 0x20, "a message is one line");
}

void write_string(std::string_view text, std::string& to) {
  to += '"';
  for (const char c : text) {
    char escape[8];
    std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
    to += c == '"' || c == '\\' || (c >= 0 && c < 0x20) ? std::string(escape) : std::string(1, c);
  }
  to += '"';
}

void write_number(double value, std::string& to) {
  const std::string text = onebit::print_decimal(value);
  if (text.find("inf") != text.npos) {
    to += value < 0 ? "-1e999" : "1e999";
  } else {
    to += text.find_first_of(".e") == text.npos ? text + ".0" : text;
  }
}

// Also of arrays and objects, so that every accessor is used.
void write(const Value& value, std::string& to) {
  switch (value.kind()) {
    case Kind::null:
      to += "null";
      break;
    case Kind::boolean:
      to += value.boolean() ? "true" : "false";
      break;
    case Kind::integer:
      to += std::to_string(value.integer());
      break;
    case Kind::number:
      write_number(value.number(), to);
      break;
    case Kind::string:
      expect(characters(value.text()) >= 0, "a string is UTF-8");
      write_string(value.text(), to);
      break;
    case Kind::array:
      to += '[';
      for (size_t i = 0; i < value.size(); ++i) {
        if (i) to += ',';
        write(value[i], to);
      }
      to += ']';
      break;
    case Kind::object:
      to += '{';
      for (const auto [key, member] : value.members()) {
        if (to.back() != '{') to += ',';
        write_string(key, to);
        to += ':';
        write(member, to);
      }
      to += '}';
      break;
  }
}

void check_kinds(const Value& value) {
  try {
    value.is(Kind::array) ? void(value[value.size()]) : void(value[0]);
    expect(false, "no value is taken for one of another kind");
  } catch (const std::logic_error&) {
  }
  if (!value.is(Kind::object)) return;
  for (const auto [key, member] : value.members()) {
    expect(value.find(key) == &member, "members are found by their key");
    break;
  }
}

void check_json(std::string_view text) {
  expect(characters(onebit::json::show(text)) <= onebit::json::kMaxShown, "any text is shown shortly");
  try {
    const auto document = onebit::json::parse(text, "the header");
    std::string first, second;
    write(document.root(), first);
    write(onebit::json::parse(first, "what was written").root(), second);
    expect(first == second, "what was written is read again as it was");
    const int shown = characters(onebit::json::show(document.root()));
    expect(shown > 0 && shown <= onebit::json::kMaxShown, "a value is shown shortly");
    check_kinds(document.root());
  } catch (const FormatError& error) {
    check_message(error.what());
  }
}

void check_safetensors(const uint8_t* data, size_t size) {
  try {
    const onebit::Safetensors file = onebit::parse_safetensors(data, size);
    size_t bytes = 0, ones = 0;
    for (const auto& [name, tensor] : file.tensors) {
      expect(tensor.data + tensor.bytes <= data + size, "tensors lie within the file");
      for (size_t i = 0; i < tensor.bytes; ++i) ones += tensor.data[i] & 1;
      bytes += tensor.bytes;
    }
    uint64_t length = 0;
    std::memcpy(&length, data, 8);
    expect(8 + length + bytes == size && ones <= bytes, "tensors cover the file");
  } catch (const FormatError& error) {
    check_message(error.what());
  }
}

// Lengths above the limits, of nothing: they are refused before a byte is read.
bool check_lengths() {
  if (sizeof(size_t) < 8) return true;
  const size_t length = static_cast<size_t>(onebit::kMaxFileBytes);
  int refusals = 0;
  try {
    onebit::parse_safetensors(nullptr, length + 1);
  } catch (const FormatError&) {
    ++refusals;
  }
  try {
    onebit::json::parse(std::string_view(nullptr, length), "the graph");
  } catch (const FormatError&) {
    ++refusals;
  }
  return refusals == 2;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool limited = check_lengths();
  expect(limited, "too long a file is refused");
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_json(text);
  if (size > 8) check_json(text.substr(8));
  check_safetensors(data, size);
  std::string file(8, '\0');  // the same as the header of a file without tensors
  const uint64_t length = size;
  std::memcpy(&file[0], &length, 8);
  file += text;
  check_safetensors(reinterpret_cast<const uint8_t*>(file.data()), file.size());
  return 0;
}
