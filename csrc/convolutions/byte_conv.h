// The convolution of an image of bytes, straight from the bytes: what a float convolution computes on the normalised
// image (byte / 255 - mean) / std, without a float for each pixel.
//
// With weights scale[o]·q[o], q in 8 bits, every sum over the valid taps of the window (padding is 0 after the
// normalisation, so it is no byte):
//   y[o] = bias[o] + Σ_c Σ scale[o]·q[o][c]·(byte / 255 - mean[c]) / std[c]
//        = Σ_c a[c][o]·Σ q[o][c]·byte + (bias[o] - Σ_c b[c][o]·Σ q[o][c]),   a = scale / (255·std), b = scale·mean /
//        std
// Sums of integers are exact; the bracket depends only on which taps are valid, on the border class of the pixel, and
// is taken in double.
#pragma once

#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "base/window.h"
#include "kernels/qconv/qconv.h"
#include "kernels/steps/steps.h"

namespace onebit {

struct ByteWeights {
  Window window;
  int64_t in = 0, out = 0;
  std::vector<int8_t> q;     // (O, I, KH, KW)
  std::vector<float> a;      // (I, O)
  std::vector<double> b;     // (I, O)
  std::vector<double> bias;  // (O)
};

// What depends on the image size.
struct BytePlan {
  Shape in, out;
  int64_t rows = 0, row_bytes = 0;               // of one channel's plane, padding and slack included
  std::vector<int64_t> row_class, column_class;  // (OH), (OW)
  int64_t column_classes = 0;
  Buffer<float> base;  // (classes, blocks, 16)
};

// An image as ByteConv::row reads it: a plane of bytes for each channel.
using ByteImage = Buffer<uint8_t>;

class ByteConv {
 public:
  // Whether there is such a convolution of `in` channels: not if taps of a row are not neighbours, a sum might exceed
  // 2^24, or the channels or the padding are too many.
  static bool takes(const Window& window, int64_t in);

  // Throws std::invalid_argument if it takes no such convolution, or the arrays have other sizes.
  ByteConv(ByteWeights weights, Isa isa);

  const Window& window() const { return weights_.window; }
  int64_t weight_bytes() const { return static_cast<int64_t>(packed_.size()); }
  int64_t in() const { return weights_.in; }
  int64_t out() const { return weights_.out; }

  BytePlan plan(Shape in) const;
  ByteImage image(const BytePlan& plan) const { return ByteImage(weights_.in * plan.rows * plan.row_bytes); }

  // The bytes (H, W, C) of an image to its planes.
  void load(const BytePlan& plan, const uint8_t* bytes, ByteImage& image) const;

  // Output row y -> finish.out (OW, O), followed, unless null, by `step`, which `finish` describes for the whole row.
  void row(const BytePlan& plan, const ByteImage& image, int64_t y, void (*step)(const Finish&), const Finish& finish,
           Buffer<float>& scratch) const;

 private:
  ByteWeights weights_;
  int64_t blocks_, words_;  // words: of 4 taps in a row
  Buffer<int8_t> packed_;   // (blocks, I, KH, words, 16, 4)
  Buffer<float> scales_;    // (I, blocks, 16)
  const ByteKernel& kernel_;
};

}  // namespace onebit
