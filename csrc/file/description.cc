#include "file/description.h"

#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/fields.h"
#include "file/box_settings.h"

namespace onebit {
namespace {

using json::Kind;
using json::Value;

constexpr size_t kMaxInputs = 16, kMaxOutputs = 64, kMaxLabels = 100'000, kMaxScores = 100, kMaxTraining = 100;
constexpr double kMinStd = 1e-12;
constexpr const char *kTypes = "types", *kMask = "mask";  // beside kPieces
constexpr const char* kAnswers[] = {"one", "several", "values", "boxes"};

const Value* present(const Value& object, const char* key) {  // null stands for nothing
  const Value* value = object.find(key);
  return value && !value->is(Kind::null) ? value : nullptr;
}

std::vector<double> numbers(const Value& value, int64_t length, const std::string& where) {
  if (!value.is(Kind::array) || static_cast<int64_t>(value.size()) != length) {
    refuse_value(where, "a list of " + std::to_string(length) + " numbers, one per channel", value);
  }
  std::vector<double> found;
  for (const Value& each : value) found.push_back(number_of(each, where));
  return found;
}

Shape map_shape(const Value& value, const std::string& where) {
  if (!value.is(Kind::array) || value.size() != 3) refuse_value(where, "[channels, height, width]", value);
  const int64_t channels = integer_of(value[0], where, 1, kMaxSize), height = integer_of(value[1], where, 1, kMaxSize);
  return {height, integer_of(value[2], where, 1, kMaxSize), channels};
}

void read_image(const Value& entry, const std::string& where, Input& input) {
  input.shape = map_shape(*entry.find("shape"), where + ": shape");
  input.std = numbers(*entry.find("std"), input.shape.c, where + ": std");
  input.mean = numbers(*entry.find("mean"), input.shape.c, where + ": mean");
  for (double std : input.std) {
    if (!(std::fabs(std) >= kMinStd)) refuse(where + ": std", "must not contain 0");
  }
  if (const Value* resize = present(entry, "resize"))
    input.resize = integer_of(*resize, where + ": resize", 1, kMaxSize);
  input.given.mean.assign(input.mean.begin(), input.mean.end());
  input.given.std.assign(input.std.begin(), input.std.end());
}

// What tokens hold of texts.
void read_holds(const Value& entry, const std::string& own, Input& input) {
  const Value *holds = entry.find("holds"), *lowercase = entry.find("lowercase");
  if (holds) {
    bool known = false;
    for (const char* word : {kPieces, kTypes, kMask}) {
      known = known || (holds->is(Kind::string) && holds->text() == word);
    }
    if (!known) refuse_value(own + ": holds", "one of pieces, types, mask", *holds);
    input.holds = holds->text();
  }
  if ((input.holds == kTypes || input.holds == kMask) && input.given.count != 2) {
    refuse(own, "holds " + input.holds + ", so count must be 2, got " + std::to_string(input.given.count));
  }
  if ((input.holds == kPieces) != (lowercase != nullptr)) {
    refuse(own, lowercase ? "has lowercase, which belongs to pieces alone" : "lacks lowercase");
  }
  if (!lowercase) return;
  if (!lowercase->is(Kind::boolean)) refuse_value(own + ": lowercase", "true or false", *lowercase);
  input.lowercase = lowercase->boolean();
}

// Of what texts give: each at most once, beside pieces, of one length.
void check_texts(const std::vector<Input>& inputs) {
  std::map<std::string, const Input*> found;
  for (const Input& input : inputs) {
    if (input.holds.empty()) continue;
    if (!found.emplace(input.holds, &input).second) {
      throw FormatError("two inputs hold " + input.holds + "; at most one may");
    }
    if (input.shape.h != found.begin()->second->shape.h) {
      throw FormatError("the inputs of texts must have the same length, got " + std::to_string(input.shape.h) +
                        " and " + std::to_string(found.begin()->second->shape.h));
    }
  }
  if (!found.empty() && !found.count(kPieces)) {
    throw FormatError("the input '" + found.begin()->second->name + "' holds " + found.begin()->first +
                      ", but none holds pieces");
  }
}

Input read_input(const Value& entry, const std::string& where) {
  const Value* type = entry.is(Kind::object) ? entry.find("type") : nullptr;
  if (!type || !type->is(Kind::string)) refuse_value(where, "an object with a string \"type\"", entry);
  const bool image = type->text() == "image", tokens = type->text() == "tokens", floats = type->text() == "floats";
  if (!image && !tokens && !floats) {
    refuse(where, "has the unknown type " + json::show(*type) + "; known: image, tokens, floats");
  }
  const Value* name = entry.find("name");
  Input input;
  if (!name) refuse(where + ".name", "must be 1 to 200 letters, digits or _ . / -, got none");
  input.name = name_of(*name, where + ".name");
  const std::string own = "input '" + input.name + "'";
  if (image) {
    check_keys(entry, own, {"name", "type", "shape", "mean", "std"}, {"resize", "fixed"});
    read_image(entry, own, input);
  } else if (tokens) {
    check_keys(entry, own, {"name", "type", "length", "count"}, {"fixed", "holds", "lowercase"});
    input.type = InputType::tokens;
    input.shape = {integer_of(*entry.find("length"), own + ": length", 1, kMaxSize), 1, 1};
    input.given.count = integer_of(*entry.find("count"), own + ": count", 1, kMaxChannels);
    read_holds(entry, own, input);
  } else {
    check_keys(entry, own, {"name", "type", "shape"}, {"fixed"});
    input.type = InputType::floats;
    const Value& shape = *entry.find("shape");
    if (shape.is(Kind::array) && shape.size() == 1) {
      input.shape = {1, 1, integer_of(shape[0], own + ": shape", 1, kMaxChannels), true};
    } else {
      input.shape = map_shape(shape, own + ": shape");
    }
  }
  if (const Value* fixed = entry.find("fixed")) {
    if (!fixed->is(Kind::boolean)) refuse_value(own + ": fixed", "true or false", *fixed);
    input.fixed = fixed->boolean();
  }
  return input;
}

std::vector<Input> read_inputs(const Value& list) {
  std::vector<Input> inputs;
  std::set<std::string> names;
  for (const Value& entry : list_of(list, "graph.inputs", 1, kMaxInputs, "inputs")) {
    inputs.push_back(read_input(entry, "graph.inputs[" + std::to_string(inputs.size()) + "]"));
    if (!names.insert(inputs.back().name).second) {
      throw FormatError("two inputs are named '" + inputs.back().name + "'; names must be unique");
    }
  }
  check_texts(inputs);
  return inputs;
}

std::vector<NamedOutput> read_outputs(const Value& list) {
  std::vector<NamedOutput> outputs;
  std::set<std::string> names;
  for (const Value& entry : list_of(list, "graph.outputs", 1, kMaxOutputs, "outputs")) {
    const std::string where = "graph.outputs[" + std::to_string(outputs.size()) + "]";
    check_keys(entry, where, {"name", "node"});
    outputs.push_back({name_of(*entry.find("name"), where + ".name"), text_of(*entry.find("node"), where + ".node")});
    if (!names.insert(outputs.back().name).second) {
      throw FormatError("two outputs are named '" + outputs.back().name + "'; names must be unique");
    }
  }
  return outputs;
}

std::vector<std::string> read_labels(const Value& list) {
  std::vector<std::string> labels;
  if (!list.is(Kind::array) || list.size() > kMaxLabels) {
    refuse("graph.task.labels", "must be null or a list of at most " + std::to_string(kMaxLabels) + " strings");
  }
  for (const Value& label : list) {
    labels.push_back(text_of(label, "graph.task.labels"));
  }
  return labels;
}

void read_task(const Value& entry, TaskRecord& task) {
  task.name = text_of(*entry.find("name"), "graph.task.name");
  task.answer = text_of(*entry.find("answer"), "graph.task.answer");
  bool known = false;
  for (const char* answer : kAnswers) known = known || task.answer == answer;
  if (!known) {
    refuse("graph.task.answer", json::show(task.answer) + " is unknown; known: one, several, values, boxes");
  }
  const Value* settings = entry.find("settings");
  if (task.answer == "boxes") {
    if (!settings) throw FormatError("graph.task lacks settings, which the answer 'boxes' needs");
    task.boxes = read_box_settings(*settings, "graph.task.settings");
  } else if (settings) {
    throw FormatError("graph.task.settings are for the answer 'boxes' alone; leave them out");
  }
  const Value* scores = entry.find("scores");
  if (!scores) return;
  if (!scores->is(Kind::object) || scores->size() > kMaxScores) {
    refuse_value("graph.task.scores", "an object of at most " + std::to_string(kMaxScores) + " numbers", *scores);
  }
  for (const auto [key, value] : scores->members()) {
    task.scores.emplace_back(checked_text(key, "graph.task.scores"), number_of(value, "graph.task.scores"));
  }
}

TrainingRecord read_training(const Value& entry) {
  TrainingRecord found;
  if (!entry.is(Kind::object) || entry.size() > kMaxTraining) {
    const std::string what = "an object of at most " + std::to_string(kMaxTraining) + " numbers and strings";
    refuse_value("graph.training", what, entry);
  }
  for (const auto [key, value] : entry.members()) {
    std::string name = checked_text(key, "graph.training");
    if (value.is(Kind::string)) {
      found.emplace_back(std::move(name), text_of(value, "graph.training"));
    } else {
      found.emplace_back(std::move(name), number_of(value, "graph.training"));
    }
  }
  return found;
}

// Version 1: one image, one output, and a classification unless there is a task.
void read_version_1(const Value& graph, Description& found) {
  check_keys(graph, "graph", {"name", "method", "input", "nodes", "output"}, {"labels", "recipe", "accuracy", "task"});
  const Value& image = *graph.find("input");
  check_keys(image, "graph.input", {"shape", "mean", "std"}, {"resize"});
  found.inputs.emplace_back();
  found.inputs[0].name = "input";
  read_image(image, "input 'input'", found.inputs[0]);
  found.outputs.push_back({"output", text_of(*graph.find("output"), "graph.output")});
  const Value *accuracy = present(graph, "accuracy"), *task = graph.find("task");
  const double percent = accuracy ? number_of(*accuracy, "graph.accuracy") : 0;
  if (task) {
    check_keys(*task, "graph.task", {"name", "answer"}, {"scores"});
    read_task(*task, found.task);
    if (accuracy || found.task.name == TaskRecord().name) {
      throw FormatError(
          "graph.task is for other tasks than classification, whose score is graph.accuracy; leave one out");
    }
  } else if (accuracy) {
    found.task.scores.emplace_back("accuracy", percent);
  }
  if (const Value* labels = present(graph, "labels")) found.task.labels = read_labels(*labels);
}

void read_version_2(const Value& graph, Description& found) {
  check_keys(graph, "graph", {"name", "method", "inputs", "nodes", "outputs", "task"}, {"recipe", "training"});
  found.inputs = read_inputs(*graph.find("inputs"));
  found.outputs = read_outputs(*graph.find("outputs"));
  const Value& task = *graph.find("task");
  check_keys(task, "graph.task", {"name", "answer"}, {"labels", "scores", "settings"});
  read_task(task, found.task);
  if (const Value* labels = present(task, "labels")) found.task.labels = read_labels(*labels);
  if (const Value* training = graph.find("training")) found.training = read_training(*training);
}

}  // namespace

Description read_description(const Value& graph, int version) {
  Description found;
  if (version == 1) {
    read_version_1(graph, found);
  } else {
    read_version_2(graph, found);
  }
  found.name = text_of(*graph.find("name"), "graph.name");
  found.method = text_of(*graph.find("method"), "graph.method");
  if (const Value* recipe = present(graph, "recipe")) found.recipe = text_of(*recipe, "graph.recipe");
  return found;
}

}  // namespace onebit
