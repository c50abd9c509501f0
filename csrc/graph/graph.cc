#include "graph/graph.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/require.h"

namespace onebit {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kCachedPlans = 4;
constexpr int kPartsPerThread = 2;  // of a layer's rows: more are balanced better, fewer cost less
constexpr int kFits = -1;           // in place of the number of an input whose values do not
constexpr const char* kCount = "the number of inputs is wrong";

}  // namespace

Graph::Graph(std::vector<Input> inputs, std::vector<Node> nodes, std::vector<int> outputs, Isa isa, int threads)
    : inputs_(std::move(inputs)),
      nodes_(std::move(nodes)),
      outputs_(std::move(outputs)),
      isa_(isa),
      steps_(select_steps(isa)),
      threads_(threads) {
  running_ = new Running(threads);
}

Graph::~Graph() {
  Running* now = running_;
  if (now->forks == forks()) delete now;
}

Graph::Running& Graph::running() {
  Running* now = running_;
  if (now->forks == forks()) return *now;
  auto own = std::make_unique<Running>(threads_);
  if (running_.compare_exchange_strong(now, own.get())) return *own.release();
  return *now;  // which another thread of this process made meanwhile
}

std::vector<Shape> Graph::default_shapes() const {
  std::vector<Shape> shapes;
  for (const Input& input : inputs_) shapes.push_back(input.shape);
  return shapes;
}

void Graph::check_shapes(const std::vector<Shape>& inputs) const {
  require(inputs.size() == inputs_.size(), kCount);
  for (size_t i = 0; i < inputs.size(); ++i) check_shape(inputs_[i], inputs[i]);
}

std::vector<Shape> Graph::infer_shapes(const std::vector<Shape>& inputs) const {
  check_shapes(inputs);
  const std::vector<Shape> shapes = infer_all(nodes_, inputs);
  std::vector<Shape> outputs;
  for (int output : outputs_) outputs.push_back(shapes[output]);
  return outputs;
}

std::vector<Shape> Graph::out_shapes(const std::vector<Shape>& inputs) {
  check_shapes(inputs);
  Running& now = running();
  std::lock_guard<std::mutex> lock(now.mutex);
  const Plan& plan = plan_for(now, inputs).plan;
  std::vector<Shape> shapes;
  for (int output : plan.outputs) shapes.push_back(plan.stages[output].layout.out);
  return shapes;
}

const Graph::CachedPlan& Graph::plan_for(Running& now, const std::vector<Shape>& inputs) const {
  std::list<CachedPlan>& plans = now.plans;
  const auto found =
      std::find_if(plans.begin(), plans.end(), [&](const CachedPlan& cached) { return cached.plan.inputs == inputs; });
  if (found != plans.end()) {
    plans.splice(plans.begin(), plans, found);
  } else {
    plans.push_front({++now.plans_made, make_plan(nodes_, outputs_, inputs, threads_, false)});
    if (plans.size() > kCachedPlans) plans.pop_back();
  }
  return plans.front();
}

void Graph::prepare(const CachedPlan& cached, bool whole, Arena& arena) const {
  const bool planned = arena.plan == cached.serial;
  if (planned && arena.whole == whole) return;
  arena.plan = 0;  // until all is there: memory may run out
  const Plan& plan = cached.plan;
  const auto grow = [](std::vector<Buffer<float>>& buffers, size_t i, int64_t size) {
    if (buffers.size() <= i) buffers.resize(i + 1);
    if (static_cast<int64_t>(buffers[i].size()) < size) buffers[i] = Buffer<float>(size);
  };
  for (size_t i = 0; i < inputs_.size(); ++i) grow(arena.given, i, plan.inputs[i].elements());
  const std::vector<int64_t>& slots = whole ? plan.slots : plan.kept_slots;
  for (size_t i = 0; i < slots.size(); ++i) grow(arena.slots, i, slots[i]);
  arena.samples.resize(inputs_.size());
  arena.outputs.clear();
  for (const Stage& stage : plan.stages) {
    const Shape out = stage.layout.out;
    const float* data = stage.slot == kNowhere ? nullptr : arena.slots[stage.slot].data();
    arena.outputs.push_back({data, whole ? out.h : stage.kept, out.w * out.c});
  }
  arena.whole = whole;
  if (!planned) {  // packed inputs are whole in any case
    arena.packed.clear();
    for (const Stage& stage : plan.stages) {
      arena.packed.emplace_back();
      stage.op->reserve(stage.layout, arena.packed.back());
    }
  }
  arena.plan = cached.serial;
}

