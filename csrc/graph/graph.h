// A network: nodes in topological order, built once, run on batches of images.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "base/cpu.h"
#include "base/fork.h"
#include "base/pool.h"
#include "graph/node.h"
#include "graph/plan.h"
#include "operators/image.h"

namespace onebit {

// The value of one node for a batch: (B, H, W, C), and A·B for binary nodes.
struct Traced {
  int node;
  Shape shape;
  std::vector<float> values;
  std::vector<int32_t> accumulators;
};

// A stage: the node that it computes and the last one that was fused behind it.
struct Profiled {
  int node, tail;
  Shape in, out;
  double seconds;
};

// Bytes: of all weights as the kernels read them, and of what one thread keeps for an image beside them.
struct Memory {
  int64_t weights, maps;
};

class Graph {
 public:
  // oracle: binary convolutions are counted by products even if only the scalar kernel can, for tests.
  Graph(Isa isa, int threads, bool oracle = false)
      : isa_(isa),
        product_(select_product(isa, oracle)),
        steps_(select_steps(isa)),
        threads_(threads),
        nodes_(1),
        running_(new Running(threads)) {}
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  Isa isa() const { return isa_; }
  const ProductKernel* product() const { return product_; }
  int threads() const { return threads_; }

  // Adds a node and returns its index; index 0 is the image. Throws std::invalid_argument for an unknown input.
  int add(Node node);

  // What a convolution of the image computes from bytes. Throws std::invalid_argument if `index` is no convolution of
  // the image of the same size.
  void set_byte_conv(int index, std::unique_ptr<ByteConv> conv);

  // Fixes the output. Checks all shapes for an image of the given size.
  void finish(int output, Shape image);

  // Shape of the output for an image of the given size.
  Shape out_shape(Shape image);

  // images -> out (B, output shape). The result does not depend on the number of threads: samples are split over
  // threads if there are enough, else the rows of each layer; no sum is ever split.
  // Throws std::invalid_argument if a value of an image is NaN or infinite.
  void run(const Images& images, int64_t batch, Shape image, float* out);

  std::vector<Traced> trace(const float* images, int64_t batch, Shape image);

  Memory memory(Shape image);

  // Where the time of the first image goes, on one thread: each stage's seconds, the least of `rounds` runs.
  std::vector<Profiled> profile(const Images& images, Shape shape, int rounds);

 private:
  // Memory of one sample's values.
  struct Arena {
    int64_t plan = 0;    // the serial number of the plan that it was made for
    bool whole = false;  // whether slots hold whole maps or what groups keep
    Buffer<float> image;
    std::vector<Buffer<float>> slots;
    std::vector<BitImage> images;               // by stage: packed inputs of binary convolutions
    std::vector<ByteImage> bytes;               // by stage: images for convolutions of bytes
    bool in_bytes = false;                      // whether the current image is there
    std::vector<Buffer<int32_t>> accumulators;  // by stage, only to trace
  };
  struct Worker {
    BinaryScratch binary;
    FloatScratch floats;
    Buffer<float> row;
    std::vector<int64_t> done;  // by stage: rows computed
    Arena arena;
  };
  struct CachedPlan {
    Shape image;
    int64_t serial;
    Plan plan;
  };

  // What runs change, and the threads that run; all else is fixed when the graph is finished. A child of a fork makes
  // its own and leaves its parent's as it is: another thread may have been changing it.
  struct Running {
    explicit Running(int threads) : pool(threads), workers(threads) {}

    const uint64_t forks = onebit::forks();
    Pool pool;
    std::vector<Worker> workers;  // by thread
    std::list<CachedPlan> plans;  // most recent first
    int64_t plans_made = 0;
    std::mutex mutex;  // one run at a time: they share the arenas
  };

  Running& running();  // throws std::system_error where a child of a fork cannot start its threads
  const CachedPlan& plan_for(Running& now, Shape image) const;
  void prepare(const CachedPlan& plan, bool whole, Arena& arena) const;
  void prepare(const CachedPlan& plan, Worker& worker) const;
  // Makes sample number `sample` what the first stages read; the image as floats, where they need it.
  const float* load(const Plan& plan, const Images& images, int64_t sample, Arena& arena) const;
  // The output of a stage, or the image.
  Map value(const Plan& plan, int stage, const Arena& arena, const float* image) const;
  // Packs the input of a binary convolution that packs it itself.
  void pack(const Plan& plan, int stage, const float* image, Arena& arena) const;
  // Step number `step` of a stage for its row y, all but x and out; without such a step, one that does nothing.
  Finish finish_of(const Plan& plan, const Stage& stage, size_t step, int64_t y, const float* image,
                   const Arena& arena) const;
  Step step_of(const Stage& stage, size_t step) const;
  void (*step_function(const Stage& stage) const)(const Finish&);  // of the first step; null if there is none
  void rows(const Plan& plan, int index, const float* image, Range range, Arena& arena, Worker& worker) const;
  void run_alone(const Plan& plan, const float* image, Arena& arena, Worker& worker, double* seconds = nullptr) const;
  // Computes the rows of a stage up to `count`, or to the end of a band, and before each those of its group that it
  // needs.
  void advance(const Plan& plan, const Group& group, int stage, int64_t count, const float* image, Arena& arena,
               Worker& worker, double* seconds) const;
  void run_together(Running& now, const Plan& plan, const float* image, Arena& arena) const;

  Isa isa_;
  const ProductKernel* product_;
  const StepKernels& steps_;
  const int threads_;
  std::vector<Node> nodes_;
  std::atomic<Running*> running_;
  int output_ = -1;
};

}  // namespace onebit
