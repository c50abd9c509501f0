// A node of the graph: an operator and what it reads.
#pragma once

#include <memory>
#include <vector>

#include "base/require.h"
#include "operators/operator.h"

namespace onebit {

constexpr int64_t kMaxElements = int64_t{1} << 28;  // of one activation, as the format

// A value of the network: that of an input, which has no operator, or of an operator.
struct Node {
  std::unique_ptr<Operator> op;
  std::vector<int> inputs;  // indices of earlier nodes

  const Elementwise* elementwise() const { return op ? op->elementwise() : nullptr; }
};

// The shape of a node's value. Throws std::invalid_argument if it is empty or too large.
inline Shape infer(const Node& node, const std::vector<Shape>& inputs) {
  const Shape out = node.op->infer(inputs);
  require(out.h >= 1 && out.w >= 1 && out.c >= 1, "an output is empty");
  require(out.h <= kMaxElements / out.w && out.h * out.w <= kMaxElements / out.c, "an output is too large");
  return out;
}

// The shapes of all nodes' values for inputs of these, which come first among the nodes. Throws as `infer`.
inline std::vector<Shape> infer_all(const std::vector<Node>& nodes, const std::vector<Shape>& inputs) {
  std::vector<Shape> shapes = inputs;
  for (size_t index = inputs.size(); index < nodes.size(); ++index) {
    std::vector<Shape> in;
    for (int input : nodes[index].inputs) in.push_back(shapes[input]);
    shapes.push_back(infer(nodes[index], in));
  }
  return shapes;
}

}  // namespace onebit
