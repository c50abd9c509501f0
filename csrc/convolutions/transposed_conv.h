// A transposed float convolution: that of a map with stride - 1 zeros between its pixels and around it.
//
// The tap k of output y is at u = y + k·dilation - before, before = dilation·(kernel - 1) - padding, counted in pixels
// and zeros between them; it meets a pixel, number u / stride, if the stride divides u. So outputs that are a stride
// apart have the same taps: with g the greatest common divisor of stride and dilation, every (stride / g)-th from a
// first one on, or none. Their pixels are dilation / g apart, and move by one from output to output: an ordinary
// convolution with stride 1. There is one for each pair of a row's and a column's place in the stride.
#pragma once

#include <cstdint>
#include <vector>

#include "convolutions/float_conv.h"

namespace onebit {

class TransposedConv {
 public:
  // weight (O, I/g, KH, KW) of the ordinary convolution, bias (O) or empty; `extra` rows and columns at the end. Throws
  // std::invalid_argument if the arrays have other sizes.
  TransposedConv(Window window, int64_t extra_rows, int64_t extra_columns, int64_t in, int64_t out, int64_t groups,
                 const std::vector<float>& weight, const std::vector<float>& bias, Isa isa);

  Shape out_shape(Shape in) const;
  void reserve(FloatScratch& scratch) const;
  int64_t products() const { return products_; }  // of an output, on average
  int64_t weight_bytes() const;

  // The end of what the output rows up to y see of 0..height, and how many rows above it an output row may see.
  int64_t rows_needed(int64_t y, int64_t height) const;
  int64_t rows_seen() const;

  // As FloatConv::row.
  void row(Shape in, const Map& x, int64_t y, void (*step)(const Finish&), const Finish& finish,
           FloatScratch& scratch) const;

 private:
  // The taps first, first + step, ... of outputs in one place of the stride, and what they see as stride 1.
  struct Phase {
    int64_t first, step;
    Axis axis;
  };
  struct Phases {
    std::vector<Phase> found;
    std::vector<int> of_place;  // by place in the stride: kNone, or the phase
  };
  static constexpr int kNone = -1;
  static Phases phases(const Axis& axis);

  Window window_;
  int64_t extra_rows_, extra_columns_, in_, out_, products_;
  Phases rows_, columns_;
  std::vector<FloatConv> convs_;  // (phases of rows, phases of columns)
  std::vector<float> bias_;       // (O)
};

}  // namespace onebit
