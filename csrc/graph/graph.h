// A network: nodes in topological order, built once, run on batches of images.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "base/cpu.h"
#include "base/pool.h"
#include "graph/node.h"
#include "graph/plan.h"

namespace onebit {

// The value of one node for a batch: (B, H, W, C), and A·B for binary nodes.
struct Traced {
  int node;
  Shape shape;
  std::vector<float> values;
  std::vector<int32_t> accumulators;
};

class Graph {
 public:
  Graph(Isa isa, int threads) : isa_(isa), pool_(threads), workers_(threads) { nodes_.emplace_back(); }

  Isa isa() const { return isa_; }
  int threads() const { return pool_.threads(); }

  // Adds a node and returns its index; index 0 is the image. Throws std::invalid_argument for an unknown input.
  int add(Node node);

  // Fixes the output. Checks all shapes for an image of the given size.
  void finish(int output, Shape image);

  // Shape of the output for an image of the given size.
  Shape out_shape(Shape image);

  // images (B, H, W, C) -> out (B, output shape). The result does not depend on the number of threads: samples are
  // split over threads if there are enough, else the rows of each layer; no sum is ever split.
  void run(const float* images, int64_t batch, Shape image, float* out);

  std::vector<Traced> trace(const float* images, int64_t batch, Shape image);

 private:
  // Memory of one sample's values.
  struct Arena {
    std::vector<Buffer<float>> slots;
    Buffer<uint64_t> bits;
    std::vector<Buffer<int32_t>> accumulators;  // by stage, only to trace
  };
  struct Worker {
    BinaryScratch binary;
    FloatScratch floats;
    Arena arena;
  };
  struct CachedPlan {
    Shape image;
    Plan plan;
  };

  const Plan& plan_for(Shape image);
  void prepare(const Plan& plan, Arena& arena) const;
  const float* value(const Plan& plan, int stage, const Arena& arena, const float* image) const;
  void pack_rows(const Stage& stage, const float* x, float mean, Range rows, Arena& arena) const;
  void rows(const Plan& plan, int index, const float* image, Range range, Arena& arena, Worker& worker) const;
  void run_alone(const Plan& plan, const float* image, Arena& arena, Worker& worker) const;
  void run_together(const Plan& plan, const float* image, Arena& arena);

  Isa isa_;
  Pool pool_;
  std::vector<Worker> workers_;  // by thread
  std::vector<Node> nodes_;
  int output_ = -1;
  std::list<CachedPlan> plans_;  // most recent first
  std::mutex mutex_;             // one run at a time: they share the arenas
};

}  // namespace onebit
