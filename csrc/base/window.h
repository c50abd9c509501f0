// The geometry of a sliding window, shared by convolutions and poolings.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace onebit {

struct Shape {
  int64_t h = 1, w = 1, c = 1;
  bool vector = false;  // (C), which is computed with as (1, 1, C)
  int64_t elements() const { return h * w * c; }
  bool operator==(const Shape& other) const {
    return h == other.h && w == other.w && c == other.c && vector == other.vector;
  }
};

// The rows of a map (H, W, C): all of them, or the last `kept` of those computed, row y at place y mod kept.
struct Map {
  const float* data = nullptr;
  int64_t kept = 0, row = 0;  // row: floats

  // A 64-bit division is dear, and most maps keep all rows.
  const float* at(int64_t y) const { return data + (y < kept ? y : y % kept) * row; }
};

// begin <= i < end: pixels, rows, or the valid taps of an output position.
struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
  bool operator==(const Range& other) const { return begin == other.begin && end == other.end; }
};

// One axis: output position `out` sees input position out·stride - padding + tap·dilation for tap = 0 .. kernel - 1.
// The padding is negative where the first window lies inside.
struct Axis {
  int64_t kernel = 1, stride = 1, padding = 0, dilation = 1;

  bool operator==(const Axis& other) const {
    return kernel == other.kernel && stride == other.stride && padding == other.padding && dilation == other.dilation;
  }

  int64_t out_size(int64_t size) const { return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1; }
  bool fits(int64_t size) const { return size + 2 * padding - dilation * (kernel - 1) - 1 >= 0; }
  int64_t origin(int64_t out) const { return out * stride - padding; }
  int64_t span() const { return (kernel - 1) * dilation + 1; }  // of a window

  // The end of what an output position sees of 0..size.
  int64_t seen(int64_t out, int64_t size) const { return std::clamp<int64_t>(origin(out) + span(), 0, size); }

  // The taps that lie inside 0..size; begin = end if there is none.
  Range valid_taps(int64_t out, int64_t size) const {
    const int64_t at = origin(out), room = size - at;  // taps with -at <= tap·dilation < room are inside
    if (at >= 0 && at + (kernel - 1) * dilation < size) return {0, kernel};  // the usual case, without a division
    const int64_t begin = at >= 0 ? 0 : std::min(kernel, (-at + dilation - 1) / dilation);
    const int64_t end = room <= 0 ? 0 : std::min(kernel, (room + dilation - 1) / dilation);
    return {begin, std::max(begin, end)};
  }

  // The output positions of 0..out whose taps all lie inside 0..size.
  Range inside(int64_t size, int64_t out) const {
    const int64_t room = size - 1 - dilation * (kernel - 1) + padding;  // the last of them is room / stride
    const int64_t begin = std::clamp<int64_t>((padding + stride - 1) / stride, 0, out);
    return {begin, std::max(begin, room < 0 ? 0 : std::min(out, room / stride + 1))};
  }
};

struct Window {
  Axis rows, columns;
  bool operator==(const Window& other) const { return rows == other.rows && columns == other.columns; }
};

// The valid taps of each output position along one axis.
inline std::vector<Range> all_taps(const Axis& axis, int64_t size, int64_t out) {
  std::vector<Range> taps;
  for (int64_t at = 0; at < out; ++at) taps.push_back(axis.valid_taps(at, size));
  return taps;
}

// The distinct values of `taps`, and which of them each output position has. Equal ones are neighbours, because neither
// end of a range grows from one position to the next.
inline std::vector<Range> classify(const std::vector<Range>& taps, std::vector<int64_t>& index) {
  std::vector<Range> classes;
  for (const Range& value : taps) {
    if (classes.empty() || !(classes.back() == value)) classes.push_back(value);
    index.push_back(static_cast<int64_t>(classes.size()) - 1);
  }
  return classes;
}

}  // namespace onebit
