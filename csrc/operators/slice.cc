// Elements start, start + step, ... below stop along an axis.

#include <algorithm>

#include "base/require.h"
#include "operators/along.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

constexpr int64_t kMost = int64_t{1} << 28;  // elements of an activation, and so any of its sizes

class Slice : public Operator {
 public:
  explicit Slice(Source& source)
      : axis_(along(source)),
        start_(source.integer("start", 0, kMost)),
        stop_(source.integer("stop", 1, kMost)),
        step_(source.integer("step", 1, kMost, 1)) {
    if (stop_ <= start_) {
      source.refuse("stop " + std::to_string(stop_) + " must be more than start " + std::to_string(start_));
    }
    Shape in = source.shape(0);
    if (stop_ > size_along(in, axis_)) {
      source.refuse("stop " + std::to_string(stop_) + " is beyond the size " + std::to_string(size_along(in, axis_)) +
                    " of its input");
    }
  }

  Shape infer(const std::vector<Shape>& in) const override {
    Shape out = in[0];
    int64_t& size = size_along(out, axis_);
    require(stop_ <= size, "slice: stop is beyond the size of the input");
    size = (stop_ - start_ + step_ - 1) / step_;
    return out;
  }

  int64_t rows_needed(const Layout&, int, int64_t y) const override { return source_row(y) + 1; }
  int64_t rows_seen() const override { return 1; }

  void row(const Row& r) const override {
    const Shape in = r.layout.in[0], out = r.layout.out;
    const float* from = r.inputs[0].at(source_row(r.y));
    float* to = r.finish.out;
    switch (axis_) {
      case Along::height:
        std::copy_n(from, out.w * out.c, to);
        return;
      case Along::width:
        from += start_ * in.c;
        for (int64_t at = 0; at < out.w; ++at) to = std::copy_n(from + at * step_ * in.c, out.c, to);
        return;
      case Along::channels:
        from += start_;
        for (int64_t at = 0; at < out.w; ++at, from += in.c, to += out.c) {
          if (step_ == 1) std::copy_n(from, out.c, to);
          for (int64_t c = 0; step_ != 1 && c < out.c; ++c) to[c] = from[c * step_];
        }
    }
  }

 private:
  int64_t source_row(int64_t y) const { return axis_ == Along::height ? start_ + y * step_ : y; }

  Along axis_;
  int64_t start_, stop_, step_;
};

}  // namespace

ONEBIT_OPERATOR(slice){"slice", 1,
                       [](Source& source) -> std::unique_ptr<Operator> { return std::make_unique<Slice>(source); }};

}  // namespace onebit
