// The sum of a window's pixels divided by their number: inside the image, or inside image and padding.

#include "operators/pooling.h"

namespace onebit {
namespace {

class AvgPool : public Pooling {
 public:
  explicit AvgPool(Source& source) : Pooling(source), with_padding_(source.boolean("count_include_pad", true)) {}

 private:
  void reduce(const std::vector<const float*>& taps, int64_t channels, int64_t whole, float* to) const override {
    steps_.sum(taps.data(), taps.size(), channels, to);
    const float pixels = static_cast<float>(with_padding_ ? whole : static_cast<int64_t>(taps.size()));
    for (int64_t c = 0; c < channels; ++c) to[c] /= pixels;
  }

  bool with_padding_;
};

}  // namespace

ONEBIT_OPERATOR(avg_pool){
    "avg_pool", 1, [](Source& source) -> std::unique_ptr<Operator> { return std::make_unique<AvgPool>(source); }};

}  // namespace onebit
