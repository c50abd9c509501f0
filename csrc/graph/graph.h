// A network: nodes in topological order, built once, run on batches of inputs.
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
#include "graph/inputs.h"
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

// A stage: the node that it computes and the last one that was fused behind it.
struct Profiled {
  int node, tail;
  Shape out;
  Work work;
  double seconds;
};

// Bytes: of all weights as the kernels read them, and of what one thread keeps for an image beside them.
struct Memory {
  int64_t weights, maps;
};

class Graph {
 public:
  // The first nodes stand for the inputs, in order; each node reads nodes before it. `outputs` are nodes with
  // operators, which were made for this instruction set.
  Graph(std::vector<Input> inputs, std::vector<Node> nodes, std::vector<int> outputs, Isa isa, int threads);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  Isa isa() const { return isa_; }
  int threads() const { return threads_; }
  const std::vector<Input>& inputs() const { return inputs_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  std::vector<Shape> default_shapes() const;

  // Shapes of the outputs for inputs of the given ones. Throws std::invalid_argument if they do not fit. The first
  // waits for no run and plans nothing; the second makes the plan of a run, which may be refused as too large, too.
  std::vector<Shape> infer_shapes(const std::vector<Shape>& inputs) const;
  std::vector<Shape> out_shapes(const std::vector<Shape>& inputs);

  // A batch of each input -> one of each output, (B, output shape). The result does not depend on the number of
  // threads: samples are split over threads if there are enough, else the rows of each layer; no sum is ever split.
  // Throws std::invalid_argument if a float is NaN or infinite, or a token out of range.
  void run(const std::vector<Values>& inputs, int64_t batch, const std::vector<float*>& outputs);

  // The values of all nodes, every one a stage of its own.
  std::vector<Traced> trace(const std::vector<Values>& inputs, int64_t batch);

  Memory memory(const std::vector<Shape>& inputs);

  // Where the time of the first sample goes, on one thread: each stage's seconds, the least of `rounds` runs.
  std::vector<Profiled> profile(const std::vector<Values>& inputs, int rounds);

 private:
  // Memory of one sample's values.
  struct Arena {
    int64_t plan = 0;                  // the serial number of the plan that it was made for
    bool whole = false;                // whether slots hold whole maps or what groups keep
    std::vector<Buffer<float>> given;  // by input: its values, unless they are read where the caller has them
    std::vector<Map> samples;          // by input: the sample in hand; nothing if it is there as bytes alone
    std::vector<Map> outputs;          // by stage; nothing if only its bits are read
    std::vector<Buffer<float>> slots;
    std::vector<Packed> packed;                 // by stage: inputs in other forms
    std::vector<Buffer<int32_t>> accumulators;  // by stage, only to trace
  };
  struct Worker {
    int64_t plan = 0;  // as the arena's
    Scratch scratch;
    Buffer<float> row;
    Buffer<float> streamed;     // rows of a stage that streams
    std::vector<Map> inputs;    // of the stage in hand
    std::vector<int64_t> done;  // by stage: rows computed
    Arena arena;
  };
  struct CachedPlan {
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

  void check_shapes(const std::vector<Shape>& inputs) const;  // throws std::invalid_argument
  // Checks the values and gives their shapes. Throws std::invalid_argument.
  std::vector<Shape> shapes_of(const std::vector<Values>& inputs) const;
  Running& running();  // throws std::system_error where a child of a fork cannot start its threads
  const CachedPlan& plan_for(Running& now, const std::vector<Shape>& inputs) const;
  void prepare(const CachedPlan& plan, bool whole, Arena& arena) const;
  void prepare(const CachedPlan& plan, Worker& worker) const;
  // Makes sample number `sample` what the first stages read. Gives the number of an input whose values may not be given
  // to them, or kFits.
  int load(const Plan& plan, const std::vector<Values>& inputs, int64_t sample, Arena& arena) const;
  void check_fits(int unfit) const;  // throws std::invalid_argument, as `load` says
  // What a source holds.
  static const Map& value(int source, const Arena& arena) {
    return is_stage(source) ? arena.outputs[source] : arena.samples[~source];
  }
  // Packs the input of a stage that packs it itself.
  void pack(const Plan& plan, int stage, Arena& arena) const;
  // Rows of a stage that was not computed yet, in place of those of the arena.
  struct Stream {
    int stage = kNothing;
    Map map;
  };
  void rows(const Plan& plan, int index, Range range, Arena& arena, Worker& worker, const Stream& stream) const;
  void run_alone(const Plan& plan, Arena& arena, Worker& worker, double* seconds = nullptr) const;
  // Computes the rows of a stage up to `count`, or to the end of a band, and before each those of its group that it
  // needs.
  void advance(const Plan& plan, const Group& group, int stage, int64_t count, Arena& arena, Worker& worker,
               double* seconds) const;
  void run_together(Running& now, const Plan& plan, Arena& arena) const;
  // Computes rows of a stage, and those that it needs of the one that streams to it.
  void run_streamed(const Plan& plan, int index, Range range, Arena& arena, Worker& worker) const;

  const std::vector<Input> inputs_;
  const std::vector<Node> nodes_;
  const std::vector<int> outputs_;
  const Isa isa_;
  const StepKernels& steps_;
  const int threads_;
  std::atomic<Running*> running_;
};

}  // namespace onebit
