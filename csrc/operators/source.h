// What an operator is made from: the attributes of its node, the tensors that belong to it, the shapes of its inputs.
// What is asked for is checked, and refused with a FormatError that names the node; what was not asked for is refused
// by `finish`.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/error.h"
#include "base/json.h"
#include "base/tensor.h"
#include "base/window.h"
#include "kernels/bproduct/bproduct.h"
#include "kernels/steps/steps.h"

namespace onebit {

constexpr int64_t kMaxSize = int64_t{1} << 15;      // of a height, width, kernel, stride, padding, dilation, groups
constexpr int64_t kMaxChannels = int64_t{1} << 24;  // of a weight, and of what one output sums

using Pair = std::pair<int64_t, int64_t>;

std::string show(Pair pair);
std::string show(Shape shape);

// What kernels an operator is made for. `product` may be null.
struct Target {
  Isa isa;
  const ProductKernel* product;
};

// An input of the network, as far as operators that read it care.
struct Given {
  std::vector<float> mean, std;  // of an image: one for each channel
  int64_t count = 0;             // of tokens: how many there are
  bool image() const { return !mean.empty(); }
};

// The tensors of a file, and which of them somebody took.
class TensorTable {
 public:
  explicit TensorTable(const std::map<std::string, Tensor, std::less<>>& tensors) : tensors_(tensors) {}

  const Tensor* find(const std::string& name) const;  // null if there is none
  const Tensor* take(const std::string& name);
  void check_all_taken() const;  // throws FormatError

 private:
  const std::map<std::string, Tensor, std::less<>>& tensors_;
  std::set<std::string> taken_;
};

// A weight (O, ...): float, or 8 bits with a scale for each output.
struct Weight {
  std::vector<int64_t> shape;
  std::vector<float> values;  // scale·code of those in 8 bits
  std::vector<int8_t> codes;
  std::vector<float> scale;
};

class Source {
 public:
  // `given` has, for each input, that of the network that it is, or null.
  Source(const json::Value& node, std::string name, std::string op, std::vector<Shape> shapes,
         std::vector<const Given*> given, TensorTable& tensors, Target target);

  int64_t integer(const char* key, int64_t low, int64_t high, int64_t missing);
  int64_t integer(const char* key, int64_t low, int64_t high);
  Pair pair(const char* key, int64_t low, int64_t high, Pair missing);
  Pair pair(const char* key, int64_t low, int64_t high);
  std::vector<int64_t> integers(const char* key, size_t count, int64_t low, int64_t high);
  // 1 to `most` lists of so many integers.
  std::vector<std::vector<int64_t>> lists(const char* key, size_t most, size_t count, int64_t low, int64_t high);
  bool boolean(const char* key, bool missing);
  double number(const char* key);
  double number(const char* key, double missing);
  double positive(const char* key);
  double positive(const char* key, double missing);
  // A number, or one of the words; the index of the word then, and -1 of a number, which is put into `value`.
  int number_or_word(const char* key, const std::vector<std::string>& words, double& value);

  // The index of one of the words; that of `missing`, if it is not null, where there is none.
  int word(const char* key, const std::vector<std::string>& words, const char* missing = nullptr);

  int inputs() const { return static_cast<int>(shapes_.size()); }
  Shape shape(int input) const { return shapes_[input]; }
  Shape map(int input) const;     // refuses a vector
  Shape vector(int input) const;  // refuses a map
  const Given* given(int input) const { return given_[input]; }

  bool has(const char* what) const;
  size_t axes(const char* what) const;  // of the tensor of that name; 0 if there is none
  // The tensor of that name: its sizes, of which 0 in `sizes` stands for any from 1 to kMaxChannels, and its values.
  const Tensor& tensor(const char* what, Dtype dtype, const std::vector<int64_t>& sizes);
  std::vector<float> floats(const char* what, const std::vector<int64_t>& sizes);
  Weight weight(const std::vector<int64_t>& sizes);
  // U8 (rows, ceil(each / 8)): so many bits a row, rows 0 for any number; those past the end are 0.
  std::vector<uint8_t> bits(const char* what, int64_t rows, int64_t each);

  Target target() const { return target_; }
  const StepKernels& steps() const { return select_steps(target_.isa); }

  [[noreturn]] void refuse(const std::string& why) const;

  // Refuses attributes that nobody asked for.
  void finish() const;

 private:
  const json::Value* find(const char* key);
  const json::Value& require(const char* key);
  std::string where(const char* key) const;
  Pair pair_of(const json::Value& value, const char* key, int64_t low, int64_t high) const;

  const json::Value& node_;
  std::string name_, op_;
  std::vector<Shape> shapes_;
  std::vector<const Given*> given_;
  TensorTable& tensors_;
  Target target_;
  std::vector<std::string> asked_;
};

}  // namespace onebit
