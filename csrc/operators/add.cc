// y = x + z, of equal shapes

#include "base/require.h"
#include "operators/elementwise.h"

namespace onebit {
namespace {

class Add : public ElementwiseOperator {
 public:
  Add() : ElementwiseOperator({Step::add, {}}) {}

  Shape infer(const std::vector<Shape>& in) const override {
    require(in[0] == in[1], "add: the shapes differ");
    return in[0];
  }
};

}  // namespace

ONEBIT_OPERATOR(add){"add", 2, [](Source& source) -> std::unique_ptr<Operator> {
                       const Shape x = source.shape(0), y = source.shape(1);
                       if (!(x == y)) source.refuse("needs two equal shapes, got " + show(x) + " and " + show(y));
                       return std::make_unique<Add>();
                     }};

}  // namespace onebit
