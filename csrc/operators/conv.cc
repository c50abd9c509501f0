// A convolution with zero padding: y[o] = bias[o] + Σ over the taps (kh, kw) and channels of x·weight[o].

#include <cmath>

#include "convolutions/depthwise_conv.h"
#include "operators/code_convolution.h"
#include "operators/float_convolution.h"
#include "operators/row_convolution.h"
#include "operators/window_attributes.h"

namespace onebit {
namespace {

// The same convolution of an image of bytes (convolutions/byte_conv.h); null if it must take floats.
std::unique_ptr<ByteConv> of_bytes(const Given* given, const Window& window, int64_t groups, const Weight& weight,
                                   const std::vector<float>& bias, Isa isa) {
  if (!given || !given->image() || weight.codes.empty() || groups != 1) return nullptr;
  const int64_t out = weight.shape[0], in = weight.shape[1];
  if (!ByteConv::takes(window, in)) return nullptr;
  ByteWeights bytes;
  bytes.window = window;
  bytes.in = in;
  bytes.out = out;
  for (int64_t c = 0; c < in; ++c) {
    const double mean = given->mean[c], std = given->std[c];
    for (int64_t o = 0; o < out; ++o) {
      const double scale = weight.scale[o];
      bytes.a.push_back(static_cast<float>(scale / (255 * std)));
      bytes.b.push_back(scale * mean / std);
      if (!std::isfinite(bytes.a.back()) || !std::isfinite(bytes.b.back())) return nullptr;
    }
  }
  bytes.q = weight.codes;
  bytes.bias.assign(bias.begin(), bias.end());
  bytes.bias.resize(out);
  return std::make_unique<ByteConv>(std::move(bytes), isa);
}

std::unique_ptr<Operator> make(Source& source) {
  const Shape in = source.map(0);
  ConvWeight found(source, in);
  const auto& [window, groups] = found.attributes;
  const Isa isa = source.target().isa;
  if (in_codes(source, found.weight, groups)) {
    return code_convolution(source, window, std::move(found.weight), std::move(found.bias), false);
  }
  if (in.c > 1 && groups == in.c) {
    return std::make_unique<RowConvolution<DepthwiseConv>>(
        DepthwiseConv(window, in.c, found.weight.shape[0], found.weight.values, found.bias, isa));
  }
  std::unique_ptr<ByteConv> bytes = of_bytes(source.given(0), window, groups, found.weight, found.bias, isa);
  FloatConv conv(window, in.c, found.weight.shape[0], groups, found.weight.values, found.bias, isa);
  return std::make_unique<FloatConvolution>(std::move(conv), std::move(bytes), false);
}

}  // namespace

ONEBIT_OPERATOR(conv){"conv", 1, make};

}  // namespace onebit
