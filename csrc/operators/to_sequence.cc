// (H, W, C) -> (H·W, 1, C): the pixels, row by row.

#include <algorithm>

#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

class ToSequence : public Operator {
 public:
  Shape infer(const std::vector<Shape>& in) const override { return {in[0].h * in[0].w, 1, in[0].c}; }
  int64_t rows_needed(const Layout& layout, int, int64_t y) const override { return y / layout.in[0].w + 1; }
  int64_t rows_seen() const override { return 1; }

  void row(const Row& r) const override {
    const int64_t width = r.layout.in[0].w, channels = r.layout.out.c;
    std::copy_n(r.inputs[0].at(r.y / width) + r.y % width * channels, channels, r.finish.out);
  }
};

}  // namespace

ONEBIT_OPERATOR(to_sequence){"to_sequence", 1, [](Source& source) -> std::unique_ptr<Operator> {
                               source.map(0);
                               return std::make_unique<ToSequence>();
                             }};

}  // namespace onebit