void Graph::prepare(const CachedPlan& cached, Worker& worker) const {
  if (worker.plan == cached.serial) return;
  worker.plan = 0;
  if (static_cast<int64_t>(worker.row.size()) < cached.plan.row) worker.row = Buffer<float>(cached.plan.row);
  worker.done.resize(cached.plan.stages.size());
  for (const Stage& stage : cached.plan.stages) {
    const size_t kept = static_cast<size_t>(stage.kept * stage.layout.out.w * stage.layout.out.c);
    if (stage.streams_to != kNothing && worker.streamed.size() < kept) worker.streamed = Buffer<float>(kept);
    if (worker.inputs.size() < stage.inputs.size()) worker.inputs.resize(stage.inputs.size());
    stage.op->reserve(stage.layout, worker.scratch);
  }
  worker.plan = cached.serial;
}

int Graph::load(const Plan& plan, const std::vector<Values>& inputs, int64_t sample, Arena& arena) const {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const Stage& stage = plan.stages[i];
    if (stage.layout.bytes.rows == 0) continue;
    const int input = ~stage.inputs[0];
    arena.packed[i].in_bytes = inputs[input].bytes != nullptr;
    if (!arena.packed[i].in_bytes) continue;
    const uint8_t* bytes = inputs[input].bytes + sample * plan.inputs[input].elements();
    stage.op->load(stage.layout, bytes, arena.packed[i]);
  }
  int unfit = kFits;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    arena.samples[i] = {};
    if (inputs[i].bytes && !plan.reads_floats[i]) continue;
    const Shape shape = plan.inputs[i];
    bool fits = true;
    const float* x = load_sample(inputs_[i], inputs[i], sample, arena.given[i].data(), fits);
    arena.samples[i] = {x, shape.h, shape.w * shape.c};
    if (!fits) unfit = static_cast<int>(i);
  }
  return unfit;
}

void Graph::check_fits(int unfit) const {
  if (unfit == kFits) return;
  static const char* const kReasons[] = {"images contain NaN or infinity; check how they were normalised",
                                         "tokens are out of range", "floats contain NaN or infinity"};  // by InputType
  const std::string reason = kReasons[static_cast<int>(inputs_[unfit].type)];
  throw std::invalid_argument(inputs_.size() == 1 ? reason : "input " + inputs_[unfit].name + ": " + reason);
}

void Graph::pack(const Plan& plan, int index, Arena& arena) const {
  const Stage& stage = plan.stages[index];
  const Operator& op = *stage.op;
  const Map& x = value(stage.inputs[0], arena);
  const float threshold = op.threshold(stage.layout, x.data);
  for (int64_t y = 0; y < stage.layout.in[0].h; ++y) op.pack(stage.layout, x.at(y), y, threshold, arena.packed[index]);
}

