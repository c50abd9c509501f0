// Of T tokens, which are whole numbers below V: (T, 1, 1) -> (T, 1, C), the row of each in a weight (V, C).

#include <algorithm>

#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

class Embedding : public Operator {
 public:
  Embedding(std::vector<float> rows, int64_t channels) : rows_(std::move(rows)), channels_(channels) {}

  Shape infer(const std::vector<Shape>& in) const override { return {in[0].h, 1, channels_}; }
  int64_t rows_needed(const Layout&, int, int64_t y) const override { return y + 1; }

  void row(const Row& r) const override {
    const int64_t token = static_cast<int64_t>(*r.inputs[0].at(r.y));  // checked when it was given
    std::copy_n(rows_.data() + token * channels_, channels_, r.finish.out);
  }

  int64_t weight_bytes() const override { return static_cast<int64_t>(rows_.size() * sizeof(float)); }

 private:
  std::vector<float> rows_;
  int64_t channels_;
};

std::unique_ptr<Operator> make(Source& source) {
  Weight weight = source.weight({source.given(0)->count, 0});
  return std::make_unique<Embedding>(std::move(weight.values), weight.shape[1]);
}

}  // namespace

ONEBIT_OPERATOR(embedding){"embedding", 1, make, true};

}  // namespace onebit
