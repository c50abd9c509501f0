// A binary convolution (binary_linear is the 1×1 case): weights ready for the kernels, tables per border class.
//
// With A = sign(x - threshold), B the weight signs, both ±1, and every sum over the valid taps of the window:
//   1. y = scale·(A·B + shift·ΣB) + offset·(A·1 + shift·N) + bias           (src/onebit/runtime/reference.py)
//   2. a window is one vector of KH·KW·(I/g) bits, in the order of the file; padded taps are 0 bits
//   3. count = popcount(window xor weights) = mismatches in valid taps + P, where P = number of 1 bits of the weights
//      in padded taps (0 xor 1); so A·B = N - 2·(count - P) = base - 2·count with base = N + 2·P
//   4. A·1 = N - 2·popcount(window): one number per window for all outputs of a group
//   5. ΣB = N - 2·(popcount(weights) - P)
//   6. N, P and ΣB depend only on which taps are valid: on the class of the row and the class of the column.
//      A 3×3 kernel with padding 1 has 3 × 3 classes. Tables of base and shift·ΣB are made once per image size.
// This holds for any padding, stride, dilation and groups.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/buffer.h"
#include "base/window.h"
#include "convolutions/binary_product.h"
#include "kernels/bconv/bconv.h"
#include "kernels/pack/pack.h"
#include "kernels/steps/steps.h"

namespace onebit {

enum class Threshold { constant, channel, sample_mean };

struct BinaryWeights {
  Window window;
  int64_t in = 0, out = 0, groups = 1;
  std::vector<uint8_t> bits;    // (O, ceil(KH·KW·(I/g) / 8))
  std::vector<float> channels;  // (2 or 3, O): scale, bias, offset
  double shift = 0;
  Threshold threshold = Threshold::constant;
  std::vector<float> levels;  // (1), or (I) for Threshold::channel
};

// What depends on the image size.
struct BinaryPlan {
  Shape in, out;
  int64_t rows = 0, row_words = 0;               // of the packed image, in 64-bit words, slack for read_bits included
  int64_t top = 0, lead_words = 0;               // padding rows above, words before a row's first pixel
  std::vector<size_t> offsets;                   // (lane words), bytes: of the words of a window, if direct
  std::vector<Range> row_taps, column_taps;      // (OH), (OW)
  Range inside{0, 0};                            // output columns whose taps are all valid
  bool whole_words = false;                      // whether gather_inside may be used
  std::vector<int64_t> row_class, column_class;  // (OH), (OW); of sequences the latter are kTile zeros
  int64_t column_classes = 0;
  Buffer<int32_t> base;         // (classes, O)
  Buffer<float> shifted;        // (classes, O)
  std::vector<float> products;  // (classes): N
  std::vector<float> shifts;    // (classes): shift·N
  std::vector<float> levels;    // thresholds of one image row (W·I), only for Threshold::channel
  ProductPlan product;          // if counted by products

  int64_t band() const { return product.band; }  // output rows that are counted at once
};

// A packed image: what BinaryConv::pack writes and BinaryConv::row reads.
struct BitImage {
  Buffer<uint64_t> bits;  // (rows, row_words)
  Buffer<float> ones;     // (padded rows, padded pixels): 1 bits of each; only if padded and the weights have offsets
  Buffer<uint8_t> bytes;  // the bits expanded, if counted by products
};

// Per-thread memory for one tile of pixels, or for a band of rows counted by products.
struct BinaryScratch {
  Buffer<uint64_t> windows;
  Buffer<int32_t> counts;
  Buffer<float> ones;
  Buffer<float> sums;
  ProductScratch product;
};

class BinaryConv {
 public:
  static constexpr int64_t kTile = 32;  // pixels whose windows are gathered at once

  // `product` counts what it can, the convolutions of multiples of 64 channels without groups; null: nothing.
  // Throws std::invalid_argument if the arrays do not have the sizes that the numbers claim.
  BinaryConv(BinaryWeights weights, Isa isa, const ProductKernel* product);

