// Elementwise operators: a step of kernels/steps, fused behind the operator whose output they read where that is
// possible.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {

class ElementwiseOperator : public Operator {
 public:
  // `channels`: that the parameters are for; 0: any.
  explicit ElementwiseOperator(Elementwise step, int64_t channels = 0) : step_(std::move(step)), channels_(channels) {}

  Shape infer(const std::vector<Shape>& in) const override {
    require(channels_ == 0 || in[0].c == channels_, "the parameters are for another number of channels");
    return in[0];
  }
  int64_t rows_needed(const Layout&, int, int64_t y) const override { return y + 1; }
  bool strips() const override { return true; }
  const Elementwise* elementwise() const override { return &step_; }

  // The first input's values: the step itself is applied behind them.
  void row(const Row& r) const override {
    std::copy_n(r.inputs[0].at(r.y), r.count * r.layout.out.w * r.layout.out.c, r.finish.out);
  }

  int64_t weight_bytes() const override { return static_cast<int64_t>(step_.params.size() * sizeof(float)); }

 private:
  Elementwise step_;
  int64_t channels_;
};

// The operator of a step whose parameters are the tensor `what`, (rows, C), or (C) for `rows` 0; null: it has none.
inline std::unique_ptr<Operator> elementwise(Source& source, Step step, const char* what = nullptr, int64_t rows = 0) {
  std::vector<float> params;
  const int64_t channels = source.shape(0).c;
  if (what) params = rows ? source.floats(what, {rows, channels}) : source.floats(what, {channels});
  return std::make_unique<ElementwiseOperator>(Elementwise{step, std::move(params)}, what ? channels : 0);
}

// That of a step with constants.
inline std::unique_ptr<Operator> elementwise(Step step, double first, double second = 0) {
  const Elementwise applied{step, {}, {static_cast<float>(first), static_cast<float>(second)}};
  return std::make_unique<ElementwiseOperator>(applied);
}

}  // namespace onebit
