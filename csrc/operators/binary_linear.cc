// As binary_conv, of a vector: every weight is valid, N = I.

#include "operators/binary_convolution.h"
#include "operators/source.h"

namespace onebit {
namespace {

std::unique_ptr<Operator> make(Source& source) {
  const int64_t channels = source.vector(0).c;
  BinaryWeights weights = binary_weights(source, channels, channels);
  BinaryConv conv(std::move(weights), source.target().isa, nullptr);
  return std::make_unique<BinaryConvolution>(std::move(conv), true);
}

}  // namespace

ONEBIT_OPERATOR(binary_linear){"binary_linear", 1, make};

}  // namespace onebit