  Shape out_shape(Shape in) const;
  BinaryPlan plan(Shape in) const;
  void reserve(const BinaryPlan& plan, BinaryScratch& scratch) const;
  const Window& window() const { return weights_.window; }
  // Whether each output pixel sees one pixel of the input, where it lies.
  bool pointwise() const { return direct_ && weights_.window == Window{}; }
  int64_t products() const {  // of an output, those of padded taps included
    return weights_.window.rows.kernel * weights_.window.columns.kernel * group_in_;
  }
  int64_t weight_bytes() const {
    return product_ ? product_->weight_bytes() : static_cast<int64_t>(packed_.size() * sizeof(packed_[0]));
  }

  bool needs_mean() const { return weights_.threshold == Threshold::sample_mean; }
  // Of x (H, W, I), in double: per channel over the pixels in order, then over the channels, as the reference.
  float mean(const BinaryPlan& plan, const float* x) const;

  BitImage image(const BinaryPlan& plan) const;

  // Packs image row y of x (W, I), the row alone. `mean` is used by sample_mean.
  void pack(const BinaryPlan& plan, const float* x, int64_t y, float mean, BitImage& image) const;

  // To be called before `row` of each of at most plan.band() rows.
  void count(const BinaryPlan& plan, const BitImage& image, Range rows, BinaryScratch& scratch) const {
    if (product_) product_->count(plan.product, image.bytes, rows, scratch.product);
  }

  // Output row y, or, of sequences and where it is pointwise, `rows` of them, followed by `step`, which `finish`
  // describes for the whole row (OW, O); also A·B into accumulators (OW, O) unless null.
  void row(const BinaryPlan& plan, const BitImage& image, int64_t y, int64_t rows, Step step, const Finish& finish,
           BinaryScratch& scratch, int32_t* accumulators) const;

 private:
  // Windows (pixels, words_) of output row y. Three ways: bits of any group size; bytes if a group's channels fill
  // bytes; and for a run of pixels inside the image words of 8 bytes in ascending order, where what a word holds beyond
  // its row of taps is overwritten by the next row. That needs the last word to end inside the window:
  // plan.whole_words.
  void gather(const BinaryPlan& plan, const uint64_t* bits, int64_t y, Range pixels, int64_t group,
              uint64_t* windows) const;
  void gather_bits(const BinaryPlan& plan, const uint64_t* bits, int64_t y, int64_t x, int64_t group,
                   uint64_t* window) const;
  void gather_bytes(const BinaryPlan& plan, const uint64_t* bits, int64_t y, int64_t x, int64_t group,
                    uint64_t* window) const;
  void gather_inside(const BinaryPlan& plan, const uint64_t* bits, int64_t y, int64_t x, int64_t pixels,
                     uint64_t* windows) const;
  // Popcounts of the windows of `pixels` from x on.
  void window_ones(const BinaryPlan& plan, const BitImage& image, int64_t y, Range pixels,
                   BinaryScratch& scratch) const;
  void dequantize(const BinaryPlan& plan, int64_t y, int64_t x, int64_t pixels, int64_t group, Step step,
                  const Finish& finish, const int32_t* counts, BinaryScratch& scratch, int32_t* accumulators) const;
  int64_t padded_width(int64_t width) const { return width + 2 * weights_.window.columns.padding; }
  bool with_offset() const { return weights_.channels.size() == static_cast<size_t>(3 * weights_.out); }

  BinaryWeights weights_;
  bool contiguous_;  // whether the taps of a kernel row are neighbours in memory
  bool padded_;      // whether padding pixels may be stored
  // Whether windows are read where they are: image rows lie padded with pixels of 0 bits, so word k of every window has
  // the same offset from its first. This takes pixels that fill 32-bit words, or else bytes in contiguous rows of taps,
  // each of which then begins with a new word. Otherwise windows are gathered, and rows lie as they are packed.
  bool direct_;
  int64_t group_in_, group_out_, blocks_;
  int64_t words_;                 // of a gathered window, 64 bits each
  int64_t row_words_;             // of a row of taps, 32 bits each, if direct
  int64_t lane_words_;            // of a window, 32 bits each
  std::vector<uint32_t> masks_;   // (lane words): their bits that belong to the window, if not all
  std::vector<size_t> gathered_;  // (lane words): offsets in a gathered window
  Buffer<uint32_t> packed_;       // (groups, blocks, lane words, 16), unless counted by products
  std::optional<BinaryProduct> product_;
  const PackKernel& pack_;
  const CountKernel& count_;
  const StepKernels& steps_;
};

}  // namespace onebit
