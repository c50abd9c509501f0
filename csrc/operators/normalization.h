// layer_norm and group_norm: y = scale·(x - mean) / sqrt(variance + eps) + bias, with the mean and the variance of some
// values of the sample itself, in double.
#pragma once

#include <vector>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {

class Normalization : public Operator {
 public:
  Normalization(Source& source, int64_t channels)
      : steps_(source.steps()),
        channels_(channels),
        eps_(source.positive("eps")),
        params_(source.floats("channels", {2, channels_})) {}

  Shape infer(const std::vector<Shape>& in) const override {
    require(in[0].c == channels_, "the parameters are for another number of channels");
    return in[0];
  }

  void reserve(const Layout&, Scratch& scratch) const override {
    const int64_t size = 2 * channels_;
    if (static_cast<int64_t>(scratch.moments.size()) < size) scratch.moments = Buffer<double>(size);
  }

  int64_t weight_bytes() const override { return static_cast<int64_t>(params_.size() * sizeof(float)); }

 protected:
  // The first row of moments is what `normalize` subtracts, the second what it divides by.
  void normalize(const float* x, const Scratch& scratch, float* out) const {
    Normalize n;
    n.x = x;
    n.mean = scratch.moments.data();
    n.deviation = n.mean + channels_;
    n.scale = params_.data();
    n.bias = n.scale + channels_;
    n.channels = static_cast<size_t>(channels_);
    n.out = out;
    steps_.normalize(n);
  }

  const StepKernels& steps_;
  const int64_t channels_;
  const double eps_;
  const std::vector<float> params_;  // (2, C): scale, bias
};

}  // namespace onebit
