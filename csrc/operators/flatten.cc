// (H, W, C) -> (H·W·C), the channel fastest: the values as they lie in memory.

#include <algorithm>

#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

class Flatten : public Operator {
 public:
  Shape infer(const std::vector<Shape>& in) const override { return {1, 1, in[0].elements(), true}; }
  void row(const Row& r) const override { std::copy_n(r.inputs[0].data, r.layout.out.c, r.finish.out); }
};

}  // namespace

ONEBIT_OPERATOR(flatten){"flatten", 1, [](Source& source) -> std::unique_ptr<Operator> {
                           source.map(0);
                           return std::make_unique<Flatten>();
                         }};

}  // namespace onebit
