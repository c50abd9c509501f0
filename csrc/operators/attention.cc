// Attention (convolutions/attention.h) of a sequence q to another, k, whose values are v.

#include <algorithm>
#include <string>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

bool fit(const std::vector<Shape>& in) {
  return in[0].w == 1 && in[1].w == 1 && in[2].w == 1 && in[0].c == in[1].c && in[1].h == in[2].h;
}

class AttentionOperator : public Operator {
 public:
  explicit AttentionOperator(Attention attention) : attention_(attention) {}

  Shape infer(const std::vector<Shape>& in) const override {
    require(fit(in), "attention: no sequences, or channels or lengths differ");
    require(in[0].c % attention_.heads() == 0 && in[2].c % attention_.heads() == 0,
            "attention: the heads do not divide the channels");
    return {in[0].h, 1, in[2].c};
  }

  void plan(Layout& layout, bool) const override { layout.rows = attention_.band(layout.in[0], layout.in[2]); }
  void reserve(const Layout& layout, Scratch& scratch) const override {
    attention_.reserve(layout.in[0], layout.in[1], layout.in[2], scratch.attention);
  }

  int64_t rows_needed(const Layout& layout, int input, int64_t y) const override {
    return input == 0 ? y + 1 : layout.in[input].h;
  }

  void begin(const Layout& layout, const Map* inputs, const Packed&, Range rows, Scratch& scratch) const override {
    attention_.run(inputs[0], layout.in[1], inputs[1], layout.in[2], inputs[2], rows, scratch.attention);
  }

  void row(const Row& r) const override {
    const AttentionScratch& made = r.scratch.attention;
    const int64_t channels = r.layout.out.c;
    std::copy_n(made.sums.data() + (r.y - made.first) * channels, channels, r.finish.out);
  }

  Work work(const Layout& layout, const Packed&) const override {
    return {"float", attention_.products(layout.in[1], layout.in[2])};
  }

 private:
  Attention attention_;
};

std::unique_ptr<Operator> make(Source& source) {
  const std::vector<Shape> in = {source.map(0), source.map(1), source.map(2)};
  const int64_t heads = source.integer("heads", 1, kMaxSize);
  const double scale = source.number("scale");
  if (!fit(in)) {
    source.refuse("needs sequences (Tq, 1, C), (Tk, 1, C) and (Tk, 1, Cv), got " + show(in[0]) + ", " + show(in[1]) +
                  " and " + show(in[2]));
  }
  if (in[0].c % heads || in[2].c % heads) {
    source.refuse("heads " + std::to_string(heads) + " must divide " + std::to_string(in[0].c) + " and " +
                  std::to_string(in[2].c) + " channels");
  }
  return std::make_unique<AttentionOperator>(Attention(heads, static_cast<float>(scale), source.target().isa));
}

}  // namespace

ONEBIT_OPERATOR(attention){"attention", 3, make};

}  // namespace onebit
