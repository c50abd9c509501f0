// The geometry of a sliding window, shared by convolutions and poolings.
#pragma once

#include <algorithm>
#include <cstdint>

namespace onebit {

struct Shape {
  int64_t h = 1, w = 1, c = 1;  // vectors are (1, 1, C)
  int64_t elements() const { return h * w * c; }
};

// The rows of a map (H, W, C): all of them, or the last `kept` of those computed, row y at place y mod kept.
struct Map {
  const float* data = nullptr;
  int64_t kept = 0, row = 0;                                                           // row: floats
  const float* at(int64_t y) const { return data + (y < kept ? y : y % kept) * row; }  // a division is dear
};

// begin <= i < end: pixels, rows, or the valid taps of an output position.
struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
  bool operator==(const Range& other) const { return begin == other.begin && end == other.end; }
};

// One axis: output position `out` sees input position out·stride - padding + tap·dilation for tap = 0 .. kernel - 1.
struct Axis {
  int64_t kernel = 1, stride = 1, padding = 0, dilation = 1;

  int64_t out_size(int64_t size) const { return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1; }
  bool fits(int64_t size) const { return size + 2 * padding - dilation * (kernel - 1) - 1 >= 0; }
  int64_t origin(int64_t out) const { return out * stride - padding; }

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
    const int64_t begin = std::min(out, (padding + stride - 1) / stride);
    return {begin, std::max(begin, room < 0 ? 0 : std::min(out, room / stride + 1))};
  }
};

struct Window {
  Axis rows, columns;
};

}  // namespace onebit
