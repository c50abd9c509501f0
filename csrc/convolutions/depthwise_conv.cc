#include "convolutions/depthwise_conv.h"

#include <algorithm>

#include "base/require.h"

namespace onebit {
namespace {

constexpr int64_t kTileFloats = 1 << 14;  // of the outputs computed at once, which the next step finds in cache
constexpr int64_t kTileTaps = 1 << 15;    // addresses
constexpr int64_t kTile = 48;             // pixels

}  // namespace

DepthwiseConv::DepthwiseConv(Window window, int64_t in, int64_t out, const std::vector<float>& weight,
                             const std::vector<float>& bias, Isa isa)
    : window_(window),
      in_(in),
      out_(out),
      taps_(window.rows.kernel * window.columns.kernel),
      kernel_(select_depthwise(isa)) {
  require(in >= 1 && out >= 1 && out % in == 0, "depth-wise convolution: the outputs must be a multiple of the inputs");
  require(static_cast<int64_t>(weight.size()) == out * taps_, "depth-wise convolution: the weight has the wrong size");
  require(bias.empty() || static_cast<int64_t>(bias.size()) == out,
          "depth-wise convolution: the bias has the wrong size");
  each_ = out / in;
  tile_ = std::clamp<int64_t>(std::min(kTileFloats / out, kTileTaps / taps_), 1, kTile);
  weights_ = Buffer<float>(out * taps_);
  bias_ = Buffer<float>(out);
  zeros_ = Buffer<float>(in);
  for (int64_t o = 0; o < out; ++o) {
    const int64_t channel = o / each_, filter = o % each_;
    if (!bias.empty()) bias_[filter * in + channel] = bias[o];
    for (int64_t tap = 0; tap < taps_; ++tap) {
      weights_[(filter * taps_ + tap) * in + channel] = weight[o * taps_ + tap];
    }
  }
}

Shape DepthwiseConv::out_shape(Shape in) const {
  require(in.c == in_, "convolution: the input has the wrong number of channels");
  require(window_.rows.fits(in.h) && window_.columns.fits(in.w), "convolution: the image is too small");
  return {window_.rows.out_size(in.h), window_.columns.out_size(in.w), out_};
}

void DepthwiseConv::reserve(FloatScratch& scratch) const {
  const size_t runs = tile_, sums = tile_ * (each_ > 1 ? out_ + in_ : out_);  // a run has a pixel or more
  if (scratch.runs.size() < runs) scratch.runs = Buffer<DepthwiseRun>(runs);
  if (scratch.taps.size() < runs * taps_) scratch.taps = Buffer<DepthwiseTap>(runs * taps_);
  if (scratch.sums.size() < sums) scratch.sums = Buffer<float>(sums);
}

// What the taps of output pixel (y, at) see; the step leads to what they see of the next one.
void DepthwiseConv::see(Shape in, const Map& x, int64_t y, int64_t at, DepthwiseTap* taps) const {
  const Axis &rows = window_.rows, &columns = window_.columns;
  const Range vertical = rows.valid_taps(y, in.h), horizontal = columns.valid_taps(at, in.w);
  const size_t step = columns.stride * in.c;
  for (int64_t kh = 0; kh < rows.kernel; ++kh) {
    const bool there = kh >= vertical.begin && kh < vertical.end;
    const float* row = there ? x.at(rows.origin(y) + kh * rows.dilation) : nullptr;
    for (int64_t kw = 0; kw < columns.kernel; ++kw, ++taps) {
      if (there && kw >= horizontal.begin && kw < horizontal.end) {
        *taps = {row + (columns.origin(at) + kw * columns.dilation) * in.c, step};
      } else {
        *taps = {zeros_.data(), 0};
      }
    }
  }
}

// All filters, of which each writes its outputs side by side into `plane` (pixels, I), from where they go to out.
void DepthwiseConv::multiply(Depthwise d, int64_t pixels, const float* plane, float* out) const {
  for (int64_t filter = 0; filter < each_; ++filter, d.weights += taps_ * in_, d.bias += in_) {
    kernel_.run(d);
    for (int64_t p = 0; p < pixels; ++p) {
      for (int64_t c = 0; c < in_; ++c) out[p * out_ + c * each_ + filter] = plane[p * in_ + c];
    }
  }
}

void DepthwiseConv::row(Shape in, const Map& x, int64_t y, void (*step)(const Finish&), const Finish& finish,
                        FloatScratch& scratch) const {
  const int64_t width = window_.columns.out_size(in.w);
  // Pixels whose taps lie between the left and the right end see them at equal distances; the others are runs of one.
  const Range inside = window_.columns.inside(in.w, width);
  float* plane = each_ > 1 ? scratch.sums.data() + tile_ * out_ : nullptr;
  Depthwise d;
  d.runs = scratch.runs.data();
  d.count = taps_;
  d.channels = in_;
  d.weights = weights_.data();
  d.bias = bias_.data();
  d.out_step = in_;
  for (int64_t first = 0, last; first < width; first = last) {
    last = std::min(first + tile_, width);
    // The other operand of an addition may lie where the output goes.
    float* out = step && finish.other ? scratch.sums.data() : finish.out + first * out_;
    DepthwiseRun* run = scratch.runs.data();
    DepthwiseTap* taps = scratch.taps.data();
    for (int64_t at = first, end; at < last; at = end, ++run, taps += taps_) {
      end = at >= inside.begin && at < inside.end ? std::min(last, inside.end) : at + 1;
      see(in, x, y, at, taps);
      *run = {taps, static_cast<size_t>(end - at), (plane ? plane : out) + (at - first) * in_};
    }
    d.run_count = run - scratch.runs.data();
    if (plane) {
      multiply(d, last - first, plane, out);
    } else {
      kernel_.run(d);
    }
    if (!step) continue;
    Finish part = finish;  // while the pixels are in cache
    part.x = out;
    part.x_stride = out_;
    part.out += first * out_;
    part.pixels = last - first;
    if (part.other) part.other += first * out_;
    step(part);
  }
}

}  // namespace onebit
