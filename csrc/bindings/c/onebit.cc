#include "bindings/c/onebit.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/require.h"
#include "bindings/c/answer.h"
#include "bindings/c/failure.h"
#include "bindings/c/file_bytes.h"
#include "file/reader.h"
#include "graph/graph.h"

struct onebit_network {
  onebit::Network network;
  std::vector<onebit::Shape> outputs;  // for inputs of their default shapes
};

namespace onebit {
namespace {

constexpr int32_t kMaxBatch = 1 << 30, kMaxThreads = 1024;

void require_all(std::initializer_list<const void*> pointers) {
  for (const void* pointer : pointers) require(pointer != nullptr, "a pointer is NULL");
}

void require_between(int64_t low, int64_t value, int64_t high, const char* what) {
  if (low <= value && value <= high) return;
  throw std::invalid_argument(std::string(what) + " must be from " + std::to_string(low) + " to " +
                              std::to_string(high) + ", got " + std::to_string(value));
}

void require_count(const char* what, size_t expected, int32_t given) {
  if (static_cast<int64_t>(expected) == given) return;
  throw std::invalid_argument("the network has " + std::to_string(expected) + " " + what + ", got " +
                              std::to_string(given));
}

void require_size(const char* what, const std::string& name, int64_t needed, size_t given, bool fits) {
  if (fits) return;
  throw std::invalid_argument(what + (" '" + name) + "': a batch has " + std::to_string(needed) + " values, got " +
                              std::to_string(given));
}

template <typename T>
void require_aligned(const void* data) {
  require(reinterpret_cast<uintptr_t>(data) % alignof(T) == 0, "a pointer is not aligned to its values");
}

int32_t processors() {
  return std::clamp(static_cast<int32_t>(std::thread::hardware_concurrency()), int32_t{1}, kMaxThreads);
}

onebit_shape to_c(const Shape& shape) {
  return {static_cast<int32_t>(shape.h), static_cast<int32_t>(shape.w), static_cast<int32_t>(shape.c),
          shape.vector ? 1 : 0};
}

// All zeros stand for the input's own. Whether the network can have it is checked where it runs.
Shape from_c(const onebit_shape& shape, const Input& input) {
  if (!shape.height && !shape.width && !shape.channels && !shape.vector) return input.shape;
  const Shape given{shape.height, shape.width, shape.channels, shape.vector != 0};
  if (given.vector) require(given.h == 1 && given.w == 1, "a vector has a height and a width of 1");
  return given;
}

Values values_of(const Input& input, const onebit_values& given, int32_t batch) {
  require_all({given.data});
  Values values;
  values.shape = from_c(given.shape, input);
  check_shape(input, values.shape);  // so that the product does not overflow
  const int64_t needed = batch * values.shape.elements();
  require_size("input", input.name, needed, given.size, static_cast<uint64_t>(needed) == given.size);
  switch (given.form) {
    case ONEBIT_BYTES:
      values.bytes = static_cast<const uint8_t*>(given.data);
      break;
    case ONEBIT_CHANNELS_FIRST:
    case ONEBIT_CHANNELS_LAST:
      require_aligned<float>(given.data);
      (given.form == ONEBIT_CHANNELS_FIRST ? values.channels_first : values.channels_last) =
          static_cast<const float*>(given.data);
      break;
    case ONEBIT_INTEGERS:
      require_aligned<int32_t>(given.data);
      values.tokens = static_cast<const int32_t*>(given.data);
      break;
    default:
      require_between(ONEBIT_BYTES, given.form, ONEBIT_INTEGERS, "the form of an input");
  }
  return values;
}

void load(const uint8_t* data, size_t size, int32_t threads, const char* isa, onebit_network** network,
          int32_t& refused) {
  require_between(0, threads, kMaxThreads, "threads");
  const Isa chosen = choose_isa(isa ? isa : "", best_isa());
  refused = ONEBIT_CANNOT_RUN;
  auto made = std::make_unique<onebit_network>();
  made->network = read_network(data, size, chosen, threads ? threads : processors());
  Graph& graph = *made->network.graph;
  made->outputs = graph.out_shapes(graph.default_shapes());
  *network = made.release();
}

}  // namespace
}  // namespace onebit

