// Attention (convolutions/attention.h) of a sequence q to another, k, whose values are v.

#include "operators/sequences.h"

namespace onebit {
namespace {

std::unique_ptr<Operator> make(Source& source) {
  const int64_t heads = checked_heads(source);
  const double scale = source.number("scale");
  Attention attention(heads, static_cast<float>(scale), source.target().isa);
  return std::make_unique<SequenceAttention<Attention, &Scratch::attention>>(attention, "float");
}

}  // namespace

ONEBIT_OPERATOR(attention){"attention", 3, make, kFourth, 1};

}  // namespace onebit