// A row, or a strip of them, is made in the worker's memory, which stays in cache; the last step writes it to where it
// is kept.
void Graph::rows(const Plan& plan, int index, Range range, Arena& arena, Worker& worker, const Stream& stream) const {
  const Stage& stage = plan.stages[index];
  const Layout& layout = stage.layout;
  const Operator& op = *stage.op;
  Map* inputs = worker.inputs.data();
  if (!stage.reads_packed) {
    for (size_t i = 0; i < stage.inputs.size(); ++i) {
      inputs[i] = stage.inputs[i] == stream.stage ? stream.map : value(stage.inputs[i], arena);
    }
  }
  const Map& out = index == stream.stage ? stream.map : arena.outputs[index];
  const int64_t row = layout.out.w * layout.out.c;                                // floats
  const size_t steps = stage.steps.size(), applied = stage.applies_step ? 1 : 0;  // by the operator
  const bool traced = !arena.accumulators.empty() && op.counts();
  const Step step = steps ? stage.steps[0].step() : Step::add;
  void (*apply)(const Finish&) = steps ? steps_.finish[static_cast<int>(step)] : nullptr;
  Finish finish = stage.row;
  int64_t band = range.begin;  // where the next one begins
  for (int64_t y = range.begin, count; y < range.end; y += count) {
    if (layout.bands() && y == band) {
      band = std::min(y + layout.band(), range.end);
      op.begin(layout, inputs, arena.packed[index], {y, band}, worker.scratch);
    }
    count = std::min(layout.strip, (layout.bands() ? band : range.end) - y);
    finish.pixels = count * layout.out.w;
    float* const kept = out.data ? const_cast<float*>(out.at(y)) : worker.row.data();
    const auto set_step = [&](size_t i) {
      const FusedStep& fused = stage.steps[i];
      finish.other = fused.other == kNothing ? nullptr : value(fused.other, arena).at(y);
      finish.params = fused.params();
      if (fused.applied) std::copy_n(fused.applied->constants, 2, finish.constants);
    };
    if (applied && steps) set_step(0);
    finish.out = steps <= applied ? kept : worker.row.data();
    int32_t* accumulators = traced ? arena.accumulators[index].data() + y * row : nullptr;
    op.row({layout, inputs, arena.packed[index], y, count, finish, step, apply, worker.scratch, accumulators});
    for (size_t i = applied; i < steps; ++i) {
      set_step(i);
      finish.x = worker.row.data();
      finish.out = i + 1 == steps ? kept : worker.row.data();
      steps_.finish[static_cast<int>(stage.steps[i].step())](finish);
    }
    for (int reader : stage.packs) {
      const Stage& next = plan.stages[reader];
      for (int64_t i = 0; i < count; ++i) next.op->pack(next.layout, kept + i * row, y + i, 0.0f, arena.packed[reader]);
    }
  }
}

void Graph::advance(const Plan& plan, const Group& group, int index, int64_t count, Arena& arena, Worker& worker,
                    double* seconds) const {
  const Stage& stage = plan.stages[index];
  const Operator& op = *stage.op;
  for (int64_t& y = worker.done[index]; y < count;) {
    const int64_t end = std::min(y + stage.layout.band(), stage.needed);
    for (size_t i = 0; i < stage.inputs.size(); ++i) {
      if (stage.inputs[i] < group.begin) continue;
      const int64_t needed = op.rows_needed(stage.layout, static_cast<int>(i), end - 1);
      if (worker.done[stage.inputs[i]] < needed) {
        advance(plan, group, stage.inputs[i], needed, arena, worker, seconds);
      }
    }
    for (const FusedStep& step : stage.steps) {
      if (step.other >= group.begin && worker.done[step.other] < end) {
        advance(plan, group, step.other, end, arena, worker, seconds);
      }
    }
    const auto start = seconds ? Clock::now() : Clock::time_point{};
    rows(plan, index, {y, end}, arena, worker, {});
    y = end;
    if (seconds) seconds[index] += std::chrono::duration<double>(Clock::now() - start).count();
  }
}

void Graph::run_alone(const Plan& plan, Arena& arena, Worker& worker, double* seconds) const {
  std::fill(worker.done.begin(), worker.done.end(), 0);
  for (const Group& group : plan.groups) {
    const auto start = seconds ? Clock::now() : Clock::time_point{};
    if (plan.stages[group.begin].packs_itself) pack(plan, group.begin, arena);
    if (seconds) seconds[group.begin] += std::chrono::duration<double>(Clock::now() - start).count();
    // The last stage asks for nearly everything; what it does not need, nobody in the group may.
    for (int i = group.end; i-- > group.begin;) {
      advance(plan, group, i, plan.stages[i].needed, arena, worker, seconds);
    }
  }
}

