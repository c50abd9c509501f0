// What a file says of its network beside the nodes.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "boxes/boxes.h"
#include "graph/inputs.h"

namespace onebit {

constexpr const char* kPieces = "pieces";  // what an input with a vocabulary holds

struct TaskRecord {
  std::string name = "classification";
  std::string answer = "one";  // how the outputs are read
  std::optional<std::vector<std::string>> labels;
  std::vector<std::pair<std::string, double>> scores;  // in percent
  std::optional<BoxSettings> boxes;                    // if they are read as boxes
};

// How the weights came to be: what a person would want to know, by name; a number or a text each.
using TrainingRecord = std::vector<std::pair<std::string, std::variant<double, std::string>>>;

struct NamedOutput {
  std::string name, node;
};

struct Description {
  std::string name, method;
  std::optional<std::string> recipe;
  std::vector<Input> inputs;
  std::vector<NamedOutput> outputs;
  TaskRecord task;
  TrainingRecord training;
};

// Of a graph of version 1 or 2. Its nodes, a list, are not looked at. Throws FormatError.
Description read_description(const json::Value& graph, int version);

}  // namespace onebit
