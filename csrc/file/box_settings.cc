#include "file/box_settings.h"

#include "base/error.h"
#include "base/fields.h"
#include "operators/source.h"

namespace onebit {
namespace {

using json::Kind;
using json::Value;

constexpr size_t kMaxGrids = 100, kMaxBoxes = 1000;

double positive_of(const Value& value, const std::string& where) {
  const double found = number_of(value, where);
  if (!(found > 0)) refuse_value(where, "a number above 0", value);
  return found;
}

double from_0(const Value& value, const std::string& where) {
  const double found = number_of(value, where);
  if (!(found >= 0)) refuse_value(where, "a number from 0 on", value);
  return found;
}

double part_of(const Value& value, const std::string& where) {
  const double found = number_of(value, where);
  if (!(found >= 0 && found <= 1)) refuse_value(where, "a number from 0 to 1", value);
  return found;
}

const Value& several(const Value& value, size_t count, const std::string& where, const char* words) {
  if (!value.is(Kind::array) || value.size() != count) refuse_value(where, words, value);
  return value;
}

std::pair<double, double> two(const Value& value, const std::string& where) {
  several(value, 2, where, "a list of two numbers");
  const double first = positive_of(value[0], where);
  return {first, positive_of(value[1], where)};
}

std::pair<int64_t, int64_t> two_sizes(const Value& value, const std::string& where) {
  several(value, 2, where, "a list of two integers");
  const int64_t first = integer_of(value[0], where, 1, kMaxSize);
  return {first, integer_of(value[1], where, 1, kMaxSize)};
}

Grid read_grid(const Value& entry, const std::string& where) {
  check_keys(entry, where, {"map", "step", "boxes"});
  Grid grid;
  std::tie(grid.step_y, grid.step_x) = two(*entry.find("step"), where + ".step");
  std::tie(grid.rows, grid.columns) = two_sizes(*entry.find("map"), where + ".map");
  for (const Value& box : list_of(*entry.find("boxes"), where + ".boxes", 1, kMaxBoxes, "boxes")) {
    grid.boxes.push_back(two(box, where + ".boxes[" + std::to_string(grid.boxes.size()) + "]"));
  }
  return grid;
}

std::string show_shape(int64_t rows, int64_t channels) { return show(Shape{rows, 1, channels}); }

void check_output(const char* name, const Shape& got, bool fits, const std::string& expected) {
  if (!fits) throw FormatError("the output " + std::string(name) + " must be " + expected + ", got " + show(got));
}

bool is_sequence(const Shape& shape, int64_t rows, int64_t channels) {
  return !shape.vector && shape.h == rows && shape.w == 1 && shape.c == channels;
}

}  // namespace

BoxSettings read_box_settings(const Value& entry, const std::string& where) {
  check_keys(entry, where, {"size", "weights", "score", "overlap", "most"}, {"anchors", "candidates", "smallest"});
  BoxSettings found;
  if (const Value* smallest = entry.find("smallest")) found.smallest = from_0(*smallest, where + ".smallest");
  std::tie(found.height, found.width) = two_sizes(*entry.find("size"), where + ".size");
  if (const Value* anchors = entry.find("anchors")) {
    for (const Value& grid : list_of(*anchors, where + ".anchors", 1, kMaxGrids, "grids")) {
      found.anchors.push_back(read_grid(grid, where + ".anchors[" + std::to_string(found.anchors.size()) + "]"));
    }
  }
  const Value& weights = several(*entry.find("weights"), 4, where + ".weights", "a list of 4 numbers");
  for (size_t i = 0; i < 4; ++i) found.weights[i] = positive_of(weights[i], where + ".weights");
  found.score = part_of(*entry.find("score"), where + ".score");
  found.overlap = part_of(*entry.find("overlap"), where + ".overlap");
  if (const Value* candidates = entry.find("candidates")) {
    found.candidates = integer_of(*candidates, where + ".candidates", 1, kMaxChannels);
  }
  found.most = integer_of(*entry.find("most"), where + ".most", 1, kMaxChannels);
  return found;
}

void check_box_outputs(const BoxSettings& settings, const std::vector<std::pair<std::string, Shape>>& outputs) {
  std::vector<std::string> names{"scores", "offsets"};
  if (settings.anchors.empty()) names.emplace_back("proposals");
  bool same = outputs.size() == names.size();
  std::string wanted, given;
  for (size_t i = 0; i < names.size(); ++i) {
    same = same && outputs[i].first == names[i];
    wanted += (i ? ", " : "") + names[i];
  }
  for (const auto& [name, shape] : outputs) given += (given.empty() ? "" : ", ") + name;
  if (!same) {
    throw FormatError("the answer 'boxes' is read from the outputs " + wanted + ", in this order, got " + given);
  }
  const Shape scores = outputs[0].second;
  check_output("scores", scores, !scores.vector && scores.w == 1 && scores.c >= 2, "(rows, 1, 1 + labels)");
  const int64_t rows = scores.h, channels = scores.c;
  const Shape offsets = outputs[1].second;
  check_output("offsets", offsets, is_sequence(offsets, rows, 4) || is_sequence(offsets, rows, 4 * channels),
               show_shape(rows, 4) + " or " + show_shape(rows, 4 * channels));
  if (settings.anchors.empty()) {
    check_output("proposals", outputs[2].second, is_sequence(outputs[2].second, rows, 4), show_shape(rows, 4));
  } else if (settings.anchor_count() != rows) {
    throw FormatError("graph.task.settings.anchors are " + std::to_string(settings.anchor_count()) +
                      ", the output scores has " + std::to_string(rows) + " rows");
  }
}

}  // namespace onebit
