// A transposed convolution (convolutions/transposed_conv.h), whose weight is that of the ordinary one.

#include <algorithm>

#include "convolutions/transposed_conv.h"
#include "operators/row_convolution.h"
#include "operators/window_attributes.h"

namespace onebit {
namespace {

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
  return std::make_unique<RowConvolution<TransposedConv>>(
      TransposedConv(attributes.window, extra.first, extra.second, in.c, found.weight.shape[0], attributes.groups,
                     found.weight.values, found.bias, source.target().isa));
}

}  // namespace

ONEBIT_OPERATOR(transposed_conv){"transposed_conv", 1, make};

}  // namespace onebit
