// y[o] = bias[o] + Σ_i x[i]·weight[o, i]

#include "operators/code_convolution.h"
#include "operators/float_convolution.h"
#include "operators/source.h"

namespace onebit {
namespace {

std::unique_ptr<Operator> make(Source& source) {
  const int64_t in = source.vector(0).c;
  if (in > kMaxChannels) {
    source.refuse("has " + std::to_string(in) + " inputs, at most " + std::to_string(kMaxChannels) + " are supported");
  }
  Weight weight = source.weight({0, in});
  const int64_t out = weight.shape[0];
  std::vector<float> bias;
  if (source.has("bias")) bias = source.floats("bias", {out});
  if (in_codes(source, weight, 1)) return code_convolution(source, Window{}, std::move(weight), std::move(bias), true);
  FloatConv conv(Window{}, in, out, 1, weight.values, bias, source.target().isa);
  return std::make_unique<FloatConvolution>(std::move(conv), nullptr, true);
}

}  // namespace

ONEBIT_OPERATOR(linear){"linear", 1, make};

}  // namespace onebit