void Graph::run_together(Running& now, const Plan& plan, Arena& arena) const {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const Stage& stage = plan.stages[i];
    const int64_t height = stage.needed;
    if (height == 0) continue;
    if (stage.packs_itself) pack(plan, static_cast<int>(i), arena);  // too short to be worth waking the others
    if (stage.streams_to != kNothing) continue;
    const int source = stage.inputs.empty() ? kNothing : stage.inputs[0];
    const bool streamed = is_stage(source) && plan.stages[source].streams_to == static_cast<int>(i);
    // Of what streams, rows at the edges of parts are made twice.
    const int64_t several = int64_t{streamed ? 1 : kPartsPerThread} * now.pool.threads();
    const int parts = static_cast<int>(std::min(height, stage.layout.together ? 1 : several));
    now.pool.run(parts, [&](int part, int thread) {
      const Range range = part_of(height, part, parts);
      Worker& worker = now.workers[thread];
      if (streamed) {
        run_streamed(plan, static_cast<int>(i), range, arena, worker);
      } else {
        rows(plan, static_cast<int>(i), range, arena, worker, {});
      }
    });
  }
}

void Graph::run_streamed(const Plan& plan, int index, Range range, Arena& arena, Worker& worker) const {
  const Stage& stage = plan.stages[index];
  const int source = stage.inputs[0];
  const Stage& before = plan.stages[source];
  const Stream stream{source, {worker.streamed.data(), before.kept, before.layout.out.w * before.layout.out.c}};
  const auto needed = [&](int64_t y) { return stage.op->rows_needed(stage.layout, 0, y); };
  int64_t done = std::max<int64_t>(0, needed(range.begin) - before.kept);
  for (int64_t y = range.begin; y < range.end; ++y) {
    if (done < needed(y)) rows(plan, source, {done, needed(y)}, arena, worker, stream);
    done = std::max(done, needed(y));
    rows(plan, index, {y, y + 1}, arena, worker, stream);
  }
}

std::vector<Shape> Graph::shapes_of(const std::vector<Values>& inputs) const {
  require(inputs.size() == inputs_.size(), kCount);
  std::vector<Shape> shapes;
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_values(inputs_[i], inputs[i]);
    shapes.push_back(inputs[i].shape);
  }
  return shapes;
}

void Graph::run(const std::vector<Values>& inputs, int64_t batch, const std::vector<float*>& outputs) {
  const std::vector<Shape> shapes = shapes_of(inputs);
  Running& now = running();
  std::lock_guard<std::mutex> lock(now.mutex);
  const CachedPlan& cached = plan_for(now, shapes);
  const Plan& plan = cached.plan;
  std::atomic<int> unfit{kFits};
  const auto load_checked = [&](Arena& arena, int64_t sample) {
    const int found = load(plan, inputs, sample, arena);
    if (found != kFits) unfit = found;
  };
  const auto store = [&](const Arena& arena, int64_t sample) {
    for (size_t i = 0; i < outputs.size(); ++i) {
      const int64_t size = plan.stages[plan.outputs[i]].layout.out.elements();
      std::copy_n(value(plan.outputs[i], arena).data, size, outputs[i] + sample * size);
    }
  };
  for (Worker& worker : now.workers) prepare(cached, worker);
  if (batch < now.pool.threads()) {
    Arena& arena = now.workers[0].arena;
    prepare(cached, true, arena);
    for (int64_t sample = 0; sample < batch; ++sample) {
      load_checked(arena, sample);
      run_together(now, plan, arena);
      store(arena, sample);
    }
  } else {
    for (Worker& worker : now.workers) prepare(cached, false, worker.arena);
    now.pool.run(static_cast<int>(batch), [&](int sample, int thread) {
      Worker& worker = now.workers[thread];
      load_checked(worker.arena, sample);
      run_alone(plan, worker.arena, worker);
      store(worker.arena, sample);
    });
  }
  check_fits(unfit);
}

