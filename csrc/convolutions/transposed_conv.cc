#include "convolutions/transposed_conv.h"

#include <algorithm>
#include <numeric>

#include "base/require.h"

namespace onebit {

TransposedConv::Phases TransposedConv::phases(const Axis& axis) {
  Phases phases;
  phases.of_place.assign(axis.stride, kNone);
  const int64_t common = std::gcd(axis.stride, axis.dilation), step = axis.stride / common;
  const int64_t before = axis.dilation * (axis.kernel - 1) - axis.padding;
  for (int64_t first = 0; first < std::min(step, axis.kernel); ++first) {
    const int64_t shift = first * axis.dilation - before, place = (-shift % axis.stride + axis.stride) % axis.stride;
    Axis seen;
    seen.kernel = (axis.kernel - first + step - 1) / step;
    seen.dilation = axis.dilation / common;
    seen.padding = -(place + shift) / axis.stride;
    phases.of_place[place] = static_cast<int>(phases.found.size());
    phases.found.push_back({first, step, seen});
  }
  return phases;
}

TransposedConv::TransposedConv(Window window, int64_t extra_rows, int64_t extra_columns, int64_t in, int64_t out,
                               int64_t groups, const std::vector<float>& weight, const std::vector<float>& bias,
                               Isa isa)
    : window_(window),
      extra_rows_(extra_rows),
      extra_columns_(extra_columns),
      in_(in),
      out_(out),
      rows_(phases(window.rows)),
      columns_(phases(window.columns)),
      bias_(bias) {
  const int64_t height = window.rows.kernel, width = window.columns.kernel, planes = out * (in / groups);
  require(static_cast<int64_t>(weight.size()) == planes * height * width,
          "transposed convolution: the weight has the wrong size");
  products_ = std::max<int64_t>(height * width * (in / groups) / (window.rows.stride * window.columns.stride), 1);
  std::vector<float> part;
  for (const Phase& down : rows_.found) {
    for (const Phase& across : columns_.found) {
      part.clear();
      for (int64_t plane = 0; plane < planes; ++plane) {
        for (int64_t kh = down.first; kh < height; kh += down.step) {
          const float* row = weight.data() + (plane * height + kh) * width;
          for (int64_t kw = across.first; kw < width; kw += across.step) part.push_back(row[kw]);
        }
      }
      convs_.emplace_back(Window{down.axis, across.axis}, in, out, groups, part, bias, isa);
    }
  }
  bias_.resize(out);
}

Shape TransposedConv::out_shape(Shape in) const {
  require(in.c == in_, "transposed convolution: the input has the wrong number of channels");
  const auto size = [](const Axis& axis, int64_t n, int64_t extra) {
    return (n - 1) * axis.stride - 2 * axis.padding + axis.span() + extra;
  };
  return {size(window_.rows, in.h, extra_rows_), size(window_.columns, in.w, extra_columns_), out_};
}

void TransposedConv::reserve(FloatScratch& scratch) const {
  for (const FloatConv& conv : convs_) conv.reserve(scratch);
}

int64_t TransposedConv::weight_bytes() const {
  int64_t bytes = 0;
  for (const FloatConv& conv : convs_) bytes += conv.weight_bytes();
  return bytes;
}

// The last tap of output y is at y + padding.
int64_t TransposedConv::rows_needed(int64_t y, int64_t height) const {
  return std::min((y + window_.rows.padding) / window_.rows.stride + 1, height);
}

int64_t TransposedConv::rows_seen() const { return (window_.rows.span() - 1) / window_.rows.stride + 1; }

void TransposedConv::row(Shape in, const Map& x, int64_t y, void (*step)(const Finish&), const Finish& finish,
                         FloatScratch& scratch) const {
  const int64_t width = out_shape(in).w, stride = window_.columns.stride;
  const int down = rows_.of_place[y % window_.rows.stride];
  for (int64_t place = 0; place < std::min(stride, width); ++place) {
    const int across = columns_.of_place[place];
    Finish part = finish;  // of each stride-th pixel
    part.out += place * out_;
    if (part.other) part.other += place * out_;
    part.stride = stride * out_;
    part.pixels = (width - place + stride - 1) / stride;
    if (down != kNone && across != kNone) {
      const FloatConv& conv = convs_[down * columns_.found.size() + across];
      conv.pixels(in, x, y / window_.rows.stride, static_cast<int64_t>(part.pixels), step, part, scratch);
    } else if (step) {  // no tap meets a pixel
      part.x = bias_.data();
      part.x_stride = 0;
      step(part);
    } else {
      for (size_t p = 0; p < part.pixels; ++p) std::copy_n(bias_.data(), out_, part.out + p * part.stride);
    }
  }
}

}  // namespace onebit
