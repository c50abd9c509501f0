// Every stride-th pixel, with zero channels before and after: the parameter-free shortcut of ResNet.

#include <algorithm>

#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

class OptionA : public Operator {
 public:
  explicit OptionA(Source& source) : stride_(source.integer("stride", 1, kMaxSize, 1)) {
    source.map(0);
    const Pair pad = source.pair("pad", 0, kMaxSize, {0, 0});
    before_ = pad.first;
    after_ = pad.second;
  }

  Shape infer(const std::vector<Shape>& in) const override {
    return {(in[0].h + stride_ - 1) / stride_, (in[0].w + stride_ - 1) / stride_, before_ + in[0].c + after_};
  }
  int64_t rows_needed(const Layout&, int, int64_t y) const override { return y * stride_ + 1; }

  void row(const Row& r) const override {
    const int64_t channels = r.layout.in[0].c;
    float* to = r.finish.out;
    for (int64_t at = 0; at < r.layout.out.w; ++at) {
      const float* pixel = r.inputs[0].at(r.y * stride_) + at * stride_ * channels;
      to = std::fill_n(to, before_, 0.0f);
      to = std::copy_n(pixel, channels, to);
      to = std::fill_n(to, after_, 0.0f);
    }
  }

 private:
  int64_t stride_, before_, after_;
};

}  // namespace

ONEBIT_OPERATOR(option_a){
    "option_a", 1, [](Source& source) -> std::unique_ptr<Operator> { return std::make_unique<OptionA>(source); }};

}  // namespace onebit
