#include "operators/source.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bits.h"
#include "base/fields.h"
#include "base/finite.h"

namespace onebit {
namespace {

constexpr float kMaxScale = 1e30f;  // of weights in 8 bits: 128 times as much is still finite

std::string joined(const std::vector<int64_t>& sizes) {
  std::string text;
  for (int64_t size : sizes) text += (text.empty() ? "" : ", ") + (size ? std::to_string(size) : std::string("any"));
  return "(" + text + ")";
}

}  // namespace

std::string show(Pair pair) { return joined({pair.first, pair.second}); }
std::string show(Shape shape) { return shape.vector ? joined({shape.c}) : joined({shape.h, shape.w, shape.c}); }

const Tensor* TensorTable::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const Tensor* TensorTable::take(const std::string& name) {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return nullptr;
  taken_.insert(name);
  return &found->second;
}

void TensorTable::check_all_taken() const {
  for (const auto& [name, tensor] : tensors_) {
    if (taken_.count(name)) continue;
    throw FormatError("tensor " + json::show(name) + " belongs to no node; remove it or name it <node>.<what>");
  }
}

Source::Source(const json::Value& node, std::string name, std::string op, std::vector<Shape> shapes,
               std::vector<const Given*> given, TensorTable& tensors, Target target)
    : node_(node),
      name_(std::move(name)),
      op_(std::move(op)),
      shapes_(std::move(shapes)),
      given_(std::move(given)),
      tensors_(tensors),
      target_(target) {}

const json::Value* Source::find(const char* key) {
  asked_.emplace_back(key);
  return node_.find(key);
}

const json::Value& Source::require(const char* key) {
  const json::Value* value = find(key);
  if (!value) throw FormatError("node '" + name_ + "' (" + op_ + ") lacks " + key);
  return *value;
}

std::string Source::where(const char* key) const { return "node '" + name_ + "': " + key; }

int64_t Source::integer(const char* key, int64_t low, int64_t high) {
  return integer_of(require(key), where(key), low, high);
}

int64_t Source::integer(const char* key, int64_t low, int64_t high, int64_t missing) {
  const json::Value* value = find(key);
  return value ? integer_of(*value, where(key), low, high) : missing;
}

Pair Source::pair_of(const json::Value& value, const char* key, int64_t low, int64_t high) const {
  if (!value.is(json::Kind::array) || value.size() != 2) refuse_value(where(key), "a list of two integers", value);
  const int64_t first = integer_of(value[0], where(key), low, high);
  return {first, integer_of(value[1], where(key), low, high)};
}

Pair Source::pair(const char* key, int64_t low, int64_t high) { return pair_of(require(key), key, low, high); }

Pair Source::pair(const char* key, int64_t low, int64_t high, Pair missing) {
  const json::Value* value = find(key);
  return value ? pair_of(*value, key, low, high) : missing;
}

std::vector<int64_t> Source::integers(const char* key, size_t count, int64_t low, int64_t high) {
  const json::Value& value = require(key);
  if (!value.is(json::Kind::array) || value.size() != count) {
    refuse_value(where(key), "a list of " + std::to_string(count) + " integers", value);
  }
  std::vector<int64_t> found;
  for (const json::Value& each : value) found.push_back(integer_of(each, where(key), low, high));
  return found;
}

std::vector<std::vector<int64_t>> Source::lists(const char* key, size_t most, size_t count, int64_t low, int64_t high) {
  const json::Value& value = require(key);
  if (!value.is(json::Kind::array) || value.size() == 0 || value.size() > most) {
    refuse_value(where(key), "a list of 1 to " + std::to_string(most) + " lists", value);
  }
  std::vector<std::vector<int64_t>> found;
  for (const json::Value& entry : value) {
    if (!entry.is(json::Kind::array) || entry.size() != count) {
      refuse_value(where(key), "lists of " + std::to_string(count) + " integers", entry);
    }
    found.emplace_back();
    for (const json::Value& each : entry) found.back().push_back(integer_of(each, where(key), low, high));
  }
  return found;
}

bool Source::boolean(const char* key, bool missing) {
  const json::Value* value = find(key);
  if (value && !value->is(json::Kind::boolean)) refuse_value(where(key), "true or false", *value);
  return value ? value->boolean() : missing;
}

double Source::number(const char* key, double missing) {
  const json::Value* value = find(key);
  return value ? number_of(*value, where(key)) : missing;
}

double Source::number(const char* key) { return number_of(require(key), where(key)); }

double Source::positive(const char* key) {
  const double value = number(key);
  if (!(value > 0)) refuse_value(where(key), "a number above 0", *find(key));
  return value;
}

double Source::positive(const char* key, double missing) { return find(key) ? positive(key) : missing; }

int Source::number_or_word(const char* key, const std::vector<std::string>& words, double& value) {
  const json::Value* found = find(key);
  if (found && found->is(json::Kind::string)) {
    const auto word = std::find(words.begin(), words.end(), found->text());
    if (word != words.end()) return static_cast<int>(word - words.begin());
    std::string known = "a number";
    for (const std::string& each : words) known += ", \"" + each + "\"";
    refuse_value(where(key), "one of " + known, *found);
  }
  if (found) value = number_of(*found, where(key));
  return -1;
}

int Source::word(const char* key, const std::vector<std::string>& words, const char* missing) {
  const json::Value* found = missing ? find(key) : &require(key);
  std::string known;
  for (size_t i = 0; i < words.size(); ++i) {
    if (found ? found->is(json::Kind::string) && found->text() == words[i] : words[i] == missing) {
      return static_cast<int>(i);
    }
    known += (i ? ", " : "") + words[i];
  }
  refuse_value(where(key), "one of " + known, *found);
}

Shape Source::map(int input) const {
  const Shape found = shape(input);
  if (found.vector) refuse("needs a map (H, W, C), got a vector of " + std::to_string(found.c) + "; remove flatten");
  return found;
}

Shape Source::vector(int input) const {
  const Shape found = shape(input);
  if (!found.vector) refuse("needs a vector, got a map " + show(found) + "; add flatten or global_avg_pool");
  return found;
}

bool Source::has(const char* what) const { return tensors_.find(name_ + "." + what) != nullptr; }

size_t Source::axes(const char* what) const {
  const Tensor* found = tensors_.find(name_ + "." + what);
  return found ? found->shape.size() : 0;
}

const Tensor& Source::tensor(const char* what, Dtype dtype, const std::vector<int64_t>& sizes) {
  const std::string name = name_ + "." + what;
  const Tensor* tensor = tensors_.take(name);
  if (!tensor) throw FormatError("tensor " + name + " is missing; node '" + name_ + "' (" + op_ + ") needs it");
  if (tensor->dtype != dtype) {
    throw FormatError("tensor " + name + " must be " + dtype_name(dtype) + ", got " + dtype_name(tensor->dtype));
  }
  bool fits = tensor->shape.size() == sizes.size();
  for (size_t i = 0; fits && i < sizes.size(); ++i) {
    const int64_t size = tensor->shape[i];
    fits = sizes[i] ? size == sizes[i] : size >= 1 && size <= kMaxChannels;
  }
  if (!fits)
    throw FormatError("tensor " + name + " must have shape " + joined(sizes) + ", got " + joined(tensor->shape));
  return *tensor;
}

std::vector<float> Source::floats(const char* what, const std::vector<int64_t>& sizes) {
  const Tensor& found = tensor(what, Dtype::f32, sizes);
  std::vector<float> values(found.bytes / sizeof(float));
  std::memcpy(values.data(), found.data, found.bytes);
  if (!all_finite(values.data(), static_cast<int64_t>(values.size()))) {
    throw FormatError("tensor " + name_ + "." + what +
                      " contains NaN or infinity; train again with a lower learning rate");
  }
  return values;
}

Weight Source::weight(const std::vector<int64_t>& sizes) {
  Weight weight;
  const Tensor* found = tensors_.find(name_ + ".weight");
  if (!found || found->dtype != Dtype::i8) {
    weight.values = floats("weight", sizes);
    weight.shape = found->shape;
    return weight;
  }
  const Tensor& codes = tensor("weight", Dtype::i8, sizes);
  weight.shape = codes.shape;
  weight.codes.resize(codes.bytes);
  std::memcpy(weight.codes.data(), codes.data, codes.bytes);
  weight.scale = floats("weight_scale", {codes.shape[0]});
  for (float scale : weight.scale) {
    if (std::fabs(scale) <= kMaxScale) continue;
    throw FormatError("tensor " + name_ + ".weight_scale holds scales above 1e+30; pack the model again");
  }
  const size_t each = codes.bytes / weight.scale.size();
  weight.values.resize(codes.bytes);
  for (size_t i = 0, o = 0; i < codes.bytes; i += each, ++o) {
    for (size_t k = i; k < i + each; ++k) weight.values[k] = weight.scale[o] * static_cast<float>(weight.codes[k]);
  }
  return weight;
}

std::vector<uint8_t> Source::bits(const char* what, int64_t rows, int64_t each) {
  const int64_t row = bytes_for(each);
  const Tensor& found = tensor(what, Dtype::u8, {rows, row});
  for (int64_t o = 0; each % 8 && o < found.shape[0]; ++o) {
    if (found.data[(o + 1) * row - 1] >> each % 8) {
      refuse(std::string(what) + " has bits set past its last weight; pack the weights again");
    }
  }
  return std::vector<uint8_t>(found.data, found.data + found.bytes);
}

void Source::refuse(const std::string& why) const { throw FormatError("node '" + name_ + "' (" + op_ + "): " + why); }

void Source::finish() const {
  for (const auto [key, value] : node_.members()) {
    if (key == "op" || key == "name" || key == "inputs") continue;
    if (std::find(asked_.begin(), asked_.end(), key) != asked_.end()) continue;
    throw FormatError("node '" + name_ + "' has the unknown key " + json::show(key) +
                      "; write the file with a matching onebit");
  }
}

}  // namespace onebit
