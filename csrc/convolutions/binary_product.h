// Counts of a binary convolution by products of bytes. All rows of an image are expanded as they are packed, between
// pixels of padding; then a tile's windows are 16 pixels at equal distances, and no window is ever gathered:
//
//   stride 1: the image is read on through the padding from one row to the next, as if it were one row. The windows
//             between two rows of output are counted in vain, 2 of 16 for 14 pixels, but no tile is cut short
//   else:     tiles end with a row of output; all of them are equally long
//
// Weights are expanded once for a band of rows, as many as give the kernel enough work.
#pragma once

#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "base/window.h"
#include "kernels/bproduct/bproduct.h"

namespace onebit {

// What depends on the image size. Sizes of bytes are those of the expanded image (padded rows, row).
struct ProductPlan {
  int64_t row = 0, size = 0;                 // size: with the windows counted in vain
  int64_t top = 0, lead = 0;                 // rows of padding above; bytes of padding before a row's first pixel
  int64_t out_row = 0, down = 0, width = 0;  // windows counted for an output row, bytes to the next, outputs wanted
  int64_t band = 1;                          // output rows that are counted at once
  size_t tile = 0, step = 0;
  std::vector<size_t> starts, offsets;
  int64_t counts = 0;  // of a band
};

struct ProductScratch {
  Buffer<int8_t> panel;
  Buffer<int32_t> counts;  // (windows, 16·blocks) of a band
  int64_t first = 0;       // the output row that it starts with
};

class BinaryProduct {
 public:
  // bits: (O, KH·KW·I / 8). I is a multiple of 64.
  BinaryProduct(const std::vector<uint8_t>& bits, const Window& window, int64_t in, int64_t out,
                const ProductKernel& kernel);

  ProductPlan plan(Shape in, Shape out) const;
  void reserve(const ProductPlan& plan, ProductScratch& scratch) const;
  int64_t weight_bytes() const { return static_cast<int64_t>(weights_.size() * 8 + ones_.size() * 4); }

  // Expands image row y.
  void pack(const ProductPlan& plan, const uint64_t* words, int64_t y, Buffer<uint8_t>& image) const;

  // The counts of at most plan.band output rows.
  void count(const ProductPlan& plan, const Buffer<uint8_t>& image, Range rows, ProductScratch& scratch) const;

  // Those of row y, one of the last band: (OW, 16·blocks).
  const int32_t* row(const ProductPlan& plan, const ProductScratch& scratch, int64_t y) const {
    return scratch.counts.data() + (y - scratch.first) * plan.out_row * blocks_ * static_cast<int64_t>(kProductLanes);
  }

 private:
  Window window_;
  int64_t runs_, blocks_;
  Buffer<uint64_t> weights_;
  Buffer<int32_t> ones_;
  const ProductKernel& kernel_;
};

}  // namespace onebit