using namespace onebit;

const char* onebit_version(void) { return ONEBIT_VERSION; }

const char* onebit_failure(void) { return failure_text(); }

int32_t onebit_load(const char* path, int32_t threads, const char* isa, onebit_network** network) {
  return guarded([&](int32_t& refused) {
    require_all({network});
    *network = nullptr;
    require_all({path});
    const std::vector<uint8_t> bytes = file_bytes(path);
    try {
      load(bytes.data(), bytes.size(), threads, isa, network, refused);
    } catch (const FormatError& error) {
      throw FormatError(path + (": " + std::string(error.what())));
    }
  });
}

int32_t onebit_load_bytes(const void* data, size_t size, int32_t threads, const char* isa, onebit_network** network) {
  return guarded([&](int32_t& refused) {
    require_all({network});
    *network = nullptr;
    if (size) require_all({data});
    load(static_cast<const uint8_t*>(data), size, threads, isa, network, refused);
  });
}

void onebit_free(onebit_network* network) { delete network; }

int32_t onebit_describe(const onebit_network* network, onebit_description* description) {
  return guarded([&](int32_t&) {
    require_all({network, description});
    const Description& d = network->network.description;
    const Graph& graph = *network->network.graph;
    const std::string& answer = d.task.answer;
    description->name = d.name.c_str();
    description->method = d.method.c_str();
    description->recipe = d.recipe ? d.recipe->c_str() : nullptr;
    description->task = d.task.name.c_str();
    description->answer = answer == "one"       ? ONEBIT_ONE
                          : answer == "several" ? ONEBIT_SEVERAL
                          : answer == "values"  ? ONEBIT_VALUES
                                                : ONEBIT_BOXES;
    description->inputs = static_cast<int32_t>(d.inputs.size());
    description->outputs = static_cast<int32_t>(d.outputs.size());
    description->labels = d.task.labels ? static_cast<int32_t>(d.task.labels->size()) : 0;
    description->isa = isa_name(graph.isa());
    description->threads = graph.threads();
  });
}

int32_t onebit_describe_input(const onebit_network* network, int32_t index, onebit_input* input) {
  return guarded([&](int32_t&) {
    require_all({network, input});
    const std::vector<Input>& inputs = network->network.graph->inputs();
    require_between(0, index, static_cast<int64_t>(inputs.size()) - 1, "the number of an input");
    const Input& found = inputs[index];
    input->name = found.name.c_str();
    input->type = static_cast<int32_t>(found.type);
    input->shape = to_c(found.shape);
    input->count = static_cast<int32_t>(found.given.count);
    input->resize = static_cast<int32_t>(found.resize);
    input->mean = found.mean.empty() ? nullptr : found.mean.data();
    input->std = found.std.empty() ? nullptr : found.std.data();
  });
}

int32_t onebit_describe_output(const onebit_network* network, int32_t index, onebit_output* output) {
  return guarded([&](int32_t&) {
    require_all({network, output});
    const std::vector<NamedOutput>& outputs = network->network.description.outputs;
    require_between(0, index, static_cast<int64_t>(outputs.size()) - 1, "the number of an output");
    output->name = outputs[index].name.c_str();
    output->shape = to_c(network->outputs[index]);
  });
}

int32_t onebit_label(const onebit_network* network, int32_t index, const char** label) {
  return guarded([&](int32_t&) {
    require_all({network, label});
    const std::optional<std::vector<std::string>>& labels = network->network.description.task.labels;
    require(labels.has_value(), "the network has no labels");
    require_between(0, index, static_cast<int64_t>(labels->size()) - 1, "the number of a label");
    *label = (*labels)[index].c_str();
  });
}

int32_t onebit_output_shapes(onebit_network* network, const onebit_shape* inputs, int32_t input_count,
                             onebit_shape* outputs, int32_t output_count) {
  return guarded([&](int32_t&) {
    require_all({network, inputs, outputs});
    Graph& graph = *network->network.graph;
    require_count("inputs", graph.inputs().size(), input_count);
    require_count("outputs", network->outputs.size(), output_count);
    std::vector<Shape> given;
    for (int32_t i = 0; i < input_count; ++i) given.push_back(from_c(inputs[i], graph.inputs()[i]));
    const std::vector<Shape> found = graph.out_shapes(given);
    std::transform(found.begin(), found.end(), outputs, to_c);
  });
}

