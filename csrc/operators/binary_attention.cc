// Attention of bits (convolutions/binary_attention.h) of a sequence q to another, k, whose values are v.

#include <algorithm>
#include <utility>

#include "operators/sequences.h"

namespace onebit {
namespace {

class BinaryAttentionOperator : public Operator {
 public:
  explicit BinaryAttentionOperator(BinaryAttention attention) : attention_(std::move(attention)) {}

  Shape infer(const std::vector<Shape>& in) const override {
    require(attention_.fits(in[0].c, in[2].c), "binary_attention: thresholds of another number of channels");
    return infer_attention(in, attention_.heads());
  }

  void plan(Layout& layout, bool) const override { layout.rows = attention_.band(layout.in[0], layout.in[2]); }
  void reserve(const Layout& layout, Scratch& scratch) const override {
    attention_.reserve(layout.in[0], layout.in[1], layout.in[2], scratch.binary_attention);
  }

  int64_t rows_needed(const Layout& layout, int input, int64_t y) const override {
    return input == 0 ? y + 1 : layout.in[input].h;
  }
  bool strips() const override { return true; }

  void begin(const Layout& layout, const Map* inputs, const Packed&, Range rows, Scratch& scratch) const override {
    attention_.run(inputs[0], layout.in[1], inputs[1], layout.in[2], inputs[2], mask_of(layout, inputs), rows,
                   scratch.binary_attention);
  }

  void row(const Row& r) const override {
    const BinaryAttentionScratch& made = r.scratch.binary_attention;
    const int64_t channels = r.layout.out.c;
    std::copy_n(made.sums.data() + (r.y - made.first) * channels, r.count * channels, r.finish.out);
  }

  int64_t weight_bytes() const override { return attention_.weight_bytes(); }
  Work work(const Layout& layout, const Packed&) const override {
    return {"binary", attention_.products(layout.in[1], layout.in[2])};
  }

 private:
  BinaryAttention attention_;
};

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
  return std::make_unique<BinaryAttentionOperator>(BinaryAttention(std::move(weights), source.target().isa));
}

}  // namespace

ONEBIT_OPERATOR(binary_attention){"binary_attention", 3, make, kFourth, 1};

}  // namespace onebit
