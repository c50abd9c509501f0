// Attention of bits (convolutions/binary_attention.h) of a sequence q to another, k, whose values are v.

#include <utility>

#include "operators/sequences.h"

namespace onebit {
namespace {

std::unique_ptr<Operator> make(Source& source) {
  BinaryAttentionWeights weights;
  weights.heads = checked_heads(source);
  weights.scale = static_cast<float>(source.number("scale"));
  weights.level = static_cast<float>(source.number("level"));
  weights.factor = static_cast<float>(source.number("factor"));
  weights.softmax = source.boolean("softmax", true);
  weights.query = source.floats("query", {source.shape(0).c});
  weights.key = source.floats("key", {source.shape(1).c});
  weights.value = source.floats("value", {source.shape(2).c});
  BinaryAttention attention(std::move(weights), source.target().isa);
  return std::make_unique<SequenceAttention<BinaryAttention, &Scratch::binary_attention>>(std::move(attention),
                                                                                          "binary");
}

}  // namespace

ONEBIT_OPERATOR(binary_attention){"binary_attention", 3, make, kFourth, 1};

}  // namespace onebit