int32_t onebit_run(onebit_network* network, const onebit_values* inputs, int32_t input_count, int32_t batch,
                   const onebit_buffer* outputs, int32_t output_count) {
  return guarded([&](int32_t&) {
    require_all({network, inputs, outputs});
    Graph& graph = *network->network.graph;
    require_count("inputs", graph.inputs().size(), input_count);
    require_count("outputs", network->outputs.size(), output_count);
    require_between(1, batch, kMaxBatch, "the batch");
    std::vector<Values> values;
    std::vector<Shape> given;
    for (int32_t i = 0; i < input_count; ++i) {
      values.push_back(values_of(graph.inputs()[i], inputs[i], batch));
      given.push_back(values.back().shape);
    }
    const std::vector<Shape> shapes = graph.out_shapes(given);
    std::vector<float*> to;
    for (int32_t i = 0; i < output_count; ++i) {
      require_all({outputs[i].data});
      require_aligned<float>(outputs[i].data);
      const int64_t needed = batch * shapes[i].elements();
      require_size("output", network->network.description.outputs[i].name, needed, outputs[i].size,
                   static_cast<uint64_t>(needed) <= outputs[i].size);
      to.push_back(outputs[i].data);
    }
    graph.run(values, batch, to);
  });
}

int32_t onebit_answer(const onebit_network* network, const float* values, int32_t count, int32_t top, int32_t* indices,
                      float* scores) {
  return guarded([&](int32_t&) {
    require_all({network, values, indices, scores});
    require_aligned<float>(values);
    require_between(1, count, INT32_MAX, "the number of values");
    require_between(1, top, INT32_MAX, "top");
    const TaskRecord& task = network->network.description.task;
    require(!task.boxes, "the network answers boxes: call onebit_boxes");
    require(network->outputs[0].vector, "the network gives maps, not one number for each label: it has no answer");
    if (task.labels) require_count("labels", task.labels->size(), count);
    const std::vector<float> found = scores_of(task.answer, values, count);
    for (int32_t place : best_of(found, top)) {
      *indices++ = place;
      *scores++ = found[place];
    }
  });
}

int32_t onebit_boxes(const onebit_network* network, const onebit_buffer* outputs, int32_t output_count, int32_t most,
                     onebit_box* boxes, int32_t* count) {
  return guarded([&](int32_t&) {
    require_all({network, outputs, boxes, count});
    require_between(1, most, INT32_MAX, "most");
    const TaskRecord& task = network->network.description.task;
    require(task.boxes.has_value(), "the network answers no boxes: call onebit_answer");
    require_count("outputs", network->outputs.size(), output_count);
    for (int32_t i = 0; i < output_count; ++i) {
      require_all({outputs[i].data});
      require_aligned<float>(outputs[i].data);
      const int64_t needed = network->outputs[i].elements();
      require_size("output", network->network.description.outputs[i].name, needed, outputs[i].size,
                   static_cast<uint64_t>(needed) == outputs[i].size);
    }
    const Shape& scores = network->outputs[0];  // (R, 1, K + 1)
    const float* proposals = output_count > 2 ? outputs[2].data : nullptr;
    const std::vector<Box> places = proposals ? boxes_of(proposals, scores.h) : anchors_of(*task.boxes);
    std::vector<FoundBox> found =
        find_boxes(select_steps(network->network.graph->isa()), *task.boxes, outputs[0].data, outputs[1].data,
                   places.data(), scores.h, scores.c, network->outputs[1].c > 4);
    found.resize(std::min<size_t>(found.size(), static_cast<size_t>(most)));
    *count = static_cast<int32_t>(found.size());
    for (const FoundBox& each : found) {
      *boxes++ = {each.box.x1, each.box.y1, each.box.x2, each.box.y2, each.score, each.label};
    }
  });
}