Memory Graph::memory(const std::vector<Shape>& inputs) {
  check_shapes(inputs);
  Running& now = running();
  std::lock_guard<std::mutex> lock(now.mutex);
  const CachedPlan& cached = plan_for(now, inputs);
  Worker& worker = now.workers[0];
  prepare(cached, worker);
  prepare(cached, false, worker.arena);
  Memory memory{};
  for (const Node& node : nodes_) memory.weights += node.op ? node.op->weight_bytes() : 0;
  const auto add = [&](const auto& buffer) {
    memory.maps += static_cast<int64_t>(buffer.size() * sizeof(*buffer.data()));
  };
  const Arena& arena = worker.arena;
  for (const Buffer<float>& given : arena.given) add(given);
  for (const Buffer<float>& slot : arena.slots) add(slot);
  for (const Packed& packed : arena.packed) {
    add(packed.bytes);
    add(packed.codes.codes);
    add(packed.codes.scales);
    add(packed.bits.bits);
    add(packed.bits.ones);
    add(packed.bits.bytes);
  }
  add(worker.row);
  const Scratch& scratch = worker.scratch;
  add(scratch.floats.windows);
  add(scratch.floats.sums);
  add(scratch.codes.places);
  add(scratch.codes.sums);
  add(scratch.attention.keys);
  add(scratch.attention.values);
  add(scratch.attention.scores);
  add(scratch.attention.exponentials);
  add(scratch.attention.there);
  add(scratch.attention.zeros);
  add(scratch.attention.sums);
  const BinaryAttentionScratch& of_bits = scratch.binary_attention;
  add(of_bits.row);
  add(of_bits.keys);
  add(of_bits.values);
  add(of_bits.ones);
  add(of_bits.queries);
  add(of_bits.chosen);
  add(of_bits.unsure);
  add(of_bits.counts);
  add(of_bits.there);
  add(of_bits.scores);
  add(of_bits.exponentials);
  add(of_bits.sums);
  add(scratch.boxes);
  add(scratch.moments);
  add(scratch.turned);
  add(scratch.binary.windows);
  add(scratch.binary.counts);
  add(scratch.binary.product.panel);
  add(scratch.binary.product.counts);
  return memory;
}

std::vector<Profiled> Graph::profile(const std::vector<Values>& inputs, int rounds) {
  const std::vector<Shape> shapes = shapes_of(inputs);
  Running& now = running();
  std::lock_guard<std::mutex> lock(now.mutex);
  const CachedPlan& cached = plan_for(now, shapes);
  Worker& worker = now.workers[0];
  prepare(cached, worker);
  prepare(cached, false, worker.arena);
  std::vector<Profiled> result;
  for (const Stage& stage : cached.plan.stages) {
    result.push_back({stage.node, stage.tail, stage.layout.out, {}, 0});
  }
  std::vector<double> seconds(result.size());
  for (int round = 0; round < rounds; ++round) {
    std::fill(seconds.begin(), seconds.end(), 0.0);
    check_fits(load(cached.plan, inputs, 0, worker.arena));
    run_alone(cached.plan, worker.arena, worker, seconds.data());
    for (size_t i = 0; i < result.size(); ++i) {
      const Stage& stage = cached.plan.stages[i];
      result[i].work = stage.op->work(stage.layout, worker.arena.packed[i]);
      result[i].seconds = round == 0 ? seconds[i] : std::min(result[i].seconds, seconds[i]);
    }
  }
  return result;
}

std::vector<Traced> Graph::trace(const std::vector<Values>& inputs, int64_t batch) {
  const std::vector<Shape> shapes = shapes_of(inputs);
  Running& now = running();
  std::lock_guard<std::mutex> lock(now.mutex);
  const CachedPlan cached{++now.plans_made, make_plan(nodes_, outputs_, shapes, threads_, true)};
  const Plan& plan = cached.plan;
  Arena arena;
  prepare(cached, true, arena);
  for (Worker& worker : now.workers) prepare(cached, worker);
  std::vector<Traced> result;
  for (const Stage& stage : plan.stages) {
    arena.accumulators.emplace_back(stage.op->counts() ? stage.layout.out.elements() : 0);
    result.push_back({stage.node, stage.layout.out, {}, {}});
  }
  for (int64_t sample = 0; sample < batch; ++sample) {
    check_fits(load(plan, inputs, sample, arena));
    run_together(now, plan, arena);
    for (size_t i = 0; i < plan.stages.size(); ++i) {
      const Buffer<float>& values = arena.slots[plan.stages[i].slot];
      const Buffer<int32_t>& accumulators = arena.accumulators[i];
      result[i].values.insert(result[i].values.end(), values.data(), values.data() + values.size());
      result[i].accumulators.insert(result[i].accumulators.end(), accumulators.data(),
                                    accumulators.data() + accumulators.size());
    }
  }
  return result;
}

}  // namespace onebit
