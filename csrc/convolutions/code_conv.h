// A convolution (linear is the 1×1 case) of values and weights that both have 8 bits: each pixel is quantized by its
// own largest magnitude (kernels/codes), products are whole numbers (kernels/iconv). Padded taps contribute 0.
#pragma once

#include <vector>

#include "base/buffer.h"
#include "base/window.h"
#include "kernels/codes/codes.h"
#include "kernels/iconv/iconv.h"
#include "kernels/steps/steps.h"

namespace onebit {

struct CodeWeights {
  Window window;
  int64_t in = 0, out = 0;
  std::vector<int8_t> codes;  // (O, I, KH, KW)
  std::vector<float> scale;   // (O)
  std::vector<float> bias;    // (O) or empty
};

// A map in codes: H·W pixels, and one of zeros, which padded taps see.
struct CodeImage {
  Buffer<uint8_t> codes;
  Buffer<float> scales;
};

// Per-thread memory for one run of pixels.
struct CodeScratch {
  Buffer<int32_t> places;
  Buffer<float> sums;
};

class CodeConv {
 public:
  // Whether there is such a convolution of so many channels: its sums must fit 32 bits.
  static bool takes(int64_t in) { return in >= 1 && in <= kMaxCodes; }

  // Throws std::invalid_argument if it takes no such convolution, or the arrays have other sizes.
  CodeConv(const CodeWeights& weights, Isa isa);

  const Window& window() const { return window_; }
  bool pointwise() const { return window_ == Window{}; }
  int64_t products() const { return taps_ * in_; }  // of an output, those of padded taps included
  int64_t weight_bytes() const { return static_cast<int64_t>(packed_.size()); }

  Shape out_shape(Shape in) const;
  CodeImage image(Shape in) const;
  void reserve(CodeScratch& scratch) const;

  // Row y of x (H, W, I), which is given, to codes.
  void pack(Shape in, const float* x, int64_t y, CodeImage& image) const;

  // Output rows y to y + count -> finish.out (count, OW, O), followed, unless null, by `step`, which `finish` describes
  // for all of them.
  void rows(Shape in, const CodeImage& image, int64_t y, int64_t count, void (*step)(const Finish&),
            const Finish& finish, CodeScratch& scratch) const;

 private:
  // Pixels begin..end of row y. Of a pointwise one, rows may follow each other as one.
  void pixels(Shape in, const CodeImage& image, int64_t y, Range range, void (*step)(const Finish&),
              const Finish& finish, CodeScratch& scratch) const;

  Window window_;
  int64_t in_, out_, taps_, words_, blocks_;  // words: of 4 channels
  Buffer<int8_t> packed_;                     // (blocks, taps, words, 16, 4)
  Buffer<int32_t> starts_;                    // (blocks, taps, 16): what an offset of 128 in all codes adds, taken off
  Buffer<float> scale_, bias_;                // (blocks, 16)
  const CodeKernel& kernel_;
  const QuantizeKernel& quantize_;
};

}  // namespace onebit
