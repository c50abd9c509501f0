// A transposed convolution (convolutions/transposed_conv.h), whose weight is that of the ordinary one.

#include <algorithm>
#include <utility>

#include "convolutions/transposed_conv.h"
#include "operators/operator.h"
#include "operators/window_attributes.h"

namespace onebit {
namespace {

class Transposed : public Operator {
 public:
  explicit Transposed(TransposedConv conv) : conv_(std::move(conv)) {}

  Shape infer(const std::vector<Shape>& in) const override { return conv_.out_shape(in[0]); }
  void reserve(const Layout&, Scratch& scratch) const override { conv_.reserve(scratch.floats); }
  int64_t rows_needed(const Layout& layout, int, int64_t y) const override {
    return conv_.rows_needed(y, layout.in[0].h);
  }
  int64_t rows_seen() const override { return conv_.rows_seen(); }
  bool applies_step() const override { return true; }

  void row(const Row& r) const override {
    conv_.row(r.layout.in[0], r.inputs[0], r.y, r.apply, r.finish, r.scratch.floats);
  }

  int64_t weight_bytes() const override { return conv_.weight_bytes(); }
  Work work(const Layout&, const Packed&) const override { return {"float", conv_.products()}; }

 private:
  TransposedConv conv_;
};

std::unique_ptr<Operator> make(Source& source) {
  const Shape in = source.map(0);
  const ConvWeight found(source, in);
  const WindowAttributes& attributes = found.attributes;
  const Axis &rows = attributes.window.rows, &columns = attributes.window.columns;
  const Pair extra = source.pair("output_padding", 0, kMaxSize, {0, 0});
  if (extra.first >= std::max(rows.stride, rows.dilation) ||
      extra.second >= std::max(columns.stride, columns.dilation)) {
    source.refuse("output_padding " + show(extra) + " must be less than stride " +
                  show(Pair{rows.stride, columns.stride}) + " or dilation " +
                  show(Pair{rows.dilation, columns.dilation}));
  }
  return std::make_unique<Transposed>(TransposedConv(attributes.window, extra.first, extra.second, in.c,
                                                     found.weight.shape[0], attributes.groups, found.weight.values,
                                                     found.bias, source.target().isa));
}

}  // namespace

ONEBIT_OPERATOR(transposed_conv){"transposed_conv", 1, make};

}  // namespace onebit
