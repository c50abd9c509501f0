// y = e^x / Σ e^x over the channels of each pixel, by kernels/steps.

#include <vector>

#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

class Softmax : public Operator {
 public:
  explicit Softmax(Source& source) : steps_(source.steps()) {}

  Shape infer(const std::vector<Shape>& in) const override { return in[0]; }
  int64_t rows_needed(const Layout&, int, int64_t y) const override { return y + 1; }
  int64_t rows_seen() const override { return 1; }

  void row(const Row& r) const override {
    const int64_t channels = r.layout.out.c;
    std::vector<double> e(channels);
    for (int64_t at = 0; at < r.layout.out.w; ++at) {
      steps_.softmax(r.inputs[0].at(r.y) + at * channels, channels, e.data(), r.finish.out + at * channels);
    }
  }

 private:
  const StepKernels& steps_;
};

}  // namespace

ONEBIT_OPERATOR(softmax){"softmax", 1,
                         [](Source& source) -> std::unique_ptr<Operator> { return std::make_unique<Softmax>(source); }};

}  // namespace onebit
