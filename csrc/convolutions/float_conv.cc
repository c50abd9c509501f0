#include "convolutions/float_conv.h"

#include <algorithm>
#include <cstring>

#include "base/require.h"

namespace onebit {
namespace {

constexpr int64_t kLanes = static_cast<int64_t>(kFloatLanes);
constexpr int64_t kTile = 48;             // pixels computed at once
constexpr int64_t kMaxScratch = 1 << 20;  // floats gathered or summed at once: fewer pixels if theirs are many

// A row of taps is often a few floats (9 for a 3×3 kernel on an RGB image): too few to be worth a call of memcpy.
inline void copy_floats(const float* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) std::memcpy(to + i, from + i, 4 * sizeof(float));
  for (; i < n; ++i) std::memcpy(to + i, from + i, sizeof(float));
}

}  // namespace

FloatConv::FloatConv(Window window, int64_t in, int64_t out, int64_t groups, const std::vector<float>& weight,
                     const std::vector<float>& bias, Isa isa)
    : window_(window), in_(in), out_(out), groups_(groups), multiply_(select_multiply(isa)) {
  require(in >= 1 && out >= 1 && groups >= 1 && in % groups == 0 && out % groups == 0,
          "convolution: groups must divide the channels");
  group_in_ = in / groups;
  group_out_ = out / groups;
  const int64_t taps = window.rows.kernel * window.columns.kernel;
  depth_ = taps * group_in_;
  blocks_ = (group_out_ + kLanes - 1) / kLanes;
  tile_ = std::clamp<int64_t>(kMaxScratch / std::max(depth_, group_out_), 1, kTile);
  require(static_cast<int64_t>(weight.size()) == out * depth_, "convolution: the weight has the wrong size");
  require(bias.empty() || static_cast<int64_t>(bias.size()) == out, "convolution: the bias has the wrong size");
  packed_ = Buffer<float>(groups * blocks_ * depth_ * kLanes);
  bias_ = Buffer<float>(groups * blocks_ * kLanes);
  for (int64_t o = 0; o < out; ++o) {
    const int64_t group = o / group_out_, block = o % group_out_ / kLanes, lane = o % group_out_ % kLanes;
    if (!bias.empty()) bias_[(group * blocks_ + block) * kLanes + lane] = bias[o];
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
  const size_t size = tile_ * depth_, rows = depth_ / group_in_;  // at most one for each tap
  if (scratch.windows.size() < size) scratch.windows = Buffer<float>(size);
  if (scratch.sums.size() < static_cast<size_t>(tile_ * group_out_)) scratch.sums = Buffer<float>(tile_ * group_out_);
  if (scratch.rows.size() < rows) scratch.rows = Buffer<const float*>(rows);
}

void FloatConv::gather(Shape in, const Map& x, int64_t y, int64_t at, int64_t group, float* window) const {
  const Axis &rows = window_.rows, &columns = window_.columns;
  const Range vertical = rows.valid_taps(y, in.h), horizontal = columns.valid_taps(at, in.w);
  const int64_t first = horizontal.begin, last = horizontal.end;
  const bool inside = vertical.size() == rows.kernel && last - first == columns.kernel;
  if (!inside) std::fill_n(window, depth_, 0.0f);
  for (int64_t kh = vertical.begin; kh < vertical.end; ++kh) {
    const float* row = x.at(rows.origin(y) + kh * rows.dilation) + group * group_in_;
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

void FloatConv::row(Shape in, const Map& x, int64_t y, void (*step)(const Finish&), const Finish& finish,
                    FloatScratch& scratch) const {
  pixels(in, x, y, out_shape(in).w, step, finish, scratch);
}

int64_t FloatConv::band_size(Shape in) const {
  const bool each_alone = window_ == Window{} && groups_ == 1;  // an output sees one pixel
  return each_alone && in.w == 1 && in.h > 1 ? std::min(tile_, in.h) : 0;
}

void FloatConv::band(Shape in, const Map& x, Range rows, FloatScratch& scratch) const {
  scratch.first = rows.begin;
  Finish finish{};
  finish.out = scratch.sums.data();
  finish.stride = out_;
  pixels({1, rows.size(), in.c}, {x.at(rows.begin), 1, rows.size() * in.c}, 0, rows.size(), nullptr, finish, scratch);
}

void FloatConv::pixels(Shape in, const Map& x, int64_t y, int64_t count, void (*step)(const Finish&),
                       const Finish& finish, FloatScratch& scratch) const {
  const Axis &rows = window_.rows, &columns = window_.columns;
  const Range vertical = rows.valid_taps(y, in.h);
  // Where all taps are inside the image, windows are read where they are: row by row if the taps of a row are
  // neighbours in memory, else tap by tap.
  const bool direct = vertical.size() == rows.kernel;
  const int64_t runs = groups_ == 1 && columns.dilation == 1 ? 1 : columns.kernel;  // of a row of taps
  const Range inside = direct ? columns.inside(in.w, count) : Range{0, 0};
  Multiply m;
  m.rows = scratch.rows.data();
  m.blocks = blocks_;
  m.outputs = group_out_;
  for (int64_t group = 0; group < groups_; ++group) {
    m.weights = packed_.data() + group * blocks_ * depth_ * kLanes;
    m.bias = bias_.data() + group * blocks_ * kLanes;
    for (int64_t at = 0, end; at < count; at = end) {
      const int64_t first = at * static_cast<int64_t>(finish.stride) + group * group_out_;
      // The other operand of an addition may lie where the output goes.
      const bool apart = step && finish.other;
      m.out = apart ? scratch.sums.data() : finish.out + first;
      m.out_step = apart ? static_cast<size_t>(group_out_) : finish.stride;
      if (at >= inside.begin && at < inside.end) {
        end = std::min(at + tile_, inside.end);
        for (int64_t kh = 0; kh < rows.kernel; ++kh) {
          const float* row = x.at(rows.origin(y) + kh * rows.dilation) + group * group_in_;
          for (int64_t kw = 0; kw < runs; ++kw) {
            scratch.rows[kh * runs + kw] = row + (columns.origin(at) + kw * columns.dilation) * in.c;
          }
        }
        m.count = rows.kernel * runs;
        m.run = depth_ / m.count;
        m.step = columns.stride * in.c;
      } else {
        end = std::min(at + tile_, at < inside.begin ? inside.begin : count);
        for (int64_t p = at; p < end; ++p) gather(in, x, y, p, group, scratch.windows.data() + (p - at) * depth_);
        scratch.rows[0] = scratch.windows.data();
        m.count = 1;
        m.run = m.step = depth_;
      }
      m.pixels = end - at;
      multiply_.run(m);
      if (!step) continue;
      Finish part = finish;  // while the pixels are in cache
      part.x = m.out;
      part.x_stride = m.out_step;
      part.out += first;
      part.pixels = m.pixels;
      part.channels = group_out_;
      if (part.other) part.other += first;
      if (part.params) part.params += group * group_out_;
      step(part);
    }
  }
}

}  // namespace onebit
