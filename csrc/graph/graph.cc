#include "graph/graph.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>

namespace onebit {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kCachedPlans = 4;
constexpr int kPartsPerThread = 2;  // of a layer's rows: more are balanced better, fewer cost less

// Mean of one sample in double: per channel over the pixels in order, then over the channels, as the reference.
float sample_mean(const StepKernels& steps, Shape shape, const float* x) {
  std::vector<double> sums(shape.c);
  steps.channel_sums(x, sums.data(), shape.h * shape.w, shape.c);
  double total = 0;
  for (double sum : sums) total += sum;
  return static_cast<float>(total / static_cast<double>(shape.elements()));
}

}  // namespace

int Graph::add(Node node) {
  if (output_ >= 0) throw std::invalid_argument("the graph is finished");
  const int index = static_cast<int>(nodes_.size());
  const size_t wanted = node.op == Op::step && node.step == Step::add ? 2 : 1;
  if (node.inputs.size() != wanted) throw std::invalid_argument("a node has the wrong number of inputs");
  for (int input : node.inputs) {
    if (input < 0 || input >= index) throw std::invalid_argument("a node refers to an unknown node");
  }
  for (Worker& worker : workers_) {
    if (node.conv) node.conv->reserve(worker.floats);
    if (node.binary_conv) node.binary_conv->reserve(worker.binary);
  }
  nodes_.push_back(std::move(node));
  return index;
}

void Graph::finish(int output, Shape image) {
  if (output < 1 || output >= static_cast<int>(nodes_.size())) throw std::invalid_argument("the output is unknown");
  output_ = output;
  plan_for(image);
}

Shape Graph::out_shape(Shape image) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Plan& plan = plan_for(image).plan;
  return plan.stages[plan.output].out;
}

const Graph::CachedPlan& Graph::plan_for(Shape image) {
  if (output_ < 0) throw std::invalid_argument("the graph is not finished");
  const auto found = std::find_if(plans_.begin(), plans_.end(), [&](const CachedPlan& cached) {
    return cached.image.h == image.h && cached.image.w == image.w && cached.image.c == image.c;
  });
  if (found != plans_.end()) {
    plans_.splice(plans_.begin(), plans_, found);
  } else {
    plans_.push_front({image, ++plans_made_, make_plan(nodes_, output_, image, false)});
    if (plans_.size() > kCachedPlans) plans_.pop_back();
  }
  return plans_.front();
}

void Graph::prepare(const CachedPlan& cached, Arena& arena) const {
  if (arena.plan == cached.serial) return;
  const Plan& plan = cached.plan;
  if (arena.slots.size() < plan.slots.size()) arena.slots.resize(plan.slots.size());
  for (size_t i = 0; i < plan.slots.size(); ++i) {
    if (static_cast<int64_t>(arena.slots[i].size()) < plan.slots[i]) arena.slots[i] = Buffer<float>(plan.slots[i]);
  }
  arena.images.clear();
  for (const Stage& stage : plan.stages) {
    const BinaryConv* conv = nodes_[stage.node].binary_conv.get();
    arena.images.push_back(conv ? conv->image(stage.binary) : BitImage{});
  }
  arena.plan = cached.serial;
}

void Graph::prepare(const CachedPlan& cached, Worker& worker) const {
  if (static_cast<int64_t>(worker.row.size()) < cached.plan.row) worker.row = Buffer<float>(cached.plan.row);
}

const float* Graph::value(const Plan& plan, int stage, const Arena& arena, const float* image) const {
  if (stage == kImage) return image;
  const int slot = plan.stages[stage].slot;
  return slot == kNowhere ? nullptr : arena.slots[slot].data();
}

void Graph::pack(const Plan& plan, int index, const float* image, Arena& arena) const {
  const Stage& stage = plan.stages[index];
  const BinaryConv& conv = *nodes_[stage.node].binary_conv;
  const float* x = value(plan, stage.input, arena, image);
  const float mean = conv.needs_mean() ? sample_mean(steps_, stage.in, x) : 0.0f;
  for (int64_t y = 0; y < stage.in.h; ++y) {
    conv.pack(stage.binary, x + y * stage.in.w * stage.in.c, y, mean, arena.images[index]);
  }
}

