// Each pixel, or the vector, normalised over its channels.

#include "operators/normalization.h"

namespace onebit {
namespace {

class LayerNorm : public Normalization {
 public:
  using Normalization::Normalization;

  void reserve(const Layout&, Scratch& scratch) const override {
    const int64_t size = channels_ * static_cast<int64_t>(kNormPixels);
    if (static_cast<int64_t>(scratch.turned.size()) < size) scratch.turned = Buffer<float>(size);
  }

  int64_t rows_needed(const Layout&, int, int64_t y) const override { return y + 1; }
  int64_t rows_seen() const override { return 1; }
  bool strips() const override { return true; }

  void row(const Row& r) const override {
    LayerNormalize n;
    n.x = r.inputs[0].at(r.y);
    n.pixels = static_cast<size_t>(r.count * r.layout.out.w);
    n.channels = static_cast<size_t>(channels_);
    n.eps = eps_;
    n.scale = params_.data();
    n.bias = n.scale + channels_;
    n.turned = r.scratch.turned.data();
    n.out = r.finish.out;
    steps_.layer_norm(n);
  }
};

}  // namespace

ONEBIT_OPERATOR(layer_norm){"layer_norm", 1, [](Source& source) -> std::unique_ptr<Operator> {
                              return std::make_unique<LayerNorm>(source, source.shape(0).c);
                            }};

}  // namespace onebit
