// The engine as a Python module: a file's bytes in, numpy arrays in and out. What callers give is checked here,
// whatever Python checked.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "boxes/boxes.h"
#include "file/box_settings.h"
#include "file/reader.h"
#include "graph/graph.h"
#include "graph/peak.h"

namespace nb = nanobind;

namespace onebit {
namespace {

using Array = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;

constexpr int64_t kMaxBatch = 1 << 30;
constexpr int kMaxRounds = 1 << 20, kMaxThreads = 1024;

int64_t between(int64_t low, int64_t value, int64_t high) {
  if (value < low || value > high) throw std::invalid_argument("a number is out of range: " + std::to_string(value));
  return value;
}

// (H, W, C) or (C)
nb::tuple tuple_of(Shape shape) {
  return shape.vector ? nb::make_tuple(shape.c) : nb::make_tuple(shape.h, shape.w, shape.c);
}

// A numpy array (B, H, W, C), or (B, C), that owns the vector's memory.
template <typename T>
nb::ndarray<nb::numpy, T> to_numpy(std::vector<T> values, int64_t batch, Shape shape) {
  auto* owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void* pointer) noexcept { delete static_cast<std::vector<T>*>(pointer); });
  std::vector<size_t> sizes{static_cast<size_t>(batch)};
  if (!shape.vector) sizes.insert(sizes.end(), {static_cast<size_t>(shape.h), static_cast<size_t>(shape.w)});
  sizes.push_back(static_cast<size_t>(shape.c));
  return nb::ndarray<nb::numpy, T>(owned->data(), sizes.size(), sizes.data(), owner);
}

// (N)
template <typename T>
nb::ndarray<nb::numpy, T> to_line(std::vector<T> values) {
  auto* owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void* pointer) noexcept { delete static_cast<std::vector<T>*>(pointer); });
  return nb::ndarray<nb::numpy, T>(owned->data(), {owned->size()}, owner);
}

// One array for each input, in order:
//   uint8 (B, H, W, C)    an image of bytes
//   float32 (B, C, H, W)  an image that is normalised, or floats
//   float32 (B, C)        a vector
//   int32 (B, T)          tokens
// and the batch, which they must share.
std::pair<std::vector<Values>, int64_t> values_of(const std::vector<Array>& arrays) {
  std::vector<Values> values;
  int64_t batch = 0;
  for (const Array& array : arrays) {
    if (array.ndim() < 2 || array.size() == 0) throw std::invalid_argument("an input must be a batch of values");
    const int64_t n = between(1, array.shape(0), kMaxBatch);
    if (batch && n != batch) throw std::invalid_argument("inputs have different numbers of samples");
    batch = n;
    Values value;
    const auto size = [&](size_t axis) { return static_cast<int64_t>(array.shape(axis)); };
    if (array.dtype() == nb::dtype<int32_t>() && array.ndim() == 2) {
      value.tokens = static_cast<const int32_t*>(array.data());
      value.shape = {size(1), 1, 1};
    } else if (array.dtype() == nb::dtype<uint8_t>() && array.ndim() == 4) {
      value.bytes = static_cast<const uint8_t*>(array.data());
      value.shape = {size(1), size(2), size(3)};
    } else if (array.dtype() == nb::dtype<float>() && array.ndim() == 4) {
      value.channels_first = static_cast<const float*>(array.data());
      value.shape = {size(2), size(3), size(1)};
    } else if (array.dtype() == nb::dtype<float>() && array.ndim() == 2) {
      value.channels_last = static_cast<const float*>(array.data());
      value.shape = {1, 1, size(1), true};
    } else {
      throw std::invalid_argument("an input has a type or a number of axes that no input has");
    }
    values.push_back(value);
  }
  return {std::move(values), batch};
}

