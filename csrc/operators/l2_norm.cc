// y = scale·x / max(sqrt(Σ x^2), 1e-12) over the channels of each pixel, or of the vector; all but the product in
// double.

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

constexpr double kSmallest = 1e-12;

// Of N pixels (N, C): the additions wait for each other in one pixel only.
template <int N>
void norms(const float* x, int64_t channels, double* norm) {
  double sums[N] = {};
  for (int64_t c = 0; c < channels; ++c) {
    for (int n = 0; n < N; ++n) {
      const double value = static_cast<double>(x[n * channels + c]);
      sums[n] += value * value;
    }
  }
  for (int n = 0; n < N; ++n) norm[n] = std::max(std::sqrt(sums[n]), kSmallest);
}

class L2Norm : public Operator {
 public:
  explicit L2Norm(Source& source) : scale_(source.floats("channels", {1, source.shape(0).c})) {}

  Shape infer(const std::vector<Shape>& in) const override {
    require(in[0].c == static_cast<int64_t>(scale_.size()), "the parameters are for another number of channels");
    return in[0];
  }
  int64_t rows_needed(const Layout&, int, int64_t y) const override { return y + 1; }
  int64_t rows_seen() const override { return 1; }
  int64_t weight_bytes() const override { return static_cast<int64_t>(scale_.size() * sizeof(float)); }

  void row(const Row& r) const override {
    constexpr int kPixels = 8;
    const int64_t channels = r.layout.out.c;
    const float* x = r.inputs[0].at(r.y);  // (W, C)
    float* out = r.finish.out;
    double norm[kPixels];
    for (int64_t at = 0; at < r.layout.out.w;) {
      const bool many = at + kPixels <= r.layout.out.w;
      (many ? norms<kPixels> : norms<1>)(x, channels, norm);
      for (int n = 0; n < (many ? kPixels : 1); ++n, ++at, x += channels, out += channels) {
        for (int64_t c = 0; c < channels; ++c) {
          out[c] = scale_[c] * static_cast<float>(static_cast<double>(x[c]) / norm[n]);
        }
      }
    }
  }

 private:
  const std::vector<float> scale_;  // (C)
};

}  // namespace

ONEBIT_OPERATOR(l2_norm){"l2_norm", 1,
                         [](Source& source) -> std::unique_ptr<Operator> { return std::make_unique<L2Norm>(source); }};

}  // namespace onebit
