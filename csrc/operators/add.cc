// y = x + z, of equal shapes

#include "operators/elementwise.h"

namespace onebit {
namespace {

class Add : public ElementwiseOperator {
 public:
  Add() : ElementwiseOperator({Step::add, {}}) {}

  Shape infer(const std::vector<Shape>& in) const override {
    if (!(in[0] == in[1]))
      throw std::invalid_argument("needs two equal shapes, got " + show(in[0]) + " and " + show(in[1]));
    return in[0];
  }
};

}  // namespace

ONEBIT_OPERATOR(add){"add", 2, [](Source&) -> std::unique_ptr<Operator> { return std::make_unique<Add>(); }};

}  // namespace onebit