// By output, in order: (B, H, W, C) or (B, C)
nb::list run(Network& network, const std::vector<Array>& arrays) {
  const auto [values, batch] = values_of(arrays);
  Graph& graph = *network.graph;
  std::vector<std::vector<float>> outputs;
  std::vector<Shape> shapes;
  {
    nb::gil_scoped_release release;
    std::vector<Shape> inputs;
    for (const Values& value : values) inputs.push_back(value.shape);
    shapes = graph.out_shapes(inputs);
    std::vector<float*> to;
    for (const Shape& shape : shapes) to.push_back(outputs.emplace_back(batch * shape.elements()).data());
    graph.run(values, batch, to);
  }
  nb::list result;
  for (size_t i = 0; i < shapes.size(); ++i) result.append(to_numpy(std::move(outputs[i]), batch, shapes[i]));
  return result;
}

// List of (node index, float32 values, int32 accumulators or None).
nb::list trace(Network& network, const std::vector<Array>& arrays) {
  const auto [values, batch] = values_of(arrays);
  std::vector<Traced> traced;
  {
    nb::gil_scoped_release release;
    traced = network.graph->trace(values, batch);
  }
  nb::list result;
  for (Traced& item : traced) {
    nb::object accumulators = nb::none();
    if (!item.accumulators.empty()) {
      accumulators = nb::cast(to_numpy(std::move(item.accumulators), batch, item.shape));
    }
    result.append(nb::make_tuple(item.node, to_numpy(std::move(item.values), batch, item.shape), accumulators));
  }
  return result;
}

// List of (node index, index of the last node fused behind it, operator, shape of the output, products of each output,
// their kind or None, seconds).
nb::list profile(Network& network, const std::vector<Array>& arrays, int64_t rounds) {
  const auto [values, batch] = values_of(arrays);
  std::vector<Profiled> stages;
  {
    nb::gil_scoped_release release;
    stages = network.graph->profile(values, static_cast<int>(between(1, rounds, kMaxRounds)));
  }
  nb::list result;
  for (const Profiled& stage : stages) {
    const nb::object kind = stage.work.kind ? nb::cast(stage.work.kind) : nb::none();
    result.append(nb::make_tuple(stage.node, stage.tail, network.values[stage.node].op, tuple_of(stage.out),
                                 stage.work.products, kind, stage.seconds));
  }
  return result;
}

// Shapes of inputs, (H, W, C) or (C) each.
std::vector<Shape> shapes_of(const std::vector<std::vector<int64_t>>& sizes) {
  std::vector<Shape> shapes;
  for (const std::vector<int64_t>& size : sizes) {
    for (int64_t n : size) between(1, n, kMaxChannels);
    if (size.size() != 1 && size.size() != 3) throw std::invalid_argument("a shape is (H, W, C) or (C)");
    shapes.push_back(size.size() == 1 ? Shape{1, 1, size[0], true} : Shape{size[0], size[1], size[2]});
  }
  return shapes;
}

// As the file has them.
nb::dict settings_of(const BoxSettings& settings) {
  nb::dict result;
  result["size"] = nb::make_tuple(settings.height, settings.width);
  nb::list grids, weights;
  for (const Grid& grid : settings.anchors) {
    nb::dict entry;
    entry["map"] = nb::make_tuple(grid.rows, grid.columns);
    entry["step"] = nb::make_tuple(grid.step_y, grid.step_x);
    entry["boxes"] = grid.boxes;
    grids.append(entry);
  }
  for (double weight : settings.weights) weights.append(weight);
  if (!settings.anchors.empty()) result["anchors"] = grids;
  result["weights"] = weights;
  result["score"] = settings.score;
  result["overlap"] = settings.overlap;
  if (settings.candidates <= kMaxChannels) result["candidates"] = settings.candidates;
  result["smallest"] = settings.smallest;
  result["most"] = settings.most;
  return result;
}

