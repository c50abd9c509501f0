#include "graph/peak.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/buffer.h"
#include "kernels/bconv/bconv.h"
#include "kernels/bproduct/bproduct.h"
#include "kernels/fconv/fconv.h"
#include "kernels/qconv/qconv.h"

namespace onebit {
namespace {

constexpr int kRepeats = 200;

// Operations a second of a call that does `work` of them: the fastest of many calls, each long enough to be timed.
template <typename Call>
double fastest(double work, Call call) {
  using Clock = std::chrono::steady_clock;
  double best = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    const auto start = Clock::now();
    call();
    best = std::max(best, work / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

double count_peak(Isa isa) {
  constexpr size_t kWords = 240, kPixels = 64;  // 15 KiB of weights
  const Buffer<uint32_t> weights(kWords * kBinaryLanes), windows(kWords);
  Buffer<int32_t> counts(kPixels * kBinaryLanes);
  std::vector<size_t> offsets;
  for (size_t k = 0; k < kWords; ++k) offsets.push_back(4 * k);
  Count count;
  count.bits = reinterpret_cast<const char*>(windows.data());
  count.step = 0;
  count.offsets = offsets.data();
  count.masks = nullptr;
  count.words = kWords;
  count.pixels = kPixels;
  count.weights = weights.data();
  count.blocks = 1;
  count.counts = counts.data();
  const CountKernel& kernel = select_count(isa);
  return fastest(32.0 * kWords * kBinaryLanes * kPixels, [&] { kernel.run(count); });
}

double product_peak(const ProductKernel& kernel) {
  constexpr size_t kTiles = 64, kTile = 16, kBlocks = 2;  // 16 KiB of windows, 32 of weights
  const Buffer<uint8_t> bytes(kTile * kProductRun * kPanelRuns);
  const Buffer<uint64_t> weights(kBlocks * kPanelRuns * kProductLanes);
  const Buffer<int32_t> ones(kBlocks * kProductLanes);
  Buffer<int8_t> panel(kPanelBytes);
  Buffer<int32_t> counts(kTiles * kTile * kBlocks * kProductLanes);
  const std::vector<size_t> starts(kTiles, 0);
  std::vector<size_t> offsets;
  for (size_t k = 0; k < kPanelRuns; ++k) offsets.push_back(k * kTile * kProductRun);
  Product product;
  product.bytes = bytes.data();
  product.starts = starts.data();
  product.tiles = kTiles;
  product.tile = kTile;
  product.step = kProductRun;
  product.offsets = offsets.data();
  product.runs = kPanelRuns;
  product.weights = weights.data();
  product.ones = ones.data();
  product.blocks = kBlocks;
  product.panel = panel.data();
  product.counts = counts.data();
  const double work = double{kTiles} * kTile * kPanelRuns * kProductRun * kBlocks * kProductLanes;
  return fastest(work, [&] { kernel.run(product); });
}

}  // namespace

double binary_peak(Isa isa) {
  const ProductKernel* product = select_product(isa);
  return std::max(count_peak(isa), product ? product_peak(*product) : 0.0);
}

double float_peak(Isa isa) {
  constexpr size_t kDepth = 128, kPixels = 96, kBlocks = 2;  // 16 KiB of weights
  const Buffer<float> weights(kDepth * kBlocks * kFloatLanes), bias(kBlocks * kFloatLanes), window(kDepth);
  Buffer<float> out(kBlocks * kFloatLanes);
  const float* row = window.data();
  Multiply multiply;
  multiply.rows = &row;
  multiply.count = 1;
  multiply.run = kDepth;
  multiply.step = 0;
  multiply.pixels = kPixels;
  multiply.weights = weights.data();
  multiply.bias = bias.data();
  multiply.blocks = kBlocks;
  multiply.outputs = kBlocks * kFloatLanes;
  multiply.out = out.data();
  multiply.out_step = 0;
  const MultiplyKernel& kernel = select_multiply(isa);
  return fastest(double{kDepth} * kBlocks * kFloatLanes * kPixels, [&] { kernel.run(multiply); });
}

double byte_peak(Isa isa) {
  constexpr size_t kWords = 64, kPixels = 96, kBlocks = 2;  // 8 KiB of weights
  const Buffer<int8_t> weights(kWords * kBlocks * kByteLanes * 4);
  const Buffer<float> scales(kBlocks * kByteLanes), base(kBlocks * kByteLanes);
  const Buffer<int64_t> classes(kPixels);
  const Buffer<uint8_t> window(4 * kWords);
  Buffer<float> out(kBlocks * kByteLanes);
  ByteMultiply multiply;
  multiply.bytes = window.data();
  multiply.channel_step = multiply.row_step = multiply.step = 0;
  multiply.channels = multiply.rows = 1;
  multiply.words = kWords;
  multiply.pixels = kPixels;
  multiply.weights = weights.data();
  multiply.scales = scales.data();
  multiply.base = base.data();
  multiply.classes = classes.data();
  multiply.blocks = kBlocks;
  multiply.outputs = kBlocks * kByteLanes;
  multiply.out = out.data();
  multiply.out_step = 0;
  const ByteKernel& kernel = select_bytes(isa);
  return fastest(4.0 * kWords * kBlocks * kByteLanes * kPixels, [&] { kernel.run(multiply); });
}

}  // namespace onebit
