#include "fconv/layer.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace onebit {
namespace {

constexpr int64_t kLanes = static_cast<int64_t>(kFloatLanes);

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

// A row of taps is often a few floats (9 for a 3×3 kernel on an RGB image): too few to be worth a call of memcpy.
inline void copy_floats(const float* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) std::memcpy(to + i, from + i, 4 * sizeof(float));
  for (; i < n; ++i) std::memcpy(to + i, from + i, sizeof(float));
}

}  // namespace

FloatConv::FloatConv(Window window, int64_t in, int64_t out, int64_t groups, const std::vector<float>& weight,
                     std::vector<float> bias, Isa isa)
    : window_(window), in_(in), out_(out), groups_(groups), bias_(std::move(bias)), multiply_(select_multiply(isa)) {
  require(in >= 1 && out >= 1 && groups >= 1 && in % groups == 0 && out % groups == 0,
          "convolution: groups must divide the channels");
  group_in_ = in / groups;
  group_out_ = out / groups;
  const int64_t taps = window.rows.kernel * window.columns.kernel;
  depth_ = taps * group_in_;
  blocks_ = (group_out_ + kLanes - 1) / kLanes;
  require(static_cast<int64_t>(weight.size()) == out * depth_, "convolution: the weight has the wrong size");
  require(bias_.empty() || static_cast<int64_t>(bias_.size()) == out, "convolution: the bias has the wrong size");
  packed_ = Buffer<float>(groups * blocks_ * depth_ * kLanes);
  for (int64_t o = 0; o < out; ++o) {
    const int64_t group = o / group_out_, block = o % group_out_ / kLanes, lane = o % group_out_ % kLanes;
    float* to = packed_.data() + (group * blocks_ + block) * depth_ * kLanes + lane;
    for (int64_t c = 0; c < group_in_; ++c) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        to[(tap * group_in_ + c) * kLanes] = weight[(o * group_in_ + c) * taps + tap];
      }
    }
  }
}

Shape FloatConv::out_shape(Shape in) const {
  require(in.c == in_, "convolution: the input has the wrong number of channels");
  require(window_.rows.fits(in.h) && window_.columns.fits(in.w), "convolution: the image is too small");
  return {window_.rows.out_size(in.h), window_.columns.out_size(in.w), out_};
}

void FloatConv::reserve(FloatScratch& scratch) const {
  const auto grow = [](Buffer<float>& buffer, int64_t size) {
    if (static_cast<int64_t>(buffer.size()) < size) buffer = Buffer<float>(size);
  };
  grow(scratch.windows, kTile * depth_);
  grow(scratch.sums, kTile * blocks_ * kLanes);
}

void FloatConv::gather(Shape in, const float* x, int64_t y, int64_t at, int64_t group, float* window) const {
  const Axis &rows = window_.rows, &columns = window_.columns;
  const Range vertical = rows.valid_taps(y, in.h), horizontal = columns.valid_taps(at, in.w);
  const int64_t first = horizontal.begin, last = horizontal.end;
  const bool inside = vertical.size() == rows.kernel && last - first == columns.kernel;
  if (!inside) std::fill_n(window, depth_, 0.0f);
  for (int64_t kh = vertical.begin; kh < vertical.end; ++kh) {
    const float* row = x + (rows.origin(y) + kh * rows.dilation) * in.w * in.c + group * group_in_;
    float* to = window + kh * columns.kernel * group_in_;
    if (columns.dilation == 1 && groups_ == 1) {  // taps of a row are neighbours in memory
      copy_floats(row + (columns.origin(at) + first) * in.c, (last - first) * in.c, to + first * in.c);
      continue;
    }
    for (int64_t kw = first; kw < last; ++kw) {
      copy_floats(row + (columns.origin(at) + kw * columns.dilation) * in.c, group_in_, to + kw * group_in_);
    }
  }
}

void FloatConv::row(Shape in, const float* x, int64_t y, FloatScratch& scratch, float* out) const {
  const Shape shape = out_shape(in);
  const Axis &rows = window_.rows, &columns = window_.columns;
  // A 1×1 convolution without padding reads its windows where they are.
  const bool direct = groups_ == 1 && rows.kernel == 1 && columns.kernel == 1 && !rows.padding && !columns.padding;
  for (int64_t group = 0; group < groups_; ++group) {
    const float* packed = packed_.data() + group * blocks_ * depth_ * kLanes;
    for (int64_t begin = 0; begin < shape.w; begin += kTile) {
      const int64_t pixels = std::min(kTile, shape.w - begin);
      const float* windows = scratch.windows.data();
      int64_t stride = depth_;
      if (direct) {
        windows = x + (y * rows.stride * in.w + begin * columns.stride) * in.c;
        stride = columns.stride * in.c;
      } else {
        for (int64_t p = 0; p < pixels; ++p) {
          gather(in, x, y, begin + p, group, scratch.windows.data() + p * depth_);
        }
      }
      multiply_.run(windows, stride, pixels, depth_, packed, blocks_, scratch.sums.data());
      for (int64_t p = 0; p < pixels; ++p) {
        const float* sums = scratch.sums.data() + p * blocks_ * kLanes;
        float* to = out + (begin + p) * out_ + group * group_out_;
        const float* bias = bias_.empty() ? nullptr : bias_.data() + group * group_out_;
        for (int64_t o = 0; o < group_out_; ++o) to[o] = bias ? sums[o] + bias[o] : sums[o];
      }
    }
  }
}

}  // namespace onebit
