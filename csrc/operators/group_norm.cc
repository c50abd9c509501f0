// A map normalised over its pixels and the channels of each group.

#include <algorithm>
#include <cmath>
#include <string>

#include "operators/normalization.h"

namespace onebit {
namespace {

class GroupNorm : public Normalization {
 public:
  explicit GroupNorm(Source& source)
      : Normalization(source, source.map(0).c), groups_(source.integer("groups", 1, kMaxSize)) {
    if (channels_ % groups_) {
      source.refuse("groups " + std::to_string(groups_) + " must divide " + std::to_string(channels_) + " channels");
    }
  }

  void plan(Layout& layout, bool) const override { layout.rows = layout.out.h; }

  void begin(const Layout& layout, const Map* inputs, const Packed&, Range, Scratch& scratch) const override {
    const int64_t pixels = layout.in[0].h * layout.in[0].w, each = channels_ / groups_;
    const double count = static_cast<double>(pixels * each);
    double *mean = scratch.moments.data(), *deviation = mean + channels_;
    std::fill_n(mean, 2 * channels_, 0.0);
    // The first element of each group takes its sum; then all have the quotient.
    const auto over_groups = [&](double* sums, auto value, auto quotient) {
      const float* x = inputs[0].data;
      for (int64_t pixel = 0; pixel < pixels; ++pixel) {
        for (int64_t c = 0; c < channels_; c += each, x += each) {
          double sum = sums[c];
          for (int64_t i = 0; i < each; ++i) sum += value(static_cast<double>(x[i]), c);
          sums[c] = sum;
        }
      }
      for (int64_t c = 0; c < channels_; c += each) std::fill_n(sums + c, each, quotient(sums[c] / count));
    };
    over_groups(mean, [](double x, int64_t) { return x; }, [](double sum) { return sum; });
    over_groups(
        deviation, [&](double x, int64_t c) { return (x - mean[c]) * (x - mean[c]); },
        [&](double variance) { return std::sqrt(variance + eps_); });
  }

  void row(const Row& r) const override {
    const float* x = r.inputs[0].at(r.y);
    for (int64_t at = 0; at < r.layout.out.w * channels_; at += channels_) {
      normalize(x + at, r.scratch, r.finish.out + at);
    }
  }

 private:
  const int64_t groups_;
};

}  // namespace

ONEBIT_OPERATOR(group_norm){
    "group_norm", 1, [](Source& source) -> std::unique_ptr<Operator> { return std::make_unique<GroupNorm>(source); }};

}  // namespace onebit
