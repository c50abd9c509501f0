// A map enlarged by whole factors: the nearest pixel, or the weighted mean of the two on both sides along each axis.

#include <algorithm>

#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

// Where an output position lies: between `first` and `second` of the input, so much of the way.
struct Place {
  int64_t first, second;
  float part;
};

class Upsample : public Operator {
 public:
  explicit Upsample(Source& source) {
    source.map(0);
    scale_ = source.pair("scale", 1, kMaxSize);
    bilinear_ = source.word("mode", {"nearest", "bilinear"}) == 1;
    align_corners_ = source.boolean("align_corners", false);
    if (align_corners_ && !bilinear_) source.refuse("align_corners is for the mode bilinear; leave it out");
  }

  Shape infer(const std::vector<Shape>& in) const override {
    return {in[0].h * scale_.first, in[0].w * scale_.second, in[0].c};
  }
  int64_t rows_needed(const Layout& layout, int, int64_t y) const override {
    return place(y, layout.in[0].h, scale_.first).second + 1;
  }
  int64_t rows_seen() const override { return bilinear_ ? 2 : 1; }

  void row(const Row& r) const override {
    const Shape in = r.layout.in[0];
    const Place down = place(r.y, in.h, scale_.first);
    const float *top = r.inputs[0].at(down.first), *bottom = r.inputs[0].at(down.second);
    const int64_t channels = in.c;
    float* to = r.finish.out;
    if (!bilinear_) {
      for (int64_t at = 0; at < in.w; ++at) {
        for (int64_t i = 0; i < scale_.second; ++i) to = std::copy_n(top + at * channels, channels, to);
      }
      return;
    }
    const float above = 1.0f - down.part, below = down.part;
    for (int64_t at = 0; at < r.layout.out.w; ++at, to += channels) {
      const Place across = place(at, in.w, scale_.second);
      const float before = 1.0f - across.part, behind = across.part;
      const float *x = top + across.first * channels, *next = top + across.second * channels;
      const float *z = bottom + across.first * channels, *other = bottom + across.second * channels;
      for (int64_t c = 0; c < channels; ++c) {
        const float upper = before * x[c] + behind * next[c], lower = before * z[c] + behind * other[c];
        to[c] = above * upper + below * lower;
      }
    }
  }

 private:
  // The position (out + 1/2) / scale - 1/2, not less than 0, or out·(size - 1) / (size·scale - 1) with align_corners,
  // is a quotient of integers, whose rest is rounded once to a double and once to a float.
  Place place(int64_t out, int64_t size, int64_t scale) const {
    if (!bilinear_) return {out / scale, out / scale, 0};
    const int64_t numerator = align_corners_ ? out * (size - 1) : std::max<int64_t>(2 * out + 1 - scale, 0);
    const int64_t denominator = align_corners_ ? std::max<int64_t>(size * scale - 1, 1) : 2 * scale;
    const int64_t first = numerator / denominator;
    const double rest = static_cast<double>(numerator % denominator) / static_cast<double>(denominator);
    return {first, std::min(first + 1, size - 1), static_cast<float>(rest)};
  }

  Pair scale_;
  bool bilinear_, align_corners_;
};

}  // namespace

ONEBIT_OPERATOR(upsample){
    "upsample", 1, [](Source& source) -> std::unique_ptr<Operator> { return std::make_unique<Upsample>(source); }};

}  // namespace onebit
