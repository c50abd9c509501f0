#include "convolutions/binary_product.h"

#include <algorithm>
#include <cstring>

#include "base/bits.h"

namespace onebit {
namespace {

constexpr int64_t kLanes = static_cast<int64_t>(kProductLanes), kRun = static_cast<int64_t>(kProductRun);
constexpr int64_t kTile = 16;
constexpr int64_t kBandBytes = 256 << 10;  // of counts: a quarter of a usual L2 cache

}  // namespace

BinaryProduct::BinaryProduct(const std::vector<uint8_t>& bits, const Window& window, int64_t in, int64_t out,
                             const ProductKernel& kernel)
    : window_(window), blocks_((out + kLanes - 1) / kLanes), kernel_(kernel) {
  const int64_t taps = window.rows.kernel * window.columns.kernel;
  runs_ = in / kRun * taps;
  weights_ = Buffer<uint64_t>(blocks_ * runs_ * kLanes);
  ones_ = Buffer<int32_t>(blocks_ * kLanes);
  for (int64_t o = 0; o < out; ++o) {
    uint64_t* to = weights_.data() + o / kLanes * runs_ * kLanes;
    // All taps of 64 channels, then those of the next: the pixels of a panel's runs stay in the first-level cache.
    for (int64_t channel = 0; channel < in; channel += kRun) {
      for (int64_t tap = 0; tap < taps; ++tap, to += kLanes) {
        uint64_t run;
        std::memcpy(&run, bits.data() + ((o * taps + tap) * in + channel) / 8, sizeof(run));
        ones_[o] += popcount(run);
        for (int64_t r = 0; r < kLanes; ++r) to[r] |= (run >> (4 * r) & 15) << (4 * (o % kLanes));
      }
    }
  }
}

ProductPlan BinaryProduct::plan(Shape in, Shape out) const {
  const Axis &rows = window_.rows, &columns = window_.columns;
  ProductPlan plan;
  plan.top = rows.padding;
  plan.lead = columns.padding * in.c;
  plan.row = (in.w + 2 * columns.padding) * in.c;
  plan.step = columns.stride * in.c;
  plan.down = rows.stride * plan.row;
  plan.width = out.w;
  for (int64_t channel = 0; channel < in.c; channel += kRun) {
    for (int64_t kh = 0; kh < rows.kernel; ++kh) {
      for (int64_t kw = 0; kw < columns.kernel; ++kw) {
        plan.offsets.push_back(kh * rows.dilation * plan.row + kw * columns.dilation * in.c + channel);
      }
    }
  }
  const bool flat = columns.stride == 1 && rows.stride == 1;
  const int64_t cuts = (out.w + kTile - 1) / kTile;  // tiles of an output row, unless flat
  plan.tile = flat ? kTile : (out.w + cuts - 1) / cuts;
  const int64_t tile = static_cast<int64_t>(plan.tile);
  plan.out_row = flat ? in.w + 2 * columns.padding : cuts * tile;
  const int64_t longest = std::max<int64_t>(1, kBandBytes / (plan.out_row * blocks_ * kLanes * 4));
  const int64_t bands = (out.h + longest - 1) / longest;
  plan.band = (out.h + bands - 1) / bands;
  const int64_t windows = (plan.band - 1) * plan.out_row + out.w, tiles = (windows + tile - 1) / tile;
  for (int64_t i = 0; i < tiles; ++i) {
    plan.starts.push_back(flat ? i * tile * in.c : i / cuts * plan.down + i % cuts * tile * plan.step);
  }
  plan.counts = tiles * tile * blocks_ * kLanes;
  plan.size = (in.h + 2 * rows.padding) * plan.row + tile * static_cast<int64_t>(plan.step);
  return plan;
}

void BinaryProduct::reserve(const ProductPlan& plan, ProductScratch& scratch) const {
  if (scratch.panel.size() == 0) scratch.panel = Buffer<int8_t>(kPanelBytes);
  if (static_cast<int64_t>(scratch.counts.size()) < plan.counts) scratch.counts = Buffer<int32_t>(plan.counts);
}

void BinaryProduct::pack(const ProductPlan& plan, const uint64_t* words, int64_t y, Buffer<uint8_t>& image) const {
  const int64_t pixels = plan.row - 2 * plan.lead;  // bytes
  kernel_.expand(words, pixels / kRun, image.data() + (plan.top + y) * plan.row + plan.lead);
}

void BinaryProduct::count(const ProductPlan& plan, const Buffer<uint8_t>& image, Range rows,
                          ProductScratch& scratch) const {
  Product product;
  const size_t windows = (rows.size() - 1) * plan.out_row + plan.width;
  product.bytes = image.data() + rows.begin * plan.down;
  product.starts = plan.starts.data();
  product.tiles = (windows + plan.tile - 1) / plan.tile;
  product.tile = plan.tile;
  product.step = plan.step;
  product.offsets = plan.offsets.data();
  product.runs = runs_;
  product.weights = weights_.data();
  product.ones = ones_.data();
  product.blocks = blocks_;
  product.panel = scratch.panel.data();
  product.counts = scratch.counts.data();
  kernel_.run(product);
  scratch.first = rows.begin;
}

}  // namespace onebit
