#include <algorithm>
#include <charconv>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/decimal.h"
#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"

namespace onebit::json {

namespace {

constexpr size_t kBlock = 4096;  // values that are allocated at once

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Sorted, because a hash could be made to collide; by length first, because that is cheap.
bool has_duplicate(std::vector<std::string_view>& keys) {
  std::sort(keys.begin(), keys.end(), [](std::string_view a, std::string_view b) {
    return a.size() != b.size() ? a.size() < b.size() : std::memcmp(a.data(), b.data(), a.size()) < 0;
  });
  return std::adjacent_find(keys.begin(), keys.end()) != keys.end();
}

}  // namespace

// Recursive descent, bounded by kMaxDepth. Values wait in one stack until their array or object ends, and are then
// stored side by side.
class Parser {
 public:
  Parser(std::string_view text, const std::string& where)
      : begin_(text.data()), at_(begin_), end_(begin_ + text.size()), where_(where) {
    if (uint64_t{text.size()} > UINT32_MAX) throw FormatError(where_ + " is too long");
    document_.characters_.reset(new char[text.size()]);  // no string is longer than it is in the text
    characters_ = document_.characters_.get();
  }

  Document run() {
    document_.root_ = value(0);
    if (at_ != end_) fail("Extra data");
    return std::move(document_);
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const {
    throw FormatError(where_ + " is not valid JSON (" + reason + " at byte " + std::to_string(at_ - begin_) +
                      "); this is not a onebit file");
  }

  bool accept(char c) {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }

  bool accept(std::string_view word) {
    if (std::string_view(at_, end_ - at_).substr(0, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  static Value make(Kind kind) {
    Value value;
    value.integer_ = 0;
    value.size_ = 0;
    value.kind_ = kind;
    return value;
  }

  // A value and the space around it. `depth` is the number of arrays and objects around it.
  Value value(int depth) {
    skip_space();
    const Value result = bare_value(depth);
    skip_space();
    return result;
  }

  Value bare_value(int depth) {
    if (at_ == end_) fail("Expecting value");
    if (is_digit(*at_)) return number();
    if (*at_ == '"') return string();
    if (*at_ == '[' || *at_ == '{') {
      if (depth == kMaxDepth)
        throw FormatError(where_ + " is nested too deeply; at most " + std::to_string(kMaxDepth) +
                          " levels are supported");
      return accept('[') ? array(depth + 1) : (++at_, object(depth + 1));
    }
    if (accept("null")) return make(Kind::null);
    for (const bool truth : {false, true}) {
      if (!accept(truth ? "true" : "false")) continue;
      Value result = make(Kind::boolean);
      result.boolean_ = truth;
      return result;
    }
    for (const char* constant : {"NaN", "Infinity", "-Infinity"}) {
      if (accept(constant)) throw FormatError(where_ + " contains " + constant + ", which is not JSON");
    }
    return number();
  }

  Value array(int depth) {
    const size_t first = waiting_.size();
    skip_space();
    if (!accept(']')) {
      do {
        waiting_.push_back(value(depth));
      } while (accept(','));
      if (!accept(']')) fail("Expecting ',' or ']'");
    }
    return store(Kind::array, first);
  }

  Value object(int depth) {
    const size_t first = waiting_.size();
    skip_space();
    if (!accept('}')) {
      do {
        skip_space();
        if (at_ == end_ || *at_ != '"') fail("Expecting a key in double quotes");
        waiting_.push_back(string());
        skip_space();
        if (!accept(':')) fail("Expecting ':'");
        waiting_.push_back(value(depth));
      } while (accept(','));
      if (!accept('}')) fail("Expecting ',' or '}'");
    }
    keys_.clear();
    for (size_t i = first; i < waiting_.size(); i += 2) keys_.push_back(waiting_[i].text());
    if (has_duplicate(keys_)) throw FormatError(where_ + " has a duplicate key");
    Value result = store(Kind::object, first);
    result.size_ /= 2;
    return result;
  }

  // The values that wait from `first` on, as an array or object.
  Value store(Kind kind, size_t first) {
    const size_t size = waiting_.size() - first;
    Value* to = allocate(size);
    std::copy(waiting_.begin() + first, waiting_.end(), to);
    waiting_.resize(first);
    Value result = make(kind);
    result.values_ = to;
    result.size_ = static_cast<uint32_t>(size);
    return result;
  }

  // Large ones have a block of their own, so that little of the others is lost.
  Value* allocate(size_t size) {
    auto& blocks = document_.values_;
    if (size > kBlock / 8) {
      blocks.emplace_back(new Value[size]);
      return blocks.back().get();
    }
    if (size > left_) {
      blocks.emplace_back(new Value[kBlock]);
      free_ = blocks.back().get();
      left_ = kBlock;
    }
    Value* result = free_;
    free_ += size;
    left_ -= size;
    return result;
  }

  void skip_digits() {
    if (at_ == end_ || !is_digit(*at_)) fail("Expecting a digit");
    while (at_ != end_ && is_digit(*at_)) ++at_;
  }

  Value number() {
    const char* first = at_;
    const bool minus = accept('-');
    if (at_ == end_ || !is_digit(*at_)) fail("Expecting value");
    const char* digits = at_;
    if (!accept('0')) skip_digits();
    const size_t count = at_ - digits;
    bool fraction = false;
    if (accept('.')) {
      fraction = true;
      skip_digits();
    }
    if (accept('e') || accept('E')) {
      fraction = true;
      if (!accept('+')) accept('-');
      skip_digits();
    }
    if (!fraction) {
      Value result = make(Kind::integer);
      if (minus && *digits == '0') fail("the integer -0");
      if (count + minus > kMaxDigits) fail("an integer of " + std::to_string(count + minus) + " digits");
      if (std::from_chars(first, at_, result.integer_).ec == std::errc()) return result;
    }
    Value result = make(Kind::number);
    result.number_ = parse_decimal({first, static_cast<size_t>(at_ - first)});
    return result;
  }

  Value string() {
    ++at_;
    Value result = make(Kind::string);
    char* to = characters_;
    while (!accept('"')) {
      if (at_ == end_) fail("Unterminated string");
      if (accept('\\')) {
        to = escape(to);
        continue;
      }
      if (static_cast<uint8_t>(*at_) < 0x20) fail("Invalid control character");
      const size_t length = utf8_length({at_, static_cast<size_t>(end_ - at_)});
      if (length == 0) fail("Invalid UTF-8");
      std::copy(at_, at_ + length, to);
      to += length;
      at_ += length;
    }
    result.text_ = characters_;
    result.size_ = static_cast<uint32_t>(to - characters_);
    characters_ = to;
    return result;
  }

  // What stands after a backslash, written to `to`; returns where the next character goes.
  char* escape(char* to) {
    constexpr std::string_view escapes = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    if (at_ == end_) fail("Unterminated string");
    if (accept('u')) {
      uint32_t character = hex();
      if (character >= 0xd800 && character < 0xe000) {
        const uint32_t low = character < 0xdc00 && accept("\\u") ? hex() : 0;
        if (low < 0xdc00 || low >= 0xe000) fail("half of a surrogate pair, not valid Unicode");
        character = 0x10000 + ((character - 0xd800) << 10) + (low - 0xdc00);
      }
      return write_utf8(character, to);
    }
    const size_t which = escapes.find(*at_);
    if (which == escapes.npos) fail("Invalid escape");
    ++at_;
    *to++ = meanings[which];
    return to;
  }

  uint32_t hex() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const bool letter = at_ != end_ && (*at_ | 0x20) >= 'a' && (*at_ | 0x20) <= 'f';
      if (!letter && (at_ == end_ || !is_digit(*at_))) fail("Expecting four hexadecimal digits");
      code = code << 4 | static_cast<uint32_t>(letter ? (*at_ | 0x20) - 'a' + 10 : *at_ - '0');
    }
    return code;
  }

  const char *begin_, *at_, *end_;
  const std::string where_;
  Document document_;
  char* characters_ = nullptr;          // where the next string goes
  Value* free_ = nullptr;               // of the last shared block
  size_t left_ = 0;                     // values from `free_` on
  std::vector<Value> waiting_;          // of arrays and objects that have not ended
  std::vector<std::string_view> keys_;  // of the object that ended last
};

Document parse(std::string_view text, const std::string& where) { return Parser(text, where).run(); }

}  // namespace onebit::json
