// The mean of each channel over all pixels, in double: (H, W, C) -> (C).

#include <vector>

#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

class GlobalAvgPool : public Operator {
 public:
  explicit GlobalAvgPool(Source& source) : steps_(source.steps()) { source.map(0); }

  Shape infer(const std::vector<Shape>& in) const override { return {1, 1, in[0].c, true}; }

  void row(const Row& r) const override {
    const Shape in = r.layout.in[0];
    std::vector<double> sums(in.c);
    steps_.channel_sums(r.inputs[0].data, sums.data(), in.h * in.w, in.c);
    const double pixels = static_cast<double>(in.h * in.w);
    for (int64_t c = 0; c < in.c; ++c) r.finish.out[c] = static_cast<float>(sums[c] / pixels);
  }

 private:
  const StepKernels& steps_;
};

}  // namespace

ONEBIT_OPERATOR(global_avg_pool){"global_avg_pool", 1, [](Source& source) -> std::unique_ptr<Operator> {
                                   return std::make_unique<GlobalAvgPool>(source);
                                 }};

}  // namespace onebit
