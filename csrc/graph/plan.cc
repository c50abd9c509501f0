#include "graph/plan.h"

#include <algorithm>
#include <utility>

namespace onebit {
namespace {

constexpr int64_t kGroupBytes = 256 << 10;  // a quarter of a usual L2 cache
constexpr int kGroupStages = 64;            // Graph::advance recurses once a stage

// Number of readers of each node's value, the caller of the network included.
std::vector<int> count_readers(const std::vector<Node>& nodes, int output) {
  std::vector<int> readers(nodes.size(), 0);
  for (const Node& node : nodes) {
    for (int input : node.inputs) ++readers[input];
  }
  ++readers[output];
  return readers;
}

// An operator after a plain addition is applied together with it.
void append(std::vector<FusedStep>& steps, const Node& node, int index, int other) {
  if (node.step == Step::add) {
    steps.push_back({other, kNothing});
  } else if (!steps.empty() && steps.back().node == kNothing) {
    steps.back().node = index;
  } else {
    steps.push_back({kNothing, index});
  }
}

// Appends an elementwise node to the stage of one of its inputs. This is possible if nothing else reads that input and
// the other operand, if any, is computed by an earlier stage: so the later stage of the two is tried.
bool fuse(const std::vector<Node>& nodes, int index, const std::vector<int>& readers, std::vector<int>& stage_of,
          std::vector<Stage>& stages) {
  const Node& node = nodes[index];
  int chosen = node.inputs[0], other = kNothing;
  if (node.step == Step::add) {
    if (node.inputs[0] == node.inputs[1]) return false;
    if (stage_of[node.inputs[1]] > stage_of[chosen]) chosen = node.inputs[1];
    other = stage_of[chosen == node.inputs[0] ? node.inputs[1] : node.inputs[0]];
  }
  const int stage = stage_of[chosen];
  if (stage == kImage || readers[chosen] != 1) return false;
  append(stages[stage].steps, node, index, other);
  stages[stage].tail = index;
  stage_of[index] = stage;
  return true;
}

int64_t weight_bytes(const Node& node) {
  return node.conv ? node.conv->weight_bytes() : node.binary_conv ? node.binary_conv->weight_bytes() : 0;
}

// The stages whose outputs a stage reads as floats: a binary convolution may read bits that were packed before.
std::vector<int> floats_read(const Stage& stage) {
  std::vector<int> read;
  const bool binary = stage.binary.row_words != 0;
  if (stage.input != kImage && (!binary || stage.packs_itself)) read.push_back(stage.input);
  for (const FusedStep& step : stage.steps) {
    if (step.other >= 0) read.push_back(step.other);
  }
  return read;
}

std::vector<Group> make_groups(const std::vector<Node>& nodes, const std::vector<Stage>& stages) {
  std::vector<Group> groups;
  int64_t bytes = 0;
  for (int i = 0; i < static_cast<int>(stages.size()); ++i) {
    const int64_t own = weight_bytes(nodes[stages[i].node]);
    bytes += own;
    const bool full = groups.empty() || bytes > kGroupBytes || i - groups.back().begin == kGroupStages;
    if (full || stages[i].packs_itself) {
      groups.push_back({i, i});
      bytes = own;
    }
    groups.back().end = i + 1;
  }
  return groups;
}

// A value that one later stage of the same group reads, window by window from top to bottom, needs the rows of one
// window only: they stay in cache. Not if it is packed as well: who reads the bits may ask for rows ahead.
void set_kept(const std::vector<Node>& nodes, Plan& plan) {
  std::vector<Stage>& stages = plan.stages;
  std::vector<int> readers(stages.size(), 0);
  for (Stage& stage : stages) {
    stage.kept = stage.out.h;
    for (int read : floats_read(stage)) ++readers[read];
  }
  readers[plan.output] += 2;
  for (const Group& group : plan.groups) {
    for (int j = group.begin; j < group.end; ++j) {
      const Node& node = nodes[stages[j].node];
      const bool windows = node.op == Op::conv || node.op == Op::max_pool || node.op == Op::avg_pool;
      const int i = stages[j].input;
      if (i < group.begin || !windows || readers[i] != 1 || !stages[i].packs.empty()) continue;
      if (stages[i].binary.band() > 1) continue;  // it runs ahead
      const Axis& rows = node.conv ? node.conv->window().rows : node.pooling.window.rows;
      stages[i].kept = std::min(stages[i].out.h, (rows.kernel - 1) * rows.dilation + 1);
    }
  }
}

// Gives each stage memory that no value still to be read occupies; within a group all values may still be read. A value
// that is last read as the other operand of an addition is overwritten by its sum, row by row: one map less in cache.
void assign_slots(Plan& plan, bool trace) {
  const int stages = static_cast<int>(plan.stages.size());
  std::vector<int> last_reader(stages, -1), readers(stages, 0);  // of the floats; readers in the current group
  for (int i = 0; i < stages; ++i) {
    for (int read : floats_read(plan.stages[i])) last_reader[read] = i;
  }
  last_reader[plan.output] = stages;
  std::vector<int> free;
  for (const Group& group : plan.groups) {
    std::vector<bool> taken(stages, false);  // overwritten in place
    std::fill(readers.begin(), readers.end(), 0);
    for (int i = group.begin; i < group.end; ++i) {
      for (int read : floats_read(plan.stages[i])) ++readers[read];
    }
    for (int i = group.begin; i < group.end; ++i) {
      Stage& stage = plan.stages[i];
      if (last_reader[i] < 0 && !trace) continue;  // only its bits are read
      int in_place = kImage;
      for (const FusedStep& step : stage.steps) {
        if (step.other >= 0 && last_reader[step.other] == i && readers[step.other] == 1) in_place = step.other;
      }
      if (in_place != kImage && !trace) {
        stage.slot = plan.stages[in_place].slot;
        stage.kept = stage.out.h;  // row y lies where the row y that it overwrites lay
        taken[in_place] = true;
      } else if (free.empty() || trace) {
        stage.slot = static_cast<int>(plan.slots.size());
        plan.slots.push_back(0);
        plan.kept_slots.push_back(0);
      } else {
        stage.slot = free.back();
        free.pop_back();
      }
      int64_t &whole = plan.slots[stage.slot], &kept = plan.kept_slots[stage.slot];
      whole = std::max(whole, stage.out.elements());
      kept = std::max(kept, stage.kept * stage.out.w * stage.out.c);
    }
    for (int j = 0; j < group.end; ++j) {
      const bool ends = last_reader[j] >= group.begin && last_reader[j] < group.end;
      if (ends && !taken[j]) free.push_back(plan.stages[j].slot);
    }
  }
}

}  // namespace

int64_t rows_needed(const Node& node, const Stage& stage, int64_t y) {
  const auto seen = [&](const Axis& axis) {
    return std::clamp<int64_t>(axis.origin(y) + (axis.kernel - 1) * axis.dilation + 1, 0, stage.in.h);
  };
  switch (node.op) {
    case Op::conv:
      return seen(node.conv->window().rows);
    case Op::binary_conv:
      return seen(node.binary_conv->window().rows);
    case Op::max_pool:
    case Op::avg_pool:
      return seen(node.pooling.window.rows);
    case Op::option_a:
      return y * node.stride + 1;
    case Op::step:
      return y + 1;
    default:
      return stage.in.h;
  }
}

Plan make_plan(const std::vector<Node>& nodes, int output, Shape image, bool trace) {
  Plan plan;
  plan.image = image;
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
    if (node.op == Op::step) {
      append(stage.steps, node, index, node.inputs.size() == 2 ? stage_of[node.inputs[1]] : kNothing);
    }
    stage_of[index] = static_cast<int>(plan.stages.size());
    if (node.op == Op::binary_conv) {
      stage.binary = node.binary_conv->plan(stage.in);
      stage.packs_itself = stage.input == kImage || node.binary_conv->needs_mean();
      if (!stage.packs_itself) plan.stages[stage.input].packs.push_back(stage_of[index]);
    }
    if (node.byte_conv && stage.input == kImage && !trace) stage.bytes = node.byte_conv->plan(stage.in);
    plan.row = std::max(plan.row, stage.out.w * stage.out.c);
    plan.stages.push_back(std::move(stage));
  }
  plan.output = stage_of[output];
  for (const Stage& stage : plan.stages) {
    plan.reads_floats |= stage.input == kImage && stage.bytes.rows == 0;
    for (const FusedStep& step : stage.steps) plan.reads_floats |= step.other == kImage;
  }
  plan.groups = make_groups(nodes, plan.stages);
  set_kept(nodes, plan);
  assign_slots(plan, trace);
  return plan;
}

}  // namespace onebit
