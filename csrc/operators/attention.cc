// Attention (convolutions/attention.h) of a sequence q to another, k, whose values are v.

#include <algorithm>

#include "operators/sequences.h"

namespace onebit {
namespace {

class AttentionOperator : public Operator {
 public:
  explicit AttentionOperator(Attention attention) : attention_(attention) {}

  Shape infer(const std::vector<Shape>& in) const override { return infer_attention(in, attention_.heads()); }

  void plan(Layout& layout, bool) const override { layout.rows = attention_.band(layout.in[0], layout.in[2]); }
  void reserve(const Layout& layout, Scratch& scratch) const override {
    attention_.reserve(layout.in[0], layout.in[1], layout.in[2], scratch.attention);
  }

  int64_t rows_needed(const Layout& layout, int input, int64_t y) const override {
    return input == 0 ? y + 1 : layout.in[input].h;
  }
  bool strips() const override { return true; }

  void begin(const Layout& layout, const Map* inputs, const Packed&, Range rows, Scratch& scratch) const override {
    attention_.run(inputs[0], layout.in[1], inputs[1], layout.in[2], inputs[2], mask_of(layout, inputs), rows,
                   scratch.attention);
  }

  void row(const Row& r) const override {
    const AttentionScratch& made = r.scratch.attention;
    const int64_t channels = r.layout.out.c;
    std::copy_n(made.sums.data() + (r.y - made.first) * channels, r.count * channels, r.finish.out);
  }

  Work work(const Layout& layout, const Packed&) const override {
    return {"float", attention_.products(layout.in[1], layout.in[2])};
  }

 private:
  Attention attention_;
};

std::unique_ptr<Operator> make(Source& source) {
  const int64_t heads = checked_heads(source);
  const double scale = source.number("scale");
  return std::make_unique<AttentionOperator>(Attention(heads, static_cast<float>(scale), source.target().isa));
}

}  // namespace

ONEBIT_OPERATOR(attention){"attention", 3, make, kFourth, 1};

}  // namespace onebit
