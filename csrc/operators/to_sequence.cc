// (H, W, C) -> (H·W·parts, 1, C / parts): the pixels, row by row, and of each its channels in so many parts.

#include <algorithm>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

class ToSequence : public Operator {
 public:
  explicit ToSequence(Source& source) : parts_(source.integer("parts", 1, kMaxSize, 1)) {
    const int64_t channels = source.map(0).c;
    if (channels % parts_) {
      source.refuse("parts " + std::to_string(parts_) + " must divide " + std::to_string(channels) + " channels");
    }
  }

  Shape infer(const std::vector<Shape>& in) const override {
    require(in[0].c % parts_ == 0, "the parts must divide the channels");
    return {in[0].h * in[0].w * parts_, 1, in[0].c / parts_};
  }
  int64_t rows_needed(const Layout& layout, int, int64_t y) const override { return y / (layout.in[0].w * parts_) + 1; }
  int64_t rows_seen() const override { return 1; }

  void row(const Row& r) const override {
    const int64_t each = r.layout.in[0].w * parts_, channels = r.layout.out.c;  // rows of a row
    std::copy_n(r.inputs[0].at(r.y / each) + r.y % each * channels, channels, r.finish.out);
  }

 private:
  const int64_t parts_;
};

}  // namespace

ONEBIT_OPERATOR(to_sequence){
    "to_sequence", 1, [](Source& source) -> std::unique_ptr<Operator> { return std::make_unique<ToSequence>(source); }};

}  // namespace onebit
