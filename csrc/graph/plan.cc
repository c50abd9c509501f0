#include "graph/plan.h"

#include <algorithm>
#include <utility>

namespace onebit {
namespace {

constexpr int64_t kGroupBytes = 256 << 10;  // a quarter of a usual L2 cache
constexpr int kGroupStages = 64;            // Graph::advance recurses once a stage

constexpr int64_t kStrip =
    16;  // rows of a sequence computed at once: of 384 channels they fill half a first-level cache

// Of a map that fits into a first-level cache or nearly, rows are asked for several at a time, since asking takes a
// while: so many bytes.
constexpr int64_t kSmallMap = 256 << 10, kAhead = 32 << 10;

// A map that does not fit into a second-level cache.
constexpr int64_t kLargeMap = 1 << 20;
constexpr int64_t kRowsPerPart = 8;  // at least, of what reads one that is not stored

// Number of readers of each node's value, the caller of the network included.
std::vector<int> count_readers(const std::vector<Node>& nodes, const std::vector<int>& outputs) {
  std::vector<int> readers(nodes.size(), 0);
  for (const Node& node : nodes) {
    for (int input : node.inputs) ++readers[input];
  }
  for (int output : outputs) ++readers[output];
  return readers;
}

// An operator after a plain addition is applied together with it.
void append(std::vector<FusedStep>& steps, const Elementwise& applied, int other) {
  if (applied.step == Step::add) {
    steps.push_back({other, nullptr});
  } else if (!steps.empty() && !steps.back().applied) {
    steps.back().applied = &applied;
  } else {
    steps.push_back({kNothing, &applied});
  }
}

// Appends an elementwise node to the stage of one of its inputs. This is possible if nothing else reads that input and
// the other operand, if any, is computed by an earlier stage: so the later stage of the two is tried.
bool fuse(const std::vector<Node>& nodes, int index, const std::vector<int>& readers, std::vector<int>& source_of,
          std::vector<Stage>& stages) {
  const Node& node = nodes[index];
  const Elementwise& applied = *node.elementwise();
  int chosen = node.inputs[0], other = kNothing;
  if (applied.step == Step::add) {
    if (node.inputs[0] == node.inputs[1]) return false;
    if (source_of[node.inputs[1]] > source_of[chosen]) chosen = node.inputs[1];
    other = source_of[chosen == node.inputs[0] ? node.inputs[1] : node.inputs[0]];
  }
  const int stage = source_of[chosen];
  if (!is_stage(stage) || readers[chosen] != 1) return false;
  append(stages[stage].steps, applied, other);
  stages[stage].tail = index;
  source_of[index] = stage;
  return true;
}

// The stages whose outputs a stage reads as floats: its first input may be read as what was packed before.
std::vector<int> floats_read(const Stage& stage) {
  std::vector<int> read;
  const bool packed = stage.reads_packed && !stage.packs_itself;
  for (size_t i = packed ? 1 : 0; i < stage.inputs.size(); ++i) {
    if (is_stage(stage.inputs[i])) read.push_back(stage.inputs[i]);
  }
  for (const FusedStep& step : stage.steps) {
    if (is_stage(step.other)) read.push_back(step.other);
  }
  return read;
}

std::vector<Group> make_groups(const std::vector<Stage>& stages) {
  std::vector<Group> groups;
  int64_t bytes = 0;
  for (int i = 0; i < static_cast<int>(stages.size()); ++i) {
    const int64_t own = stages[i].op->weight_bytes();
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

// What is read from the outputs backwards. With `all`, everything is.
void set_needed(Plan& plan, bool all) {
  std::vector<Stage>& stages = plan.stages;
  const auto ask = [&](int source, int64_t rows) {
    if (is_stage(source)) stages[source].needed = std::max(stages[source].needed, rows);
  };
  for (int output : plan.outputs) ask(output, stages[output].layout.out.h);
  for (int j = static_cast<int>(stages.size()); j-- > 0;) {
    const Stage& stage = stages[j];
    if (all) ask(j, stage.layout.out.h);
    if (stage.needed == 0) continue;
    for (size_t i = 0; i < stage.inputs.size(); ++i) {
      const int64_t rows = stage.op->rows_needed(stage.layout, static_cast<int>(i), stage.needed - 1);
      ask(stage.inputs[i], i == 0 && stage.packs_itself ? stage.layout.in[0].h : rows);
    }
    for (const FusedStep& step : stage.steps) ask(step.other, stage.needed);
  }
}

// A value that one later stage of the same group reads, window by window from top to bottom, needs the rows of one
// window only: they stay in cache. Not if it is packed as well: who reads the bits may ask for rows ahead.
void set_kept(Plan& plan) {
  std::vector<Stage>& stages = plan.stages;
  std::vector<int> readers(stages.size(), 0);
  for (Stage& stage : stages) {
    stage.kept = stage.layout.out.h;
    for (int read : floats_read(stage)) ++readers[read];
  }
  for (int output : plan.outputs) readers[output] += 2;
  for (const Group& group : plan.groups) {
    for (int j = group.begin; j < group.end; ++j) {
      const int64_t seen = stages[j].op->rows_seen();
      for (int i : stages[j].inputs) {
        if (i < group.begin || seen == 0 || stages[j].layout.band() > 1 || readers[i] != 1 || !stages[i].packs.empty())
          continue;
        if (stages[i].layout.band() > 1) continue;  // it runs ahead
        stages[i].kept = std::min(stages[i].layout.out.h, seen);
      }
    }
  }
}

// A large map of which a few rows are kept for one reader is not worth storing: where threads share an image, each
// makes the rows that its own rows of the reader need. At the edges of their parts some are made twice: a twentieth at
// most.
void set_streams(Plan& plan, int threads) {
  std::vector<Stage>& stages = plan.stages;
  for (int j = 0; j < static_cast<int>(stages.size()); ++j) {
    const Stage& reader = stages[j];
    const int i = reader.inputs.size() == 1 ? reader.inputs[0] : kNothing;
    if (!is_stage(i) || stages[i].kept == stages[i].layout.out.h) continue;
    const Stage& stage = stages[i];
    const bool reads_stream =
        stage.inputs.size() == 1 && is_stage(stage.inputs[0]) && stages[stage.inputs[0]].streams_to == i;
    const bool large = stage.layout.out.elements() * static_cast<int64_t>(sizeof(float)) > kLargeMap;
    const auto rows = [&](int64_t y) { return reader.op->rows_needed(reader.layout, 0, y); };
    const int64_t middle = reader.needed / 2, twice = stage.kept - (rows(middle + 1) - rows(middle));
    const bool parted = reader.needed >= kRowsPerPart * threads && 20 * (threads - 1) * twice <= stage.needed;
    if (large && parted && !reads_stream && reader.layout.band() == 1 && !stage.layout.together) {
      stages[i].streams_to = j;
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
  for (int output : plan.outputs) last_reader[output] = stages;
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
      int in_place = kNothing;
      for (const FusedStep& step : stage.steps) {
        if (is_stage(step.other) && last_reader[step.other] == i && readers[step.other] == 1) in_place = step.other;
      }
      if (in_place != kNothing && !trace) {
        stage.slot = plan.stages[in_place].slot;
        stage.kept = stage.layout.out.h;  // row y lies where the row y that it overwrites lay
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
      const Shape out = stage.layout.out;
      whole = std::max(whole, out.elements());
      kept = std::max(kept, stage.kept * out.w * out.c);
    }
    for (int j = 0; j < group.end; ++j) {
      const bool ends = last_reader[j] >= group.begin && last_reader[j] < group.end;
      if (ends && !taken[j]) free.push_back(plan.stages[j].slot);
    }
  }
}

}  // namespace

Plan make_plan(const std::vector<Node>& nodes, const std::vector<int>& outputs, const std::vector<Shape>& inputs,
               int threads, bool trace) {
  Plan plan;
  plan.inputs = inputs;
  const std::vector<int> readers = count_readers(nodes, outputs);
  std::vector<int> source_of;
  for (size_t i = 0; i < inputs.size(); ++i) source_of.push_back(~static_cast<int>(i));
  const std::vector<Shape> shapes = infer_all(nodes, inputs);
  for (int index = static_cast<int>(inputs.size()); index < static_cast<int>(nodes.size()); ++index) {
    const Node& node = nodes[index];
    const Elementwise* elementwise = node.elementwise();
    Stage stage;
    for (int input : node.inputs) stage.layout.in.push_back(shapes[input]);
    source_of.push_back(static_cast<int>(plan.stages.size()));
    if (elementwise && !trace && fuse(nodes, index, readers, source_of, plan.stages)) continue;
    stage.op = node.op.get();
    stage.node = stage.tail = index;
    stage.applies_step = node.op->applies_step();
    stage.reads_packed = node.op->reads_packed();
    stage.layout.out = shapes[index];
    for (int input : node.inputs) stage.inputs.push_back(source_of[input]);
    if (elementwise) {
      append(stage.steps, *elementwise, stage.inputs.size() == 2 ? stage.inputs[1] : kNothing);
      stage.inputs.resize(1);  // the other operand is read by the step
    }
    const int first = stage.inputs.empty() ? kNothing : stage.inputs[0];
    node.op->plan(stage.layout, is_input(first) && !trace);
    bool sequences = node.op->strips() && stage.layout.out.w == 1;
    for (const Shape& in : stage.layout.in) sequences = sequences && in.w == 1;
    if (sequences) stage.layout.strip = std::min(kStrip, stage.layout.out.h);
    const int64_t map = stage.layout.out.elements() * sizeof(float);
    if (map <= kSmallMap) stage.layout.ahead = std::max<int64_t>(1, kAhead * stage.layout.out.h / map);
    if (stage.reads_packed) {
      stage.packs_itself = is_input(first) || node.op->packs_whole();
      if (!stage.packs_itself) plan.stages[first].packs.push_back(source_of[index]);
    }
    stage.row.pixels = stage.layout.out.w;
    stage.row.channels = stage.row.stride = stage.row.x_stride = stage.row.params_stride = stage.layout.out.c;
    plan.row = std::max(plan.row, stage.layout.strip * stage.layout.out.w * stage.layout.out.c);
    plan.stages.push_back(std::move(stage));
  }
  for (int output : outputs) plan.outputs.push_back(source_of[output]);
  plan.reads_floats.resize(inputs.size(), false);
  for (const Stage& stage : plan.stages) {
    for (int source : stage.inputs) {
      if (is_input(source) && stage.layout.bytes.rows == 0) plan.reads_floats[~source] = true;
    }
    for (const FusedStep& step : stage.steps) {
      if (is_input(step.other)) plan.reads_floats[~step.other] = true;
    }
  }
  plan.groups = make_groups(plan.stages);
  set_needed(plan, trace);
  set_kept(plan);
  assign_slots(plan, trace);
  if (!trace && threads > 1) set_streams(plan, threads);
  return plan;
}

}  // namespace onebit
