#include "file/box_settings.h"

#include "base/error.h"
#include "base/fields.h"
#include "operators/source.h"

namespace onebit {
namespace {

using json::Kind;
using json::Value;

constexpr size_t kMaxGrids = 100, kMaxBoxes = 1000;

enum class Numbers { positive, from_0, part };

double number_in(const Value& value, const std::string& where, Numbers allowed) {
  const double found = number_of(value, where);
  if (allowed == Numbers::positive && !(found > 0)) refuse_value(where, "a number above 0", value);
  if (allowed == Numbers::from_0 && !(found >= 0)) refuse_value(where, "a number from 0 on", value);
  if (allowed == Numbers::part && !(found >= 0 && found <= 1)) refuse_value(where, "a number from 0 to 1", value);
  return found;
}

// A field of an object, with its name for messages.
struct Field {
  Field(const Value& entry, const char* key, const std::string& object) : value(entry.find(key)), where(object) {
    where += '.';
    where += key;
  }

  int64_t integer(int64_t high) const { return integer_of(*value, where, 1, high); }
  double number(Numbers allowed) const { return number_in(*value, where, allowed); }
  // So many numbers above 0.
  void positives(size_t count, const char* words, double* found) const { several(*value, where, count, words, found); }
  void sizes(int64_t& first, int64_t& second) const {
    if (!value->is(Kind::array) || value->size() != 2) refuse_value(where, "a list of two integers", *value);
    first = integer_of((*value)[0], where, 1, kMaxSize);
    second = integer_of((*value)[1], where, 1, kMaxSize);
  }
  // What `read` makes of each of at most so many elements.
  template <typename Read>
  void list(size_t most, const char* what, Read read) const {
    size_t place = 0;
    for (const Value& element : list_of(*value, where, 1, most, what)) {
      read(element, where + "[" + std::to_string(place++) + "]");
    }
  }

  static void several(const Value& value, const std::string& where, size_t count, const char* words, double* found) {
    if (!value.is(Kind::array) || value.size() != count) refuse_value(where, words, value);
    for (const Value& each : value) *found++ = number_in(each, where, Numbers::positive);
  }

  const Value* value;
  std::string where;
};

constexpr const char* kTwo = "a list of two numbers";

Grid read_grid(const Value& entry, const std::string& where) {
  check_keys(entry, where, {"map", "step", "boxes"});
  Grid grid;
  double step[2];
  Field(entry, "step", where).positives(2, kTwo, step);
  grid.step_y = step[0];
  grid.step_x = step[1];
  Field(entry, "map", where).sizes(grid.rows, grid.columns);
  Field(entry, "boxes", where).list(kMaxBoxes, "boxes", [&](const Value& box, const std::string& name) {
    double size[2];
    Field::several(box, name, 2, kTwo, size);
    grid.boxes.emplace_back(size[0], size[1]);
  });
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
  const auto field = [&](const char* key) { return Field(entry, key, where); };
  BoxSettings found;
  if (entry.find("smallest")) found.smallest = field("smallest").number(Numbers::from_0);
  field("size").sizes(found.height, found.width);
  if (entry.find("anchors")) {
    field("anchors").list(kMaxGrids, "grids", [&](const Value& grid, const std::string& name) {
      found.anchors.push_back(read_grid(grid, name));
    });
  }
  field("weights").positives(4, "a list of 4 numbers", found.weights.data());
  found.score = field("score").number(Numbers::part);
  found.overlap = field("overlap").number(Numbers::part);
  if (entry.find("candidates")) found.candidates = field("candidates").integer(kMaxChannels);
  found.most = field("most").integer(kMaxChannels);
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
