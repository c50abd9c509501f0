// binary_conv and binary_linear: bits in, and out what their counts mean (convolutions/binary_conv.h).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/bits.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {

class BinaryConvolution : public Operator {
 public:
  // `vector`: of vectors to vectors.
  BinaryConvolution(BinaryConv conv, bool vector) : conv_(std::move(conv)), vector_(vector) {}

  Shape infer(const std::vector<Shape>& in) const override {
    Shape out = conv_.out_shape(in[0]);
    out.vector = vector_;
    return out;
  }

  void plan(Layout& layout, bool) const override { layout.binary = conv_.plan(layout.in[0]); }
  void reserve(const Layout& layout, Scratch& scratch) const override { conv_.reserve(layout.binary, scratch.binary); }
  void reserve(const Layout& layout, Packed& packed) const override { packed.bits = conv_.image(layout.binary); }

  int64_t rows_needed(const Layout& layout, int, int64_t y) const override {
    return conv_.window().rows.seen(y, layout.in[0].h);
  }
  bool strips() const override { return conv_.pointwise(); }
  bool applies_step() const override { return true; }

  bool reads_packed() const override { return true; }
  bool counts() const override { return true; }
  bool packs_whole() const override { return conv_.needs_mean(); }
  float threshold(const Layout& layout, const float* x) const override {
    return conv_.needs_mean() ? conv_.mean(layout.binary, x) : 0.0f;
  }
  void pack(const Layout& layout, const float* x, int64_t y, float threshold, Packed& packed) const override {
    conv_.pack(layout.binary, x, y, threshold, packed.bits);
  }

  void begin(const Layout& layout, const Map*, const Packed& packed, Range rows, Scratch& scratch) const override {
    conv_.count(layout.binary, packed.bits, rows, scratch.binary);
  }
  void row(const Row& r) const override {
    conv_.row(r.layout.binary, r.packed.bits, r.y, r.count, r.step, r.finish, r.scratch.binary, r.accumulators);
  }

  int64_t weight_bytes() const override { return conv_.weight_bytes(); }
  Work work(const Layout&, const Packed&) const override { return {"binary", conv_.products()}; }

 private:
  BinaryConv conv_;
  bool vector_;
};

// What both read of the file: all but the window and the groups. `products`: of each output.
inline BinaryWeights binary_weights(Source& source, int64_t channels, int64_t products) {
  if (products > kMaxChannels) {
    source.refuse(std::to_string(products) + " products per output, at most " + std::to_string(kMaxChannels) +
                  " are supported");
  }
  BinaryWeights weights;
  weights.in = channels;
  weights.bits = source.bits("bits", 0, products);
  weights.out = static_cast<int64_t>(weights.bits.size()) / bytes_for(products);
  const Tensor& rows = source.tensor("channels", Dtype::f32, {0, weights.out});
  if (rows.shape[0] != 2 && rows.shape[0] != 3) {
    source.refuse("channels must have 2 rows (scale, bias) or 3 (+ offset), got " + std::to_string(rows.shape[0]));
  }
  weights.channels = source.floats("channels", rows.shape);
  weights.shift = source.number("shift", 0);
  double level = 0;
  switch (source.number_or_word("threshold", {"sample_mean", "channel"}, level)) {
    case 0:
      weights.threshold = Threshold::sample_mean;
      weights.levels = {0};
      break;
    case 1:
      weights.threshold = Threshold::channel;
      weights.levels = source.floats("threshold", {channels});
      break;
    default:
      weights.levels = {static_cast<float>(level)};
  }
  return weights;
}

}  // namespace onebit
