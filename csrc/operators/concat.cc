// One input, then the other, along an axis.

#include <algorithm>

#include "base/require.h"
#include "operators/along.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

// Whether the sizes beside the axis are equal.
bool fit(Along axis, Shape x, Shape y) {
  size_along(x, axis) = size_along(y, axis) = 1;
  return x == y;
}

class Concat : public Operator {
 public:
  explicit Concat(Along axis) : axis_(axis) {}

  Shape infer(const std::vector<Shape>& in) const override {
    require(fit(axis_, in[0], in[1]), "concat: sizes beside the axis, or kinds differ");
    Shape out = in[0], second = in[1];
    size_along(out, axis_) += size_along(second, axis_);
    return out;
  }

  int64_t rows_needed(const Layout& layout, int input, int64_t y) const override {
    if (axis_ != Along::height) return y + 1;
    const int64_t first = layout.in[0].h;
    return input == 0 ? std::min(y + 1, first) : std::max<int64_t>(y + 1 - first, 0);
  }
  int64_t rows_seen() const override { return 1; }

  void row(const Row& r) const override {
    const Shape x = r.layout.in[0], y = r.layout.in[1];
    float* to = r.finish.out;
    if (axis_ == Along::height) {
      std::copy_n(r.y < x.h ? r.inputs[0].at(r.y) : r.inputs[1].at(r.y - x.h), x.w * x.c, to);
      return;
    }
    // Of a width, all pixels of one are followed by all of the other.
    const int64_t pixels = axis_ == Along::width ? 1 : x.w, first = x.w * x.c / pixels, second = y.w * y.c / pixels;
    const float *from = r.inputs[0].at(r.y), *other = r.inputs[1].at(r.y);
    for (int64_t at = 0; at < pixels; ++at, from += first, other += second) {
      to = std::copy_n(from, first, to);
      to = std::copy_n(other, second, to);
    }
  }

 private:
  Along axis_;
};

std::unique_ptr<Operator> make(Source& source) {
  const Along axis = along(source, "channels");
  const Shape x = source.shape(0), y = source.shape(1);
  if (!fit(axis, x, y)) {
    const char* const wanted[] = {"maps of one height and width, or two vectors",
                                  "maps of one width and as many channels",
                                  "maps of one height and as many channels"};  // by Along
    source.refuse(std::string("needs two ") + wanted[static_cast<int>(axis)] + ", got " + show(x) + " and " + show(y));
  }
  return std::make_unique<Concat>(axis);
}

}  // namespace

ONEBIT_OPERATOR(concat){"concat", 2, make};

}  // namespace onebit
