// The geometry of a sliding window, shared by convolutions and poolings.
#pragma once

#include <algorithm>
#include <cstdint>

namespace onebit {

struct Shape {
  int64_t h = 1, w = 1, c = 1;  // vectors are (1, 1, C)
  int64_t elements() const { return h * w * c; }
};

// One axis: output position `out` sees input position out·stride - padding + tap·dilation for tap = 0 .. kernel - 1.
struct Axis {
  int64_t kernel = 1, stride = 1, padding = 0, dilation = 1;

  int64_t out_size(int64_t size) const { return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1; }
  bool fits(int64_t size) const { return size + 2 * padding - dilation * (kernel - 1) - 1 >= 0; }
  int64_t origin(int64_t out) const { return out * stride - padding; }

  // The taps [first, last) that lie inside 0..size; first = last if there is none.
  int64_t first_tap(int64_t out) const {
    const int64_t at = origin(out);
    return std::min(kernel, at >= 0 ? 0 : (-at + dilation - 1) / dilation);
  }
  int64_t last_tap(int64_t out, int64_t size) const {
    const int64_t room = size - origin(out);  // taps with tap·dilation < room are inside
    return std::max(first_tap(out), room <= 0 ? 0 : std::min(kernel, (room + dilation - 1) / dilation));
  }
};

struct Window {
  Axis rows, columns;
};

}  // namespace onebit
