// The heart of a convolution of images (bytes) by weights in 8 bits: exact integer sums for each channel of the image,
// which are then scaled and added up in one order with one rounding each, so that every instruction set gives the same
// bits:
//
//   sum[p][c][o] = Σ_r Σ_k Σ_b byte(c, r, p·step + 4k + b)·weights[o][c][r][4k + b]
//   out[p][o]    = fma(scales[C - 1][o], sum[p][C - 1][o], ... fma(scales[0][o], sum[p][0][o], base[classes[p]][o]))
//
// byte(c, r, i) = bytes[c·channel_step + r·row_step + i]: channels lie in planes, a row of taps is `words` times 4
// bytes, and weights beyond the last tap are 0.
//
//   weights  (blocks, channels, rows, words, 16, 4): 16 outputs side by side
//   scales   (channels, 16·blocks), base (classes, 16·blocks)
//   out      those of pixel p start at out + p·out_step; 16·(blocks - 1) < outputs <= 16·blocks
// Contract: all sizes >= 1; channels <= 8; weights, scales and base are aligned to 64 bytes; rows·words·4·128·255 <
// 2^24, so that sums are exact as floats.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace onebit {

constexpr size_t kByteLanes = 16;
constexpr size_t kMaxByteChannels = 8;

struct ByteMultiply {
  const uint8_t* bytes;
  size_t channel_step, row_step, step;
  size_t channels, rows, words;
  size_t pixels;
  const int8_t* weights;
  const float* scales;
  const float* base;
  const int64_t* classes;  // (pixels)
  size_t blocks, outputs;
  float* out;
  size_t out_step;  // floats from pixel to pixel
};

// A row of an image (pixels, channels), whose channels go to planes of their own: to[c·step + p] = from[p·channels +
// c].
struct ByteSplit {
  const uint8_t* from;
  size_t pixels, channels;
  uint8_t* to;
  size_t step;
};

struct ByteKernel {
  const char* name;
  Isa isa;
  void (*run)(const ByteMultiply&);
  void (*split)(const ByteSplit&);
};

#define ONEBIT_KERNEL(function, isa)  \
  void function(const ByteMultiply&); \
  void function##_split(const ByteSplit&);
#include "kernels/qconv/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const ByteKernel& select_bytes(Isa isa);

}  // namespace onebit
