#include "boxes/boxes.h"

#include <algorithm>
#include <cmath>

namespace onebit {
namespace {

const float kLargest = static_cast<float>(std::log(1000.0 / 16));  // of a logarithm of sizes

float clip(float x, float most) {  // NaN stays
  x = x < 0 ? 0 : x;
  return x > most ? most : x;
}

// The middle and the half of a side [low, low + size], moved by a step and a logarithm.
std::pair<float, float> side(const StepKernels& steps, float low, float high, float step, float log) {
  const float size = high - low, centre = step * size + (low + 0.5f * size);
  log = log > kLargest ? kLargest : log;
  float scale;
  steps.exponential(&log, 1, &scale);
  const float half = 0.5f * (scale * size);
  return {centre - half, centre + half};
}

// Highest first; of equal scores the lower label, then the lower row.
bool better(const FoundBox& a, const FoundBox& b) {
  if (a.score != b.score) return a.score > b.score;
  return a.label != b.label ? a.label < b.label : a.row < b.row;
}

}  // namespace

int64_t BoxSettings::anchor_count() const {
  int64_t count = 0;
  for (const Grid& grid : anchors) count += grid.size();
  return count;
}

std::vector<Box> anchors_of(const BoxSettings& settings) {
  std::vector<Box> found;
  found.reserve(settings.anchor_count());
  for (const Grid& grid : settings.anchors) {
    for (int64_t y = 0; y < grid.rows; ++y) {
      for (int64_t x = 0; x < grid.columns; ++x) {
        const double cx = (static_cast<double>(x) + 0.5) * grid.step_x,
                     cy = (static_cast<double>(y) + 0.5) * grid.step_y;
        for (const auto& [width, height] : grid.boxes) {
          found.push_back({static_cast<float>(cx - width / 2), static_cast<float>(cy - height / 2),
                           static_cast<float>(cx + width / 2), static_cast<float>(cy + height / 2)});
        }
      }
    }
  }
  return found;
}

std::vector<Box> boxes_of(const float* corners, int64_t count) {
  std::vector<Box> found;
  found.reserve(count);
  for (int64_t i = 0; i < count; ++i, corners += 4) found.push_back({corners[0], corners[1], corners[2], corners[3]});
  return found;
}

Box decoded(const StepKernels& steps, const BoxSettings& settings, const float* offsets, const Box& place) {
  float moved[4];
  for (int i = 0; i < 4; ++i) moved[i] = offsets[i] / static_cast<float>(settings.weights[i]);
  const auto [x1, x2] = side(steps, place.x1, place.x2, moved[0], moved[2]);
  const auto [y1, y2] = side(steps, place.y1, place.y2, moved[1], moved[3]);
  const float width = static_cast<float>(settings.width), height = static_cast<float>(settings.height);
  return {clip(x1, width), clip(y1, height), clip(x2, width), clip(y2, height)};
}

bool overlapping(const Box& a, const Box& b, double overlap) {
  const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1), height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  const float both = std::max(width, 0.0f) * std::max(height, 0.0f);
  const float areas = (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1);
  return static_cast<double>(both / (areas - both)) > overlap;  // of two empty boxes NaN, which is not
}

std::vector<FoundBox> find_boxes(const StepKernels& steps, const BoxSettings& settings, const float* scores,
                                 const float* offsets, const Box* places, int64_t rows, int64_t channels, bool each) {
  const float least = static_cast<float>(settings.score), smallest = static_cast<float>(settings.smallest);
  std::vector<std::vector<FoundBox>> by_label(channels - 1);
  std::vector<double> exponentials(channels);
  std::vector<float> p(channels);
  for (int64_t row = 0; row < rows; ++row) {
    steps.softmax(scores + row * channels, channels, exponentials.data(), p.data());
    for (int64_t c = 1; c < channels; ++c) {
      if (p[c] > least) by_label[c - 1].push_back({{}, p[c], static_cast<int32_t>(c - 1), row});
    }
  }
  std::vector<FoundBox> found;
  for (std::vector<FoundBox>& candidates : by_label) {
    std::sort(candidates.begin(), candidates.end(), better);
    const size_t first = found.size();  // of this label
    int64_t seen = 0;
    for (FoundBox& candidate : candidates) {
      const int64_t at = each ? candidate.row * channels + candidate.label + 1 : candidate.row;
      const Box box = candidate.box = decoded(steps, settings, offsets + 4 * at, places[candidate.row]);
      if (!(box.x2 - box.x1 >= smallest && box.y2 - box.y1 >= smallest)) continue;  // NaN, too
      if (++seen > settings.candidates || static_cast<int64_t>(found.size() - first) == settings.most) break;
      bool hidden = false;
      for (size_t i = first; i < found.size() && !hidden; ++i) {
        hidden = overlapping(found[i].box, box, settings.overlap);
      }
      if (!hidden) found.push_back(candidate);
    }
  }
  std::sort(found.begin(), found.end(), better);
  if (static_cast<int64_t>(found.size()) > settings.most) found.resize(settings.most);
  return found;
}

}  // namespace onebit
