// The maximum of the pixels of a window that lie inside the image.

#include "operators/pooling.h"

namespace onebit {
namespace {

class MaxPool : public Pooling {
 public:
  using Pooling::Pooling;

 private:
  void reduce(const std::vector<const float*>& taps, int64_t channels, int64_t, float* to) const override {
    steps_.maximum(taps.data(), taps.size(), channels, to);
  }
};

}  // namespace

ONEBIT_OPERATOR(max_pool){
    "max_pool", 1, [](Source& source) -> std::unique_ptr<Operator> { return std::make_unique<MaxPool>(source); }};

}  // namespace onebit
