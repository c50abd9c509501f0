// A value that no input changes.

#include <algorithm>
#include <utility>

#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

class Constant : public Operator {
 public:
  Constant(Shape shape, std::vector<float> value) : shape_(shape), value_(std::move(value)) {}

  Shape infer(const std::vector<Shape>&) const override { return shape_; }

  void row(const Row& r) const override {
    const int64_t row = shape_.w * shape_.c;
    std::copy_n(value_.data() + r.y * row, row, r.finish.out);
  }

  int64_t weight_bytes() const override { return static_cast<int64_t>(value_.size() * sizeof(float)); }

 private:
  Shape shape_;
  std::vector<float> value_;
};

std::unique_ptr<Operator> make(Source& source) {
  const std::vector<int64_t> any(source.axes("value") == 1 ? 1 : 3, 0);
  const std::vector<int64_t>& sizes = source.tensor("value", Dtype::f32, any).shape;
  const Shape shape = sizes.size() == 1 ? Shape{1, 1, sizes[0], true} : Shape{sizes[0], sizes[1], sizes[2]};
  return std::make_unique<Constant>(shape, source.floats("value", sizes));
}

}  // namespace

ONEBIT_OPERATOR(constant){"constant", 0, make};

}  // namespace onebit
