// The operator of a convolution that computes rows of floats from rows of floats, one after the other.
#pragma once

#include <utility>
#include <vector>

#include "operators/operator.h"

namespace onebit {

template <class Conv>
class RowConvolution : public Operator {
 public:
  explicit RowConvolution(Conv conv) : conv_(std::move(conv)) {}

  Shape infer(const std::vector<Shape>& in) const override { return conv_.out_shape(in[0]); }
  void reserve(const Layout&, Scratch& scratch) const override { conv_.reserve(scratch.floats); }
  int64_t rows_needed(const Layout& layout, int, int64_t y) const override {
    return conv_.rows_needed(y, layout.in[0].h);
  }
  int64_t rows_seen() const override { return conv_.rows_seen(); }
  bool applies_step() const override { return true; }

  void row(const Row& r) const override {
    conv_.row(r.layout.in[0], r.inputs[0], r.y, r.apply, r.finish, r.scratch.floats);
  }

  int64_t weight_bytes() const override { return conv_.weight_bytes(); }
  Work work(const Layout&, const Packed&) const override { return {"float", conv_.products()}; }

 private:
  Conv conv_;
};

}  // namespace onebit
