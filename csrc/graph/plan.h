// What is decided once per size of the inputs: the stages, their shapes and the memory they share.
//
// A stage is one operator and the elementwise operators fused behind it, which run on each row while it is in cache.
#pragma once

#include <climits>
#include <vector>

#include "graph/node.h"

namespace onebit {

// What a stage reads is a source: the output of a stage, by its index, or input i of the network, as ~i.
constexpr int kNothing = INT_MIN;
constexpr bool is_stage(int source) { return source >= 0; }
constexpr bool is_input(int source) { return source < 0 && source != kNothing; }
constexpr int kNowhere = -1;  // as a slot: nobody reads the floats

// f(x + other): an addition, another elementwise operator, or both.
struct FusedStep {
  int other;                   // the source that is added; kNothing if none
  const Elementwise* applied;  // f; null if there is none

  Step step() const { return applied ? applied->step : Step::add; }
  const float* params() const { return applied ? applied->params.data() : nullptr; }
};

struct Stage {
  const Operator* op = nullptr;  // computes a row from `inputs`
  int node = 0;                  // whose operator it is
  int tail = 0;                  // the node whose value the stage's output is
  std::vector<int> inputs;       // sources
  std::vector<FusedStep> steps;  // the first one is applied before the row is stored
  Layout layout;
  int slot = kNowhere;  // memory of the output
  int64_t needed = 0;   // rows of the output, from the first on, that somebody reads: what others hold is not computed
  int64_t kept = 0;     // rows of the output that must be kept while its group runs row by row: all, or a few
  int streams_to = kNothing;  // the one stage that reads the output, if it is large and few of its rows are kept
  // Stages that read the output as bits: its rows are packed for them while they are in cache. Those with a threshold
  // that needs the whole map (sample_mean), or that read an input of the network, pack their input themselves.
  std::vector<int> packs;
  bool packs_itself = false;
  bool applies_step = false, reads_packed = false;  // as the operator says
  Finish row{};                                     // of a row of the output: its sizes
};

// Stages [begin, end) whose rows one thread computes in an order that uses them while they are in cache: a row as soon
// as a later stage asks for it. Their weights together stay in cache as well.
struct Group {
  int begin, end;
};

struct Plan {
  std::vector<Shape> inputs;  // of the network
  std::vector<Stage> stages;
  std::vector<Group> groups;
  // Floats of each slot: where whole stages run one after the other, and where groups run row by row.
  std::vector<int64_t> slots, kept_slots;
  int64_t row = 0;                 // floats of the longest row, or strip of rows
  std::vector<bool> reads_floats;  // by input: whether a stage needs it as floats even if it is given in bytes
  std::vector<int> outputs;        // stages
};

// The inputs come first among the nodes; `outputs` are nodes; `threads` may share an image. With `trace` every node is
// a stage of its own and no memory is shared, so that all values remain. Throws std::invalid_argument if the shapes do
// not fit.
Plan make_plan(const std::vector<Node>& nodes, const std::vector<int>& outputs, const std::vector<Shape>& inputs,
               int threads, bool trace);

}  // namespace onebit
