#include "file/reader.h"

#include <map>
#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "base/fields.h"
#include "base/json.h"
#include "file/box_settings.h"
#include "file/safetensors.h"
#include "file/vocabulary.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

using json::Kind;
using json::Value;

constexpr size_t kMaxNodes = 10'000;

int version_of(const Safetensors& file) {
  const auto format = file.metadata.find("format"), version = file.metadata.find("version");
  if (format == file.metadata.end() || format->second != "onebit") {
    throw FormatError("this safetensors file was not written by onebit; make one with onebit pack");
  }
  const std::string found = version == file.metadata.end() ? "none" : version->second;
  if (found != "1" && found != "2") {
    throw FormatError("format version " + json::show(found) + ", this onebit reads 1 and 2; update it");
  }
  if (!file.metadata.count("graph") || file.metadata.size() != 3) {
    throw FormatError("the metadata must be format, version and graph; export the file again");
  }
  return found[0] - '0';
}

// Nodes as they are read, one after the other.
class Builder {
 public:
  Builder(const std::vector<Input>& inputs, TensorTable& tensors, Target target)
      : inputs_(inputs), tensors_(tensors), target_(target) {
    for (const Input& input : inputs) {
      index_[input.name] = static_cast<int>(nodes.size());
      nodes.emplace_back();
      shapes.push_back(input.shape);
      values.push_back({input.name, ""});
      if (input.shape.elements() > kMaxElements) {
        throw FormatError("input '" + input.name + "' has more than " + std::to_string(kMaxElements) + " values");
      }
    }
    read_.resize(inputs.size(), false);
  }

  void add(const Value& entry) {
    const std::string where = "graph.nodes[" + std::to_string(nodes.size() - inputs_.size()) + "]";
    const Value* op = entry.is(Kind::object) ? entry.find("op") : nullptr;
    if (!op || !op->is(Kind::string)) refuse_value(where, "an object with a string \"op\"", entry);
    const OperatorKind* kind = find_operator(std::string(op->text()));
    if (!kind && left_out(std::string(op->text()))) {
      refuse(where, "has the operator " + json::show(*op) + ", which this build of the engine leaves out; use another");
    }
    if (!kind)
      refuse(where, "has the unknown operator " + json::show(*op) + "; a newer onebit may know it: update this one");
    for (const char* key : {"name", "inputs"}) {
      if (!entry.find(key)) refuse(where, std::string("lacks ") + key);
    }
    const std::string name = name_of(*entry.find("name"), where + ".name");
    Node node;
    node.inputs = inputs_of(*entry.find("inputs"), name, *kind);
    std::vector<Shape> in;
    std::vector<const Given*> given;
    for (int input : node.inputs) {
      in.push_back(shapes[input]);
      const bool outside = static_cast<size_t>(input) < inputs_.size();
      given.push_back(outside ? &inputs_[input].given : nullptr);
      if (outside) read_[input] = true;
    }
    if (!index_.emplace(name, static_cast<int>(nodes.size())).second) {
      throw FormatError("two nodes are named '" + name + "', or a node and an input; names must be unique");
    }
    Source source(entry, name, kind->name, in, given, tensors_, target_);
    node.op = kind->make(source);
    source.finish();
    try {
      shapes.push_back(infer(node, in));
    } catch (const std::invalid_argument& error) {
      source.refuse(std::string(error.what()) + "; the image is too small or big");
    }
    values.push_back({name, kind->name});
    nodes.push_back(std::move(node));
  }

  // The node of an output.
  int find(const std::string& name, const std::string& where) const {
    const auto found = index_.find(name);
    if (found == index_.end() || static_cast<size_t>(found->second) < inputs_.size()) {
      refuse(where, "names the unknown node " + json::show(name));
    }
    return found->second;
  }

