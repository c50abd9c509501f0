// What is decided once per image size: the stages, their shapes and the memory they share.
//
// A stage is one operator and the elementwise operators fused behind it, which run on each row while it is in cache.
#pragma once

#include <vector>

#include "graph/node.h"
#include "operators/binary_conv.h"

namespace onebit {

constexpr int kImage = -1;  // as a stage index: the network's input
constexpr int kNothing = -2;
constexpr int kNowhere = -1;  // as a slot: nobody reads the floats

// f(x + other): an addition, another elementwise operator, or both.
struct FusedStep {
  int other;  // the stage whose output is added; kNothing if none
  int node;   // the operator f; kNothing if none
};

struct Stage {
  int node = 0;                  // computes a row from `input`
  int tail = 0;                  // the node whose value the stage's output is
  int input = kImage;            // a stage
  std::vector<FusedStep> steps;  // the first one is applied before the row is stored
  Shape in, out;
  int slot = kNowhere;  // memory of the output
  int64_t kept = 0;     // rows of the output that must be kept while its group runs row by row: all, or a few
  BinaryPlan binary;
  BytePlan bytes;  // if byte_conv may compute it
  // Binary convolutions that read the output: its rows are packed for them while they are in cache. Those with a
  // threshold that needs the whole map (sample_mean), or that read the image, pack their input themselves.
  std::vector<int> packs;
  bool packs_itself = false;
};

// Stages [begin, end) whose rows one thread computes in an order that uses them while they are in cache: a row as soon
// as a later stage asks for it. Their weights together stay in cache as well.
struct Group {
  int begin, end;
};

struct Plan {
  Shape image;
  std::vector<Stage> stages;
  std::vector<Group> groups;
  // Floats of each slot: where whole stages run one after the other, and where groups run row by row.
  std::vector<int64_t> slots, kept_slots;
  int64_t row = 0;            // floats of the longest row
  bool reads_floats = false;  // whether a stage needs the image as floats even if it is given in bytes
  int output = 0;             // a stage
};

// The number of rows of its input that a stage needs for its output row y.
int64_t rows_needed(const Node& node, const Stage& stage, int64_t y);

// With `trace` every node is a stage of its own and no memory is shared, so that all values remain.
// Throws std::invalid_argument if the shapes do not fit.
Plan make_plan(const std::vector<Node>& nodes, int output, Shape image, bool trace);

}  // namespace onebit