nb::dict description(const Network& network) {
  const auto text = [](const std::optional<std::string>& value) { return value ? nb::cast(*value) : nb::none(); };
  const Description& d = network.description;
  nb::dict result;
  result["name"] = d.name;
  result["method"] = d.method;
  result["recipe"] = text(d.recipe);
  nb::list inputs, outputs;
  for (const Input& input : network.graph->inputs()) {
    static const char* const kTypes[] = {"image", "tokens", "floats"};  // by InputType
    nb::dict entry;
    entry["name"] = input.name;
    entry["type"] = kTypes[static_cast<int>(input.type)];
    entry["shape"] = tuple_of(input.shape);
    entry["mean"] = input.mean;
    entry["std"] = input.std;
    entry["resize"] = input.resize ? nb::cast(input.resize) : nb::none();
    entry["count"] = input.given.count;
    entry["holds"] = input.holds;
    entry["lowercase"] = input.lowercase;
    entry["vocabulary"] = nb::bytes(input.vocabulary.data(), input.vocabulary.size());
    inputs.append(entry);
  }
  for (const NamedOutput& output : d.outputs) outputs.append(nb::make_tuple(output.name, output.node));
  result["inputs"] = inputs;
  result["outputs"] = outputs;
  nb::dict task, scores, training;
  for (const auto& [name, value] : d.task.scores) scores[nb::cast(name)] = value;
  task["name"] = d.task.name;
  task["answer"] = d.task.answer;
  task["labels"] = d.task.labels ? nb::cast(*d.task.labels) : nb::none();
  task["scores"] = scores;
  if (d.task.boxes) task["settings"] = settings_of(*d.task.boxes);
  result["task"] = task;
  for (const auto& [name, value] : d.training) {
    std::visit([&, key = nb::cast(name)](const auto& given) { training[key] = nb::cast(given); }, value);
  }
  result["training"] = training;
  return result;
}

using Floats = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

// Of the settings of a task as JSON, scores (B, R, K + 1), offsets (B, R, 4) or (B, R, 4·(K + 1)) and, unless there are
// anchors, proposals (B, R, 4): for each image boxes (N, 4), scores (N) and labels (N).
nb::list find_boxes_in(const std::string& settings, const Floats& scores, const Floats& offsets,
                       const std::optional<Floats>& proposals, const std::string& isa) {
  const json::Document document = json::parse(settings, "the settings");
  const BoxSettings read = read_box_settings(document.root(), "the settings");
  const StepKernels& steps = select_steps(choose_isa(isa, best_isa()));
  const auto size = [](const Floats& array, size_t axis) { return static_cast<int64_t>(array.shape(axis)); };
  const int64_t batch = size(scores, 0), rows = size(scores, 1), channels = size(scores, 2);
  const int64_t columns = size(offsets, 2), places = proposals ? size(*proposals, 1) : read.anchor_count();
  bool fits = channels > 1 && (columns == 4 || columns == 4 * channels) && places == rows;
  fits = fits && size(offsets, 0) == batch && size(offsets, 1) == rows;
  fits = fits && (!proposals || (size(*proposals, 0) == batch && size(*proposals, 2) == 4));
  if (!fits || proposals.has_value() != read.anchors.empty()) throw std::invalid_argument("outputs are no detector's");
  std::vector<std::vector<FoundBox>> found;
  {
    nb::gil_scoped_release release;
    std::vector<Box> around = proposals ? std::vector<Box>() : anchors_of(read);
    for (int64_t b = 0; b < batch; ++b) {
      if (proposals) around = boxes_of(proposals->data() + b * rows * 4, rows);
      found.push_back(find_boxes(steps, read, scores.data() + b * rows * channels, offsets.data() + b * rows * columns,
                                 around.data(), rows, channels, columns != 4));
    }
  }
  nb::list result;
  for (const std::vector<FoundBox>& image : found) {
    std::vector<float> corners, best;
    std::vector<int64_t> labels;
    for (const FoundBox& each : image) {
      corners.insert(corners.end(), {each.box.x1, each.box.y1, each.box.x2, each.box.y2});
      best.push_back(each.score);
      labels.push_back(each.label);
    }
    const auto count = static_cast<int64_t>(image.size());
    result.append(nb::make_tuple(to_numpy(std::move(corners), count, {1, 1, 4, true}), to_line(std::move(best)),
                                 to_line(std::move(labels))));
  }
  return result;
}

