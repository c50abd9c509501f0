// y[h, w, c] = x[h, w, c] + weight[h, c], of at most P rows: weight (P, C).

#include <string>
#include <utility>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

class Positions : public Operator {
 public:
  explicit Positions(Weight weight) : rows_(weight.shape[0]), weight_(std::move(weight.values)) {}

  Shape infer(const std::vector<Shape>& in) const override {
    require(in[0].c * rows_ == static_cast<int64_t>(weight_.size()), "positions: another number of channels");
    require(in[0].h <= rows_, "positions: more rows than there are positions");
    return in[0];
  }
  int64_t rows_needed(const Layout&, int, int64_t y) const override { return y + 1; }
  bool strips() const override { return true; }

  void row(const Row& r) const override {
    const int64_t channels = r.layout.out.c, width = r.layout.out.w;
    float* out = r.finish.out;
    for (int64_t y = r.y; y < r.y + r.count; ++y) {
      const float *x = r.inputs[0].at(y), *weight = weight_.data() + y * channels;
      for (int64_t at = 0; at < width; ++at, x += channels, out += channels) {
        for (int64_t c = 0; c < channels; ++c) out[c] = x[c] + weight[c];
      }
    }
  }

  int64_t weight_bytes() const override { return static_cast<int64_t>(weight_.size() * sizeof(float)); }

 private:
  int64_t rows_;
  std::vector<float> weight_;  // (P, C)
};

std::unique_ptr<Operator> make(Source& source) {
  const Shape in = source.map(0);
  Weight weight = source.weight({0, in.c});
  const int64_t rows = weight.shape[0];
  if (rows > kMaxSize) {
    source.refuse(std::to_string(rows) + " positions, at most " + std::to_string(kMaxSize) + " are supported");
  }
  if (in.h > rows) {
    source.refuse("has " + std::to_string(rows) + " positions, its input " + std::to_string(in.h) +
                  " rows; give a shorter one");
  }
  return std::make_unique<Positions>(std::move(weight));
}

}  // namespace

ONEBIT_OPERATOR(positions){"positions", 1, make};

}  // namespace onebit
