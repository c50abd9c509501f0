// Each pixel, or the vector, normalised over its channels.

#include <algorithm>
#include <cmath>

#include "operators/normalization.h"

namespace onebit {
namespace {

// The sums over the channels of each of N pixels (N, C): their additions wait for each other in one pixel only.
template <int N>
void moments(const float* x, int64_t channels, double eps, double* mean, double* deviation) {
  double sums[N] = {}, squares[N] = {};
  for (int64_t c = 0; c < channels; ++c) {
    for (int n = 0; n < N; ++n) sums[n] += static_cast<double>(x[n * channels + c]);
  }
  for (int n = 0; n < N; ++n) mean[n] = sums[n] / static_cast<double>(channels);
  for (int64_t c = 0; c < channels; ++c) {
    for (int n = 0; n < N; ++n) {
      const double from_mean = static_cast<double>(x[n * channels + c]) - mean[n];
      squares[n] += from_mean * from_mean;
    }
  }
  for (int n = 0; n < N; ++n) deviation[n] = std::sqrt(squares[n] / static_cast<double>(channels) + eps);
}

class LayerNorm : public Normalization {
 public:
  using Normalization::Normalization;

  int64_t rows_needed(const Layout&, int, int64_t y) const override { return y + 1; }
  int64_t rows_seen() const override { return 1; }
  bool strips() const override { return true; }

  void row(const Row& r) const override {
    constexpr int kPixels = 8;
    const float* x = r.inputs[0].at(r.y);
    float* out = r.finish.out;
    double mean[kPixels], deviation[kPixels];
    const int64_t pixels = r.count * r.layout.out.w;
    for (int64_t at = 0; at < pixels;) {
      const bool many = at + kPixels <= pixels;
      (many ? moments<kPixels> : moments<1>)(x, channels_, eps_, mean, deviation);
      for (int n = 0; n < (many ? kPixels : 1); ++n, ++at, x += channels_, out += channels_) {
        double* const own = r.scratch.moments.data();
        std::fill_n(own, channels_, mean[n]);
        std::fill_n(own + channels_, channels_, deviation[n]);
        normalize(x, r.scratch, out);
      }
    }
  }
};

}  // namespace

ONEBIT_OPERATOR(layer_norm){"layer_norm", 1, [](Source& source) -> std::unique_ptr<Operator> {
                              return std::make_unique<LayerNorm>(source, source.shape(0).c);
                            }};

}  // namespace onebit
