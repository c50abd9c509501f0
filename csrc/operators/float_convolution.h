// conv and linear: a float convolution, which takes an image of bytes as it is where its weights are in 8 bits.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "operators/operator.h"

namespace onebit {

class FloatConvolution : public Operator {
 public:
  // `bytes` may be null; `vector`: of vectors to vectors.
  FloatConvolution(FloatConv conv, std::unique_ptr<ByteConv> bytes, bool vector)
      : conv_(std::move(conv)), bytes_(std::move(bytes)), vector_(vector) {}

  Shape infer(const std::vector<Shape>& in) const override {
    Shape out = conv_.out_shape(in[0]);
    out.vector = vector_;
    return out;
  }

  void plan(Layout& layout, bool given) const override {
    if (bytes_ && given) {
      layout.bytes = bytes_->plan(layout.in[0]);
    } else {
      layout.rows = conv_.band_size(layout.in[0]);
    }
  }

  void reserve(const Layout&, Scratch& scratch) const override { conv_.reserve(scratch.floats); }
  void reserve(const Layout& layout, Packed& packed) const override {
    if (layout.bytes.rows) packed.bytes = bytes_->image(layout.bytes);
  }

  int64_t rows_needed(const Layout& layout, int, int64_t y) const override {
    return conv_.window().rows.seen(y, layout.in[0].h);
  }
  int64_t rows_seen() const override { return conv_.window().rows.span(); }
  bool applies_step() const override { return true; }

  void load(const Layout& layout, const uint8_t* bytes, Packed& packed) const override {
    bytes_->load(layout.bytes, bytes, packed.bytes);
  }

  void begin(const Layout& layout, const Map* inputs, const Packed&, Range rows, Scratch& scratch) const override {
    conv_.band(layout.in[0], inputs[0], rows, scratch.floats);
  }

  void row(const Row& r) const override {
    if (r.packed.in_bytes) {
      bytes_->row(r.layout.bytes, r.packed.bytes, r.y, r.apply, r.finish, r.scratch.floats.sums);
    } else if (r.layout.rows) {
      const int64_t channels = r.layout.out.c;
      Finish finish = r.finish;
      finish.x = r.scratch.floats.sums.data() + (r.y - r.scratch.floats.first) * channels;
      if (r.apply) {
        r.apply(finish);
      } else {
        std::copy_n(finish.x, channels, finish.out);
      }
    } else {
      conv_.row(r.layout.in[0], r.inputs[0], r.y, r.apply, r.finish, r.scratch.floats);
    }
  }

  int64_t weight_bytes() const override { return conv_.weight_bytes() + (bytes_ ? bytes_->weight_bytes() : 0); }
  Work work(const Layout&, const Packed& packed) const override {
    return {packed.in_bytes ? "bytes" : "float", conv_.products()};
  }

 private:
  FloatConv conv_;
  std::unique_ptr<ByteConv> bytes_;
  bool vector_;
};

}  // namespace onebit
