#include "graph/plan.h"

#include <algorithm>
#include <utility>

namespace onebit {
namespace {

// Number of readers of each node's value, the caller of the network included.
std::vector<int> count_readers(const std::vector<Node>& nodes, int output) {
  std::vector<int> readers(nodes.size(), 0);
  for (const Node& node : nodes) {
    for (int input : node.inputs) ++readers[input];
  }
  ++readers[output];
  return readers;
}

// Appends an elementwise node to the stage of one of its inputs. This is possible if nothing else reads that input and
// the other operand, if any, is computed by an earlier stage: so the later stage of the two is tried.
bool fuse(const std::vector<Node>& nodes, int index, const std::vector<int>& readers, std::vector<int>& stage_of,
          std::vector<Stage>& stages) {
  const Node& node = nodes[index];
  int chosen = node.inputs[0], other = kImage;
  if (node.step == Step::add) {
    if (node.inputs[0] == node.inputs[1]) return false;
    if (stage_of[node.inputs[1]] > stage_of[chosen]) chosen = node.inputs[1];
    other = stage_of[chosen == node.inputs[0] ? node.inputs[1] : node.inputs[0]];
  }
  const int stage = stage_of[chosen];
  if (stage == kImage || readers[chosen] != 1) return false;
  stages[stage].steps.push_back({index, other});
  stages[stage].tail = index;
  stage_of[index] = stage;
  return true;
}

// Whether a stage reads its input as floats: a binary convolution may read bits that were packed before.
bool reads_floats(const Stage& stage) { return stage.binary.row_words == 0 || stage.packs_itself; }

// Gives each stage memory that no value still to be read occupies. A value that is last read as the other operand of an
// addition is overwritten by its sum, row by row: one map less in cache.
void assign_slots(Plan& plan, bool trace) {
  const int stages = static_cast<int>(plan.stages.size());
  std::vector<int> last_reader(stages, -1);
  for (int i = 0; i < stages; ++i) {
    if (plan.stages[i].input != kImage && reads_floats(plan.stages[i])) last_reader[plan.stages[i].input] = i;
    for (const FusedStep& step : plan.stages[i].steps) {
      if (step.other != kImage) last_reader[step.other] = i;
    }
  }
  last_reader[plan.output] = stages;
  std::vector<int> free;
  for (int i = 0; i < stages; ++i) {
    Stage& stage = plan.stages[i];
    if (last_reader[i] < 0 && !trace) continue;  // only its bits are read
    int in_place = kImage;
    for (const FusedStep& step : stage.steps) {
      const bool last = step.other != kImage && last_reader[step.other] == i;
      if (last && !(reads_floats(stage) && stage.input == step.other)) in_place = step.other;
    }
    if (in_place != kImage && !trace) {
      stage.slot = plan.stages[in_place].slot;
    } else if (free.empty() || trace) {
      stage.slot = static_cast<int>(plan.slots.size());
      plan.slots.push_back(0);
    } else {
      stage.slot = free.back();
      free.pop_back();
    }
    plan.slots[stage.slot] = std::max(plan.slots[stage.slot], stage.out.elements());
    for (int j = 0; j <= i; ++j) {
      if (last_reader[j] == i && j != in_place) free.push_back(plan.stages[j].slot);
    }
  }
}

}  // namespace

Plan make_plan(const std::vector<Node>& nodes, int output, Shape image, bool trace) {
  Plan plan;
  const std::vector<int> readers = count_readers(nodes, output);
  std::vector<int> stage_of(nodes.size(), kImage);
  std::vector<Shape> shapes{image};
  for (int index = 1; index < static_cast<int>(nodes.size()); ++index) {
    const Node& node = nodes[index];
    std::vector<Shape> inputs;
    for (int input : node.inputs) inputs.push_back(shapes[input]);
    shapes.push_back(infer(node, inputs));
    if (node.op == Op::step && !trace && fuse(nodes, index, readers, stage_of, plan.stages)) continue;
    Stage stage;
    stage.node = stage.tail = index;
    stage.input = stage_of[node.inputs[0]];
    stage.in = inputs[0];
    stage.out = shapes.back();
    if (node.op == Op::step)
      stage.steps.push_back({index, node.inputs.size() == 2 ? stage_of[node.inputs[1]] : kImage});
    stage_of[index] = static_cast<int>(plan.stages.size());
    if (node.op == Op::binary_conv) {
      stage.binary = node.binary_conv->plan(stage.in);
      stage.packs_itself = stage.input == kImage || node.binary_conv->needs_mean();
      if (!stage.packs_itself) plan.stages[stage.input].packs.push_back(stage_of[index]);
    }
    plan.row = std::max(plan.row, stage.out.w * stage.out.c);
    plan.stages.push_back(std::move(stage));
  }
  plan.output = stage_of[output];
  assign_slots(plan, trace);
  return plan;
}

}  // namespace onebit
