// What the attentions share: a sequence q (Tq, 1, C) that looks at another, k (Tk, 1, C), with values v (Tk, 1, Cv),
// and perhaps a mask of Tk tokens, 0 for keys that are not there.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {

inline bool are_sequences(const std::vector<Shape>& in) {
  return in[0].w == 1 && in[1].w == 1 && in[2].w == 1 && in[0].c == in[1].c && in[1].h == in[2].h;
}

inline Shape infer_attention(const std::vector<Shape>& in, int64_t heads) {
  require(are_sequences(in), "attention: no sequences, or channels or lengths differ");
  require(in[0].c % heads == 0 && in[2].c % heads == 0, "attention: the heads do not divide the channels");
  require(in.size() < 4 || in[3].h == in[1].h, "attention: the mask has another length than the keys");
  return {in[0].h, 1, in[2].c};
}

// The attribute `heads`, with what it is of checked.
inline int64_t checked_heads(Source& source) {
  std::vector<Shape> in = {source.map(0), source.map(1), source.map(2)};
  const int64_t heads = source.integer("heads", 1, kMaxSize);
  if (!are_sequences(in)) {
    source.refuse("needs sequences (Tq, 1, C), (Tk, 1, C) and (Tk, 1, Cv), got " + show(in[0]) + ", " + show(in[1]) +
                  " and " + show(in[2]));
  }
  if (in[0].c % heads || in[2].c % heads) {
    source.refuse("heads " + std::to_string(heads) + " must divide " + std::to_string(in[0].c) + " and " +
                  std::to_string(in[2].c) + " channels");
  }
  if (source.inputs() == 4 && (source.given(3)->count != 2 || source.shape(3).h != in[1].h)) {
    source.refuse("needs a mask of " + std::to_string(in[1].h) + " tokens from 0 to 1, got " +
                  std::to_string(source.shape(3).h) + " from 0 to " + std::to_string(source.given(3)->count - 1));
  }
  return heads;
}

// The mask's tokens, or null.
inline const float* mask_of(const Layout& layout, const Map* inputs) {
  return layout.in.size() == 4 ? inputs[3].data : nullptr;
}

// The operator of an attention, whose memory is this member of the scratch and whose products are of this kind.
template <typename Kind, auto Memory>
class SequenceAttention : public Operator {
 public:
  SequenceAttention(Kind attention, const char* products) : attention_(std::move(attention)), products_(products) {}

  Shape infer(const std::vector<Shape>& in) const override {
    require(attention_.fits(in[0].c, in[2].c), "attention: thresholds of another number of channels");
    return infer_attention(in, attention_.heads());
  }

  void plan(Layout& layout, bool) const override { layout.rows = attention_.band(layout.in[0], layout.in[2]); }
  void reserve(const Layout& layout, Scratch& scratch) const override {
    attention_.reserve(layout.in[0], layout.in[1], layout.in[2], scratch.*Memory);
  }

  int64_t rows_needed(const Layout& layout, int input, int64_t y) const override {
    return input == 0 ? y + 1 : layout.in[input].h;
  }
  bool strips() const override { return true; }

  void begin(const Layout& layout, const Map* inputs, const Packed&, Range rows, Scratch& scratch) const override {
    attention_.run(inputs[0], layout.in[1], inputs[1], layout.in[2], inputs[2], mask_of(layout, inputs), rows,
                   scratch.*Memory);
  }

  void row(const Row& r) const override {
    const auto& made = r.scratch.*Memory;
    const int64_t channels = r.layout.out.c;
    std::copy_n(made.sums.data() + (r.y - made.first) * channels, r.count * channels, r.finish.out);
  }

  int64_t weight_bytes() const override { return attention_.weight_bytes(); }
  Work work(const Layout& layout, const Packed&) const override {
    return {products_, attention_.products(layout.in[1], layout.in[2])};
  }

 private:
  Kind attention_;
  const char* products_;
};

}  // namespace onebit
