#include "base/json.h"

#include <stdexcept>

namespace onebit::json {

const Value& Value::expect(Kind kind) const {
  if (kind_ != kind) throw std::logic_error("a JSON value of another kind");
  return *this;
}

double Value::number() const {
  return is(Kind::integer) ? static_cast<double>(integer_) : expect(Kind::number).number_;
}

std::string_view Value::text() const { return {expect(Kind::string).text_, size_}; }

const Value& Value::operator[](size_t i) const {
  if (i >= expect(Kind::array).size_) throw std::logic_error("a JSON array is shorter");
  return values_[i];
}

Members Value::members() const { return {expect(Kind::object).values_, size_}; }

const Value* Value::find(std::string_view key) const {
  for (const auto [name, value] : members()) {
    if (name == key) return &value;
  }
  return nullptr;
}

}  // namespace onebit::json
