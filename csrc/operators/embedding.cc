// Of T tokens, which are whole numbers below V: (T, 1, 1) -> (T, 1, C), the row of each in a weight (V, C).

#include <algorithm>
#include <utility>

#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

class Embedding : public Operator {
 public:
  explicit Embedding(Weight weight) : weight_(std::move(weight)), channels_(weight_.shape[1]) {
    if (!weight_.codes.empty()) weight_.values = {};  // of which a call reads a few rows
  }

  Shape infer(const std::vector<Shape>& in) const override { return {in[0].h, 1, channels_}; }
  int64_t rows_needed(const Layout&, int, int64_t y) const override { return y + 1; }
  bool strips() const override { return true; }

  void row(const Row& r) const override {
    float* out = r.finish.out;
    for (int64_t y = r.y; y < r.y + r.count; ++y, out += channels_) {
      const int64_t token = static_cast<int64_t>(*r.inputs[0].at(y));  // checked when it was given
      if (weight_.codes.empty()) {
        std::copy_n(weight_.values.data() + token * channels_, channels_, out);
        continue;
      }
      const int8_t* codes = weight_.codes.data() + token * channels_;
      const float scale = weight_.scale[token];
      for (int64_t c = 0; c < channels_; ++c) out[c] = scale * static_cast<float>(codes[c]);
    }
  }

  int64_t weight_bytes() const override {
    return static_cast<int64_t>((weight_.values.size() + weight_.scale.size()) * sizeof(float) + weight_.codes.size());
  }

 private:
  Weight weight_;
  int64_t channels_;
};

std::unique_ptr<Operator> make(Source& source) {
  return std::make_unique<Embedding>(source.weight({source.given(0)->count, 0}));
}

}  // namespace

ONEBIT_OPERATOR(embedding){"embedding", 1, make, kFirst};

}  // namespace onebit