// A row is made in the worker's memory, which stays in cache; the last step writes it to where it is kept.
void Graph::rows(const Plan& plan, int index, const float* image, Range range, Arena& arena, Worker& worker) const {
  const Stage& stage = plan.stages[index];
  const Node& node = nodes_[stage.node];
  const float* x = value(plan, stage.input, arena, image);
  const int64_t row = stage.out.w * stage.out.c;  // floats
  for (int64_t y = range.begin; y < range.end; ++y) {
    float* kept = stage.slot == kNowhere ? worker.row.data() : arena.slots[stage.slot].data() + y * row;
    float* to = stage.steps.empty() ? kept : worker.row.data();
    if (node.op == Op::binary_conv) {
      int32_t* accumulators = arena.accumulators.empty() ? nullptr : arena.accumulators[index].data() + y * row;
      node.binary_conv->row(stage.binary, arena.images[index], y, worker.binary, to, accumulators);
    } else if (node.op == Op::conv) {
      node.conv->row(stage.in, x, y, worker.floats, to);
    } else {
      simple_row(node, steps_, stage.in, stage.out, x, y, to);
    }
    for (const FusedStep& step : stage.steps) {
      const Node& fused = nodes_[step.node];
      const float* params = fused.params.data();
      if (fused.step == Step::add) params = value(plan, step.other, arena, image) + y * row;
      float* out = &step == &stage.steps.back() ? kept : to;
      steps_.run[static_cast<int>(fused.step)](to, params, out, stage.out.w, stage.out.c);
    }
    for (int reader : stage.packs) {
      const Stage& binary = plan.stages[reader];
      nodes_[binary.node].binary_conv->pack(binary.binary, kept, y, 0.0f, arena.images[reader]);
    }
  }
}

void Graph::run_alone(const Plan& plan, const float* image, Arena& arena, Worker& worker, double* seconds) const {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const Stage& stage = plan.stages[i];
    const auto start = seconds ? Clock::now() : Clock::time_point{};
    if (stage.packs_itself) pack(plan, static_cast<int>(i), image, arena);
    rows(plan, static_cast<int>(i), image, {0, stage.out.h}, arena, worker);
    if (seconds) seconds[i] = std::chrono::duration<double>(Clock::now() - start).count();
  }
}

void Graph::run_together(const Plan& plan, const float* image, Arena& arena) {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const Stage& stage = plan.stages[i];
    if (stage.packs_itself) pack(plan, static_cast<int>(i), image, arena);  // too short to be worth waking the others
    const int parts = static_cast<int>(std::min<int64_t>(stage.out.h, int64_t{kPartsPerThread} * pool_.threads()));
    pool_.run(parts, [&](int part, int thread) {
      rows(plan, static_cast<int>(i), image, part_of(stage.out.h, part, parts), arena, workers_[thread]);
    });
  }
}

void Graph::run(const float* images, int64_t batch, Shape image, float* out) {
  std::lock_guard<std::mutex> lock(mutex_);
  const CachedPlan& cached = plan_for(image);
  const Plan& plan = cached.plan;
  const int64_t in_size = image.elements(), out_size = plan.stages[plan.output].out.elements();
  const auto store = [&](const Arena& arena, int64_t sample) {
    std::copy_n(value(plan, plan.output, arena, nullptr), out_size, out + sample * out_size);
  };
  for (Worker& worker : workers_) prepare(cached, worker);
  if (batch < pool_.threads()) {
    Arena& arena = workers_[0].arena;
    prepare(cached, arena);
    for (int64_t sample = 0; sample < batch; ++sample) {
      run_together(plan, images + sample * in_size, arena);
      store(arena, sample);
    }
    return;
  }
  for (Worker& worker : workers_) prepare(cached, worker.arena);
  pool_.run(static_cast<int>(batch), [&](int sample, int thread) {
    Worker& worker = workers_[thread];
    run_alone(plan, images + sample * in_size, worker.arena, worker);
    store(worker.arena, sample);
  });
}

std::vector<Profiled> Graph::profile(const float* image, Shape shape, int rounds) {
  std::lock_guard<std::mutex> lock(mutex_);
  const CachedPlan& cached = plan_for(shape);
  Worker& worker = workers_[0];
  prepare(cached, worker);
  prepare(cached, worker.arena);
  std::vector<Profiled> result;
  for (const Stage& stage : cached.plan.stages) result.push_back({stage.node, stage.tail, stage.in, stage.out, 0});
  std::vector<double> seconds(result.size());
  for (int round = 0; round < rounds; ++round) {
    run_alone(cached.plan, image, worker.arena, worker, seconds.data());
    for (size_t i = 0; i < result.size(); ++i) {
      result[i].seconds = round == 0 ? seconds[i] : std::min(result[i].seconds, seconds[i]);
    }
  }
  return result;
}

std::vector<Traced> Graph::trace(const float* images, int64_t batch, Shape image) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (output_ < 0) throw std::invalid_argument("the graph is not finished");
  const CachedPlan cached{image, ++plans_made_, make_plan(nodes_, output_, image, true)};
  const Plan& plan = cached.plan;
  Arena arena;
  prepare(cached, arena);
  for (Worker& worker : workers_) prepare(cached, worker);
  std::vector<Traced> result;
  for (const Stage& stage : plan.stages) {
    const bool binary = nodes_[stage.node].op == Op::binary_conv;
    arena.accumulators.emplace_back(binary ? stage.out.elements() : 0);
    result.push_back({stage.node, stage.out, {}, {}});
  }
  for (int64_t sample = 0; sample < batch; ++sample) {
    run_together(plan, images + sample * image.elements(), arena);
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
