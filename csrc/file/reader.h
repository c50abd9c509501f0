// A packed file, read: the only reader that the engine has. src/onebit/runtime/format.py is another one; they accept
// and refuse the same files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "file/description.h"
#include "graph/graph.h"

namespace onebit {

// A value of the graph, as its nodes are numbered: an input, whose `op` is empty, or that of a node.
struct NamedValue {
  std::string name, op;
};

struct Network {
  Description description;
  std::vector<NamedValue> values;
  const ProductKernel* product;  // null: binary convolutions are counted otherwise
  std::unique_ptr<Graph> graph;
};

// Reads the bytes of a file. `oracle`: binary convolutions are counted by products even if only the scalar kernel can,
// for tests.
// Throws FormatError for what docs/format.md does not allow, std::invalid_argument for what it allows and the engine
// cannot run, and std::system_error if threads cannot be started.
Network read_network(const uint8_t* data, size_t size, Isa isa, int threads, bool oracle = false);

}  // namespace onebit
