// JSON as RFC 8259 has it, and nothing more. Accepts what json.loads in Python accepts with the hooks of
// src/onebit/runtime/format.py, but for nesting deeper than kMaxDepth and halves of surrogate pairs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace onebit::json {

constexpr int kMaxDepth = 64;      // lists and objects around a value
constexpr int kMaxShown = 80;      // characters
constexpr size_t kMaxDigits = 40;  // of an integer, its sign included

enum class Kind : uint8_t {
  null,
  boolean,
  integer,  // of 64 bits, written without fraction and exponent; -0 is none, and refused
  number,   // any other: a double, which is infinite where it overflowed
  string,
  array,
  object,
};

class Members;

// A value of a document, which must outlive it. Asking it for another kind than its own is a std::logic_error.
class Value {
 public:
  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_number() const { return is(Kind::integer) || is(Kind::number); }

  bool boolean() const { return expect(Kind::boolean).boolean_; }
  int64_t integer() const { return expect(Kind::integer).integer_; }
  double number() const;          // also of an integer
  std::string_view text() const;  // valid UTF-8, may contain U+0000

  // Of an array.
  const Value* begin() const { return expect(Kind::array).values_; }
  const Value* end() const { return expect(Kind::array).values_ + size_; }
  const Value& operator[](size_t i) const;

  // Of an object: the members in the order of the text, and the value with a key, or null. Time is linear in size.
  Members members() const;
  const Value* find(std::string_view key) const;

  size_t size() const { return size_; }  // elements, members, or bytes of a text; else 0

 private:
  friend class Parser;
  const Value& expect(Kind kind) const;

  union {
    bool boolean_;
    int64_t integer_;
    double number_;
    const char* text_;
    const Value* values_;  // elements; of an object key, value, key, value, ...
  };
  uint32_t size_;
  Kind kind_;
};
static_assert(sizeof(Value) == 16, "16 MiB of JSON may hold 8 million values");

struct Member {
  std::string_view key;
  const Value& value;
};

// for (const auto [key, value] : object.members())
class Members {
 public:
  class Iterator {
   public:
    explicit Iterator(const Value* at) : at_(at) {}
    Member operator*() const { return {at_[0].text(), at_[1]}; }
    Iterator& operator++() {
      at_ += 2;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return at_ != other.at_; }

   private:
    const Value* at_;
  };

  Members(const Value* keys, size_t size) : keys_(keys), size_(size) {}
  Iterator begin() const { return Iterator(keys_); }
  Iterator end() const { return Iterator(keys_ + 2 * size_); }

 private:
  const Value* keys_;
  size_t size_;
};

// A parsed text. It keeps nothing of the text itself.
class Document {
 public:
  const Value& root() const { return root_; }

 private:
  friend class Parser;
  Value root_;
  std::vector<std::unique_ptr<Value[]>> values_;
  std::unique_ptr<char[]> characters_;
};

// Reads a text. Throws FormatError, which begins with `where`, as "the header".
Document parse(std::string_view text, const std::string& where);

// A value for a message: valid UTF-8 of at most kMaxShown characters, as JSON. What does not fit is cut and ends in
// "..."; bytes of `text` that are not UTF-8 are question marks.
std::string show(const Value& value);
std::string show(std::string_view text);

}  // namespace onebit::json
