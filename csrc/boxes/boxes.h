// From a detector's outputs to boxes: docs/format.md gives the arithmetic to the bit, and src/onebit/runtime/boxes.py
// has the same expressions.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/steps/steps.h"

namespace onebit {

// Anchors of one map: row by row, column by column, boxes of a width and a height around ((x + 1/2)·step, (y +
// 1/2)·step).
struct Grid {
  int64_t rows, columns;
  double step_y, step_x;
  std::vector<std::pair<double, double>> boxes;

  int64_t size() const { return rows * columns * static_cast<int64_t>(boxes.size()); }
};

// All sizes in pixels of the network's input.
struct BoxSettings {
  int64_t height = 0, width = 0;  // of the input
  std::vector<Grid> anchors;      // none: the network gives proposals
  std::array<double, 4> weights{};
  double score = 0, overlap = 0, smallest = 0;
  int64_t candidates = std::numeric_limits<int64_t>::max(), most = 0;

  int64_t anchor_count() const;
};

struct Box {
  float x1, y1, x2, y2;
};

struct FoundBox {
  Box box;
  float score;
  int32_t label;  // 0 is the first one; the background is none
  int64_t row;    // of the outputs
};

std::vector<Box> anchors_of(const BoxSettings& settings);
std::vector<Box> boxes_of(const float* corners, int64_t count);  // (count, 4)

// An anchor or a proposal moved by offsets (4): towards them, as torchvision's BoxCoder decodes, then clipped to the
// image.
Box decoded(const StepKernels& steps, const BoxSettings& settings, const float* offsets, const Box& place);

// Whether two boxes have more than this in common: of the area that either covers, the part that both do.
bool overlapping(const Box& a, const Box& b, double overlap);

// What is found in one image, the best first: scores (rows, channels), offsets (rows, 4), or (rows, 4·channels) if
// `each`, places (rows).
std::vector<FoundBox> find_boxes(const StepKernels& steps, const BoxSettings& settings, const float* scores,
                                 const float* offsets, const Box* places, int64_t rows, int64_t channels, bool each);

}  // namespace onebit