  void check_inputs_read() const {
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (!read_[i]) throw FormatError("no node reads the input '" + inputs_[i].name + "'; leave it out");
    }
  }

  std::vector<Node> nodes;
  std::vector<Shape> shapes;
  std::vector<NamedValue> values;

 private:
  std::vector<int> inputs_of(const Value& list, const std::string& name, const OperatorKind& kind) const {
    const std::string where = "node '" + name + "' (" + kind.name + ")";
    const int least = kind.inputs, most = kind.inputs + kind.more;
    const int count = list.is(Kind::array) ? static_cast<int>(list.size()) : -1;
    if (count < least || count > most) {
      const std::string wanted =
          std::to_string(least) + (kind.more ? " to " + std::to_string(most) + " inputs" : " input(s)");
      refuse(where, "takes " + wanted + ", got " + json::show(list));
    }
    std::vector<int> found;
    for (const Value& each : list) {
      const std::string source = text_of(each, "node '" + name + "': inputs");
      const auto index = index_.find(source);
      if (index == index_.end()) {
        throw FormatError("node '" + name + "' refers to " + json::show(source) + ", which is cyclic or unknown");
      }
      const bool wanted = kind.tokens >> found.size() & 1;
      found.push_back(index->second);
      const bool tokens =
          static_cast<size_t>(index->second) < inputs_.size() && inputs_[index->second].type == InputType::tokens;
      if (wanted && !tokens) refuse(where, "reads an input of tokens, not " + json::show(source));
      if (!wanted && tokens) refuse(where, "reads the tokens " + json::show(source) + "; embed them first");
    }
    return found;
  }

  const std::vector<Input>& inputs_;
  TensorTable& tensors_;
  const Target target_;
  std::map<std::string, int> index_;
  std::vector<bool> read_;
};

// What the task reads of the outputs, which are these nodes.
void check_answer(const Description& about, const std::vector<Shape>& shapes, const std::vector<int>& outputs) {
  if (!about.task.boxes) return;
  const Input& input = about.inputs[0];
  if (about.inputs.size() != 1 || input.type != InputType::image) {
    throw FormatError("graph.task.answer 'boxes' is for networks of one image");
  }
  const BoxSettings& settings = *about.task.boxes;
  if (settings.height != input.shape.h || settings.width != input.shape.w) {
    throw FormatError("graph.task.settings.size is " + show(Pair{settings.height, settings.width}) +
                      ", the network's input " + show(Pair{input.shape.h, input.shape.w}));
  }
  std::vector<std::pair<std::string, Shape>> named;
  for (size_t i = 0; i < outputs.size(); ++i) named.emplace_back(about.outputs[i].name, shapes[outputs[i]]);
  check_box_outputs(settings, named);
}

void read_vocabulary(TensorTable& tensors, Input& input) {
  if (input.holds != kPieces) return;
  const std::string name = input.name + ".vocabulary";
  const Tensor* found = tensors.take(name);
  if (!found) throw FormatError("tensor " + name + " is missing; input '" + input.name + "' needs it");
  if (found->dtype != Dtype::u8 || found->shape.size() != 1 || found->shape[0] < 1 || found->shape[0] > kMaxChannels) {
    throw FormatError("tensor " + name + " must be U8 of one axis, of 1 to " + std::to_string(kMaxChannels) + " bytes");
  }
  input.vocabulary.assign(reinterpret_cast<const char*>(found->data), found->bytes);
  check_vocabulary(input.vocabulary, input.given.count, name);
}

}  // namespace

Network read_network(const uint8_t* data, size_t size, Isa isa, int threads, bool oracle) {
  const Safetensors file = parse_safetensors(data, size);
  const int version = version_of(file);
  const json::Document document = json::parse(file.metadata.at("graph"), "the graph");
  Network network;
  network.description = read_description(document.root(), version);
  network.product = select_product(isa, oracle);
  const Description& about = network.description;
  TensorTable tensors(file.tensors);
  Builder builder(about.inputs, tensors, {isa, network.product});
  for (const Value& entry : list_of(*document.root().find("nodes"), "graph.nodes", 1, kMaxNodes, "nodes")) {
    builder.add(entry);
  }
  builder.check_inputs_read();
  for (Input& input : network.description.inputs) read_vocabulary(tensors, input);
  std::vector<int> outputs;
  for (const NamedOutput& output : about.outputs) {
    outputs.push_back(builder.find(output.node, "graph.outputs: '" + output.name + "'"));
  }
  tensors.check_all_taken();
  check_answer(about, builder.shapes, outputs);
  const int64_t channels = builder.shapes[outputs[0]].c - (about.task.boxes ? 1 : 0);
  if (about.task.labels && static_cast<int64_t>(about.task.labels->size()) != channels) {
    throw FormatError(std::to_string(about.task.labels->size()) + " labels for the " + std::to_string(channels) +
                      " channels of the first output, " + about.outputs[0].name +
                      (about.task.boxes ? ", behind the background" : "") + "; give one for each, or null");
  }
  network.values = std::move(builder.values);
  network.graph = std::make_unique<Graph>(about.inputs, std::move(builder.nodes), std::move(outputs), isa, threads);
  return network;
}

}  // namespace onebit