nb::dict kernels(const Network& network) {
  const Isa isa = network.graph->isa();
  nb::dict names;
  names["pack"] = select_pack(isa).name;
  names["count"] = select_count(isa).name;
  if (network.product) names["product"] = network.product->name;
  names["multiply"] = select_multiply(isa).name;
  names["depthwise"] = select_depthwise(isa).name;
  names["bytes"] = select_bytes(isa).name;
  names["codes"] = select_codes(isa).name;
  names["steps"] = select_steps(isa).name;
  return names;
}

}  // namespace
}  // namespace onebit

NB_MODULE(_engine, module) {
  using namespace onebit;
  // A child of a fork ends with what other threads of its parent held, a program with what its daemon threads hold.
  nb::set_leak_warnings(false);
  nb::exception<FormatError>(module, "FormatError");
  module.def(
      "chosen_isa", [](const std::string& name) { return std::string(isa_name(choose_isa(name, best_isa()))); },
      nb::arg("name"));
  module.def("boxes", find_boxes_in, nb::arg("settings"), nb::arg("scores"), nb::arg("offsets"),
             nb::arg("proposals").none(), nb::arg("isa") = "");
  module.def("best_isa", [] { return std::string(isa_name(best_isa())); });
  nb::class_<Network>(module, "Network")
      .def(
          "__init__",
          [](Network* self, nb::bytes data, const std::string& isa, int threads, bool oracle) {
            const Isa chosen = choose_isa(isa, best_isa());
            between(1, threads, kMaxThreads);
            const auto* bytes = reinterpret_cast<const uint8_t*>(data.c_str());
            const size_t size = data.size();
            nb::gil_scoped_release release;
            new (self) Network(read_network(bytes, size, chosen, threads, oracle));
          },
          nb::arg("data"), nb::arg("isa"), nb::arg("threads"), nb::arg("oracle") = false)
      .def_prop_ro("description", description)
      .def_prop_ro("isa", [](const Network& network) { return std::string(isa_name(network.graph->isa())); })
      .def_prop_ro("threads", [](const Network& network) { return network.graph->threads(); })
      .def_prop_ro("kernels", kernels)
      .def_prop_ro("values",  // names, the inputs first
                   [](const Network& network) {
                     std::vector<std::string> names;
                     for (const NamedValue& value : network.values) names.push_back(value.name);
                     return names;
                   })
      .def(
          "out_shapes",
          [](const Network& network, const std::vector<std::vector<int64_t>>& sizes) {
            nb::list shapes;
            for (const Shape& shape : network.graph->infer_shapes(shapes_of(sizes))) shapes.append(tuple_of(shape));
            return shapes;
          },
          nb::arg("shapes"))
      .def("peaks",
           [](const Network& network) {
             const Isa isa = network.graph->isa();
             nb::dict peaks;  // multiply-accumulates a second on one thread
             peaks["binary"] = binary_peak(isa);
             peaks["float"] = float_peak(isa);
             peaks["bytes"] = byte_peak(isa);
             return peaks;
           })
      .def("run", run, nb::arg("inputs"))
      .def("trace", trace, nb::arg("inputs"))
      .def(
          "memory",
          [](Network& network, const std::vector<std::vector<int64_t>>& sizes) {
            const std::vector<Shape> shapes = shapes_of(sizes);
            Memory memory;
            {
              nb::gil_scoped_release release;  // it may have to wait for a run
              memory = network.graph->memory(shapes);
            }
            nb::dict bytes;
            bytes["weights"] = memory.weights;
            bytes["maps"] = memory.maps;
            return bytes;
          },
          nb::arg("shapes"))
      .def("profile", profile, nb::arg("inputs"), nb::arg("rounds"));
}
