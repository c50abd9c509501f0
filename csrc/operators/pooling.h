// max_pool and avg_pool: the maximum or the mean of windows, as PyTorch.
#pragma once

#include <algorithm>
#include <vector>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {

class Pooling : public Operator {
 public:
  // Over the pixels of windows, as StepKernels has them.
  using Reduce = void (*)(const Windows& windows, float* out);

  // Reads the attributes that both have; `mean` divides what is reduced by the number of pixels.
  Pooling(Source& source, Reduce reduce, bool mean) : reduce_(reduce), mean_(mean) {
    source.map(0);
    const Pair kernel = source.pair("kernel", 1, kMaxSize), stride = source.pair("stride", 1, kMaxSize);
    const Pair padding = source.pair("padding", 0, kMaxSize, {0, 0});
    if (2 * padding.first > kernel.first || 2 * padding.second > kernel.second) {
      source.refuse("padding " + show(padding) + " must be at most half of the kernel " + show(kernel));
    }
    rows_ = {kernel.first, stride.first, padding.first, 1};
    columns_ = {kernel.second, stride.second, padding.second, 1};
    ceil_mode_ = source.boolean("ceil_mode", false);
    if (mean) count_include_pad_ = source.boolean("count_include_pad", true);
  }

  Shape infer(const std::vector<Shape>& in) const override {
    return {size(rows_, in[0].h), size(columns_, in[0].w), in[0].c};
  }
  int64_t rows_needed(const Layout& layout, int, int64_t y) const override { return rows_.seen(y, layout.in[0].h); }
  int64_t rows_seen() const override { return rows_.span(); }

  void row(const Row& r) const override {
    const Shape in = r.layout.in[0], out = r.layout.out;
    std::vector<const float*> taps;
    taps.reserve(std::min(rows_.kernel, in.h) * std::min(columns_.kernel, in.w));
    const int64_t top = rows_.origin(r.y), row_begin = std::max<int64_t>(top, 0);
    const int64_t row_end = std::min(top + rows_.kernel, in.h);
    std::vector<const float*> seen;  // rows
    for (int64_t row = row_begin; row < row_end; ++row) seen.push_back(r.inputs[0].at(row));
    float* to = r.finish.out;
    // Windows that lie inside the row are taken together: they differ in their place alone.
    const auto lies_inside = [&](int64_t at) {
      const int64_t left = columns_.origin(at);
      return left >= 0 && left + columns_.kernel <= in.w;
    };
    for (int64_t at = 0, count; at < out.w; at += count, to += count * out.c) {
      const int64_t left = columns_.origin(at), column_begin = std::max<int64_t>(left, 0);
      const int64_t column_end = std::min(left + columns_.kernel, in.w);
      taps.clear();
      for (const float* row : seen) {
        for (int64_t column = column_begin; column < column_end; ++column) taps.push_back(row + column * in.c);
      }
      count = 1;
      while (lies_inside(at) && at + count < out.w && lies_inside(at + count)) ++count;
      const size_t step = columns_.stride * in.c;
      reduce_({taps.data(), taps.size(), step, static_cast<size_t>(count), static_cast<size_t>(in.c)}, to);
      if (!mean_) continue;
      const int64_t whole = (std::min(top + rows_.kernel, in.h + rows_.padding) - top) *
                            (std::min(left + columns_.kernel, in.w + columns_.padding) - left);
      divide(to, count * in.c, count_include_pad_ ? whole : static_cast<int64_t>(taps.size()));
    }
  }

 private:
  // Of a power of two the reciprocal is exact, and so a product is the quotient, in a fraction of its time.
  static void divide(float* x, int64_t n, int64_t by) {
    const float number = static_cast<float>(by);
    if ((by & (by - 1)) == 0) {
      for (int64_t i = 0; i < n; ++i) x[i] *= 1 / number;
    } else {
      for (int64_t i = 0; i < n; ++i) x[i] /= number;
    }
  }

  // With ceil_mode the last window must start inside the image or its leading padding.
  int64_t size(const Axis& axis, int64_t n) const {
    const int64_t span = n + 2 * axis.padding - axis.kernel;
    require(span >= 0, "the image is too small");
    const int64_t out = (ceil_mode_ ? span + axis.stride - 1 : span) / axis.stride + 1;
    return ceil_mode_ && (out - 1) * axis.stride >= n + axis.padding ? out - 1 : out;
  }

  const Reduce reduce_;
  const bool mean_;
  Axis rows_, columns_;
  bool ceil_mode_ = false, count_include_pad_ = true;
};

}  // namespace onebit
