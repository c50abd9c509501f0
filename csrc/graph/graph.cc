#include "graph/graph.h"

#include <algorithm>
#include <stdexcept>

namespace onebit {
namespace {

constexpr size_t kCachedPlans = 4;
constexpr int kPartsPerThread = 2;  // of a layer's rows: more are balanced better, fewer cost less

// Mean of one sample in double: per channel over the pixels in order, then over the channels, as the reference.
float sample_mean(Shape shape, const float* x) {
  std::vector<double> sums(shape.c);
  for (int64_t pixel = 0; pixel < shape.h * shape.w; ++pixel, x += shape.c) {
    for (int64_t c = 0; c < shape.c; ++c) sums[c] += static_cast<double>(x[c]);
  }
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
  const Plan& plan = plan_for(image);
  return plan.stages[plan.output].out;
}

const Plan& Graph::plan_for(Shape image) {
  if (output_ < 0) throw std::invalid_argument("the graph is not finished");
  const auto found = std::find_if(plans_.begin(), plans_.end(), [&](const CachedPlan& cached) {
    return cached.image.h == image.h && cached.image.w == image.w && cached.image.c == image.c;
  });
  if (found != plans_.end()) {
    plans_.splice(plans_.begin(), plans_, found);
  } else {
    plans_.push_front({image, make_plan(nodes_, output_, image, false)});
    if (plans_.size() > kCachedPlans) plans_.pop_back();
  }
  return plans_.front().plan;
}

void Graph::prepare(const Plan& plan, Arena& arena) const {
  if (arena.slots.size() < plan.slots.size()) arena.slots.resize(plan.slots.size());
  for (size_t i = 0; i < plan.slots.size(); ++i) {
    if (static_cast<int64_t>(arena.slots[i].size()) < plan.slots[i]) arena.slots[i] = Buffer<float>(plan.slots[i]);
  }
  if (static_cast<int64_t>(arena.bits.size()) < plan.bit_words) arena.bits = Buffer<uint64_t>(plan.bit_words);
}

const float* Graph::value(const Plan& plan, int stage, const Arena& arena, const float* image) const {
  return stage == kImage ? image : arena.slots[plan.stages[stage].slot].data();
}

void Graph::pack_rows(const Stage& stage, const float* x, float mean, Range rows, Arena& arena) const {
  nodes_[stage.node].binary_conv->pack(stage.binary, x, rows.begin, rows.end, mean, arena.bits.data());
}

void Graph::rows(const Plan& plan, int index, const float* image, Range range, Arena& arena, Worker& worker) const {
  const Stage& stage = plan.stages[index];
  const Node& node = nodes_[stage.node];
  const float* x = value(plan, stage.input, arena, image);
  const int64_t row = stage.out.w * stage.out.c;  // floats
  const StepKernels& steps = select_steps(isa_);
  for (int64_t y = range.begin; y < range.end; ++y) {
    float* to = arena.slots[stage.slot].data() + y * row;
    if (node.op == Op::binary_conv) {
      int32_t* accumulators = arena.accumulators.empty() ? nullptr : arena.accumulators[index].data() + y * row;
      node.binary_conv->row(stage.binary, arena.bits.data(), y, worker.binary, to, accumulators);
    } else if (node.op == Op::conv) {
      node.conv->row(stage.in, x, y, worker.floats, to);
    } else {
      simple_row(node, stage.in, stage.out, x, y, to);
    }
    for (const FusedStep& step : stage.steps) {
      const Node& fused = nodes_[step.node];
      const float* params = fused.params.data();
      if (fused.step == Step::add) params = value(plan, step.other, arena, image) + y * row;
      steps.run[static_cast<int>(fused.step)](to, params, stage.out.w, stage.out.c);
    }
  }
}

void Graph::run_alone(const Plan& plan, const float* image, Arena& arena, Worker& worker) const {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const Stage& stage = plan.stages[i];
    if (const BinaryConv* conv = nodes_[stage.node].binary_conv.get()) {
      const float* x = value(plan, stage.input, arena, image);
      pack_rows(stage, x, conv->needs_mean() ? sample_mean(stage.in, x) : 0.0f, {0, stage.in.h}, arena);
    }
    rows(plan, static_cast<int>(i), image, {0, stage.out.h}, arena, worker);
  }
}

void Graph::run_together(const Plan& plan, const float* image, Arena& arena) {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const Stage& stage = plan.stages[i];
    if (const BinaryConv* conv = nodes_[stage.node].binary_conv.get()) {
      const float* x = value(plan, stage.input, arena, image);
      const float mean = conv->needs_mean() ? sample_mean(stage.in, x) : 0.0f;
      pack_rows(stage, x, mean, {0, stage.in.h}, arena);  // too short to be worth waking the others
    }
    const int parts = static_cast<int>(std::min<int64_t>(stage.out.h, int64_t{kPartsPerThread} * pool_.threads()));
    pool_.run(parts, [&](int part, int thread) {
      rows(plan, static_cast<int>(i), image, part_of(stage.out.h, part, parts), arena, workers_[thread]);
    });
  }
}

void Graph::run(const float* images, int64_t batch, Shape image, float* out) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Plan& plan = plan_for(image);
  const int64_t in_size = image.elements(), out_size = plan.stages[plan.output].out.elements();
  const auto store = [&](const Arena& arena, int64_t sample) {
    std::copy_n(value(plan, plan.output, arena, nullptr), out_size, out + sample * out_size);
  };
  if (batch < pool_.threads()) {
    Arena& arena = workers_[0].arena;
    prepare(plan, arena);
    for (int64_t sample = 0; sample < batch; ++sample) {
      run_together(plan, images + sample * in_size, arena);
      store(arena, sample);
    }
    return;
  }
  for (Worker& worker : workers_) prepare(plan, worker.arena);
  pool_.run(static_cast<int>(batch), [&](int sample, int thread) {
    Worker& worker = workers_[thread];
    run_alone(plan, images + sample * in_size, worker.arena, worker);
    store(worker.arena, sample);
  });
}

std::vector<Traced> Graph::trace(const float* images, int64_t batch, Shape image) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (output_ < 0) throw std::invalid_argument("the graph is not finished");
  const Plan plan = make_plan(nodes_, output_, image, true);
  Arena arena;
  prepare(plan, arena);
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
