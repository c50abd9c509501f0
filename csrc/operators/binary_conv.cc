// A convolution of signs by signs: y[o] = scale[o]·(A·B + shift·ΣB) + offset[o]·(A·1 + shift·N) + bias[o].

#include "operators/binary_convolution.h"
#include "operators/window_attributes.h"

namespace onebit {
namespace {

std::unique_ptr<Operator> make(Source& source) {
  const Shape in = source.map(0);
  const Pair kernel = source.pair("kernel", 1, kMaxSize);
  const int64_t channels = source.integer("in_channels", 1, kMaxChannels);
  const WindowAttributes attributes(source, kernel);
  if (channels != in.c) {
    source.refuse("in_channels is " + std::to_string(channels) + ", the map has " + std::to_string(in.c));
  }
  const int64_t products = kernel.first * kernel.second * attributes.group_channels(source, channels, channels);
  BinaryWeights weights = binary_weights(source, channels, products);
  attributes.group_channels(source, channels, weights.out);
  weights.window = attributes.window;
  weights.groups = attributes.groups;
  BinaryConv conv(std::move(weights), source.target().isa, source.target().product);
  return std::make_unique<BinaryConvolution>(std::move(conv), false);
}

}  // namespace

ONEBIT_OPERATOR(binary_conv){"binary_conv", 1, make};

}  // namespace onebit
