// What the attentions share: a sequence q (Tq, 1, C) that looks at another, k (Tk, 1, C), with values v (Tk, 1, Cv),
// and perhaps a mask of Tk tokens, 0 for keys that are not there.
#pragma once

#include <string>
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

}  // namespace onebit
