// A depth-wise convolution with zero padding: each channel of the input has filters of its own, O/I of them. The same
// arithmetic as FloatConv with I groups, which takes it a channel at a time; here channels lie side by side.
#pragma once

#include <vector>

#include "convolutions/float_conv.h"
#include "kernels/dwconv/dwconv.h"

namespace onebit {

class DepthwiseConv {
 public:
  // weight (O, 1, KH, KW), output o of channel o / (O/I); bias (O) or empty. Throws std::invalid_argument if the arrays
  // have other sizes or O is no multiple of I.
  DepthwiseConv(Window window, int64_t in, int64_t out, const std::vector<float>& weight,
                const std::vector<float>& bias, Isa isa);

  Shape out_shape(Shape in) const;
  void reserve(FloatScratch& scratch) const;
  int64_t rows_needed(int64_t y, int64_t height) const { return window_.rows.seen(y, height); }
  int64_t rows_seen() const { return window_.rows.span(); }
  int64_t products() const { return taps_; }  // of an output, those of padded taps included
  int64_t weight_bytes() const { return static_cast<int64_t>(weights_.size() * sizeof(weights_[0])); }

  // Output row y of x (H, W, I) -> finish.out (OW, O), followed, unless null, by `step`, which `finish` describes for
  // the whole row.
  void row(Shape in, const Map& x, int64_t y, void (*step)(const Finish&), const Finish& finish,
           FloatScratch& scratch) const;

 private:
  void see(Shape in, const Map& x, int64_t y, int64_t at, DepthwiseTap* taps) const;
  void multiply(Depthwise d, int64_t pixels, const float* plane, float* out) const;

  Window window_;
  int64_t in_, out_, taps_, each_ = 0;  // each_: filters of a channel
  int64_t tile_ = 0;                    // pixels computed at once
  Buffer<float> weights_;               // (each, taps, I)
  Buffer<float> bias_;                  // (each, I)
  Buffer<float> zeros_;                 // (I): what padding holds
  const DepthwiseKernel& kernel_;
};

}  // namespace onebit
