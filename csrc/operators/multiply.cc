// y = x·z, where each size of z is that of x or 1: then its one row, column or channel counts for all.

#include <algorithm>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

bool fit(const Shape& x, const Shape& z) {
  const auto size = [](int64_t all, int64_t own) { return own == all || own == 1; };
  return (z.vector || !x.vector) && size(x.h, z.h) && size(x.w, z.w) && size(x.c, z.c);
}

class Multiplication : public Operator {
 public:
  Shape infer(const std::vector<Shape>& in) const override {
    require(fit(in[0], in[1]), "multiply: the sizes differ");
    return in[0];
  }
  int64_t rows_needed(const Layout& layout, int input, int64_t y) const override {
    return std::min(y + 1, layout.in[input].h);
  }
  int64_t rows_seen() const override { return 1; }

  void row(const Row& r) const override {
    const Shape all = r.layout.in[0], own = r.layout.in[1];
    const float *x = r.inputs[0].at(r.y), *z = r.inputs[1].at(own.h == 1 ? 0 : r.y);
    float* to = r.finish.out;
    // Runs of x that are multiplied by as many values, or by one.
    const bool rows = own.c == all.c && own.w == all.w;
    const int64_t run = rows ? all.w * all.c : all.c, step = own.w == 1 ? 0 : own.c;
    for (int64_t at = 0; at < all.w * all.c; at += run, z += step) {
      if (own.c == all.c) {
        for (int64_t i = 0; i < run; ++i) to[at + i] = x[at + i] * z[i];
      } else {
        for (int64_t i = 0; i < run; ++i) to[at + i] = x[at + i] * *z;
      }
    }
  }
};

}  // namespace

ONEBIT_OPERATOR(multiply){
    "multiply", 2, [](Source& source) -> std::unique_ptr<Operator> {
      const Shape x = source.shape(0), z = source.shape(1);
      if (!fit(x, z)) {
        source.refuse("needs a second input whose sizes are the first's or 1, got " + show(x) + " and " + show(z));
      }
      return std::make_unique<Multiplication>();
    }};

}  // namespace onebit
