// A float convolution (linear is the 1×1 case) with zero padding.
#pragma once

#include <vector>

#include "base/buffer.h"
#include "base/window.h"
#include "kernels/dwconv/dwconv.h"
#include "kernels/fconv/fconv.h"
#include "kernels/steps/steps.h"

namespace onebit {

// Per-thread memory for one tile of pixels.
struct FloatScratch {
  Buffer<float> windows;
  Buffer<float> sums;
  Buffer<const float*> rows;
  Buffer<DepthwiseTap> taps;
  Buffer<DepthwiseRun> runs;
  int64_t first = 0;  // of a band, the row whose outputs `sums` begins with
};

class FloatConv {
 public:
  // weight (O, I/g, KH, KW), bias (O) or empty. Throws std::invalid_argument if the arrays have other sizes.
  FloatConv(Window window, int64_t in, int64_t out, int64_t groups, const std::vector<float>& weight,
            const std::vector<float>& bias, Isa isa);

  bool same_form(const Window& window, int64_t in, int64_t out) const {
    return window == window_ && groups_ == 1 && in == in_ && out == out_;
  }
  Shape out_shape(Shape in) const;
  void reserve(FloatScratch& scratch) const;
  const Window& window() const { return window_; }
  int64_t products() const { return depth_; }  // of an output, those of padded taps included
  int64_t weight_bytes() const { return static_cast<int64_t>(packed_.size() * sizeof(packed_[0])); }

  // Output row y of x (H, W, I) -> finish.out (OW, O), followed, unless null, by `step`, which `finish` describes for
  // the whole row.
  void row(Shape in, const Map& x, int64_t y, void (*step)(const Finish&), const Finish& finish,
           FloatScratch& scratch) const;

  // Rows of one pixel each, as of a sequence (T, 1, I), read the weights once for a band of so many of them; 0 where
  // they cannot. `band` computes one, scratch.sums (rows, O), of rows that are neighbours in memory.
  int64_t band_size(Shape in) const;
  void band(Shape in, const Map& x, Range rows, FloatScratch& scratch) const;

  // The first `count` pixels of that row, finish.stride floats apart. Windows may lie anywhere, and see 0 outside of x.
  void pixels(Shape in, const Map& x, int64_t y, int64_t count, void (*step)(const Finish&), const Finish& finish,
              FloatScratch& scratch) const;

 private:
  void gather(Shape in, const Map& x, int64_t y, int64_t at, int64_t group, float* window) const;

  Window window_;
  int64_t in_, out_, groups_, group_in_ = 0, group_out_ = 0, depth_ = 0, blocks_ = 0;
  int64_t tile_ = 0;      // pixels computed at once
  Buffer<float> packed_;  // (groups, blocks, depth, 16)
  Buffer<float> bias_;    // (groups, blocks, 16)
  const MultiplyKernel& multiply_;
};

}  // namespace onebit
