// The channels of one input, then those of the other.

#include <algorithm>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

bool fit(const Shape& x, const Shape& y) { return x.h == y.h && x.w == y.w && x.vector == y.vector; }

class Concat : public Operator {
 public:
  Shape infer(const std::vector<Shape>& in) const override {
    require(fit(in[0], in[1]), "concat: heights, widths or kinds differ");
    return {in[0].h, in[0].w, in[0].c + in[1].c, in[0].vector};
  }
  int64_t rows_needed(const Layout&, int, int64_t y) const override { return y + 1; }
  int64_t rows_seen() const override { return 1; }

  void row(const Row& r) const override {
    const int64_t first = r.layout.in[0].c, second = r.layout.in[1].c;
    const float *x = r.inputs[0].at(r.y), *y = r.inputs[1].at(r.y);
    float* to = r.finish.out;
    for (int64_t at = 0; at < r.layout.out.w; ++at, x += first, y += second) {
      to = std::copy_n(x, first, to);
      to = std::copy_n(y, second, to);
    }
  }
};

}  // namespace

ONEBIT_OPERATOR(concat){
    "concat", 2, [](Source& source) -> std::unique_ptr<Operator> {
      const Shape x = source.shape(0), y = source.shape(1);
      if (!fit(x, y)) {
        source.refuse("needs two maps of one height and width, or two vectors, got " + show(x) + " and " + show(y));
      }
      return std::make_unique<Concat>();
    }};

}  // namespace onebit
