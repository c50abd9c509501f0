#include "graph/graph.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>

namespace onebit {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kCachedPlans = 4;
constexpr int kPartsPerThread = 2;  // of a layer's rows: more are balanced better, fewer cost less

}  // namespace

Graph::~Graph() {
  Running* now = running_;
  if (now->forks == forks()) delete now;
}

Graph::Running& Graph::running() {
  Running* now = running_;
  if (now->forks == forks()) return *now;
  auto own = std::make_unique<Running>(threads_);
  for (const Node& node : nodes_) {
    for (Worker& worker : own->workers) {
      if (node.conv) node.conv->reserve(worker.floats);
    }
  }
  if (running_.compare_exchange_strong(now, own.get())) return *own.release();
  return *now;  // which another thread of this process made meanwhile
}

int Graph::add(Node node) {
  if (output_ >= 0) throw std::invalid_argument("the graph is finished");
  const int index = static_cast<int>(nodes_.size());
  const size_t wanted = node.op == Op::step && node.step == Step::add ? 2 : 1;
  if (node.inputs.size() != wanted) throw std::invalid_argument("a node has the wrong number of inputs");
  for (int input : node.inputs) {
    if (input < 0 || input >= index) throw std::invalid_argument("a node refers to an unknown node");
  }
  for (Worker& worker : running().workers) {
    if (node.conv) node.conv->reserve(worker.floats);
  }
  nodes_.push_back(std::move(node));
  return index;
}

void Graph::set_byte_conv(int index, std::unique_ptr<ByteConv> conv) {
  if (output_ >= 0) throw std::invalid_argument("the graph is finished");
  const bool fits = index >= 1 && index < static_cast<int>(nodes_.size()) && nodes_[index].op == Op::conv &&
                    nodes_[index].inputs[0] == 0 &&
                    nodes_[index].conv->same_form(conv->window(), conv->in(), conv->out());
  if (!fits) throw std::invalid_argument("no convolution of the image has this form");
  nodes_[index].byte_conv = std::move(conv);
}

void Graph::finish(int output, Shape image) {
  if (output < 1 || output >= static_cast<int>(nodes_.size())) throw std::invalid_argument("the output is unknown");
  output_ = output;
  plan_for(running(), image);
}

Shape Graph::out_shape(Shape image) {
  Running& now = running();
  std::lock_guard<std::mutex> lock(now.mutex);
  const Plan& plan = plan_for(now, image).plan;
  return plan.stages[plan.output].out;
}

const Graph::CachedPlan& Graph::plan_for(Running& now, Shape image) const {
  std::list<CachedPlan>& plans = now.plans;
  if (output_ < 0) throw std::invalid_argument("the graph is not finished");
  const auto found = std::find_if(plans.begin(), plans.end(), [&](const CachedPlan& cached) {
    return cached.image.h == image.h && cached.image.w == image.w && cached.image.c == image.c;
  });
  if (found != plans.end()) {
    plans.splice(plans.begin(), plans, found);
  } else {
    plans.push_front({image, ++now.plans_made, make_plan(nodes_, output_, image, false)});
    if (plans.size() > kCachedPlans) plans.pop_back();
  }
  return plans.front();
}

void Graph::prepare(const CachedPlan& cached, bool whole, Arena& arena) const {
  if (arena.plan == cached.serial && arena.whole == whole) return;
  const Plan& plan = cached.plan;
  if (static_cast<int64_t>(arena.image.size()) < cached.image.elements()) {
    arena.image = Buffer<float>(cached.image.elements());
  }
  const std::vector<int64_t>& slots = whole ? plan.slots : plan.kept_slots;
  if (arena.slots.size() < slots.size()) arena.slots.resize(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    if (static_cast<int64_t>(arena.slots[i].size()) < slots[i]) arena.slots[i] = Buffer<float>(slots[i]);
  }
  arena.whole = whole;
  if (arena.plan == cached.serial) return;  // packed images are whole in any case
  arena.plan = 0;                           // until all is there: memory may run out
  arena.images.clear();
  arena.bytes.clear();
  for (const Stage& stage : plan.stages) {
    const Node& node = nodes_[stage.node];
    arena.images.push_back(node.binary_conv ? node.binary_conv->image(stage.binary) : BitImage{});
    arena.bytes.push_back(stage.bytes.rows ? node.byte_conv->image(stage.bytes) : ByteImage{});
  }
  arena.plan = cached.serial;
}

void Graph::prepare(const CachedPlan& cached, Worker& worker) const {
  if (static_cast<int64_t>(worker.row.size()) < cached.plan.row) worker.row = Buffer<float>(cached.plan.row);
  worker.done.resize(cached.plan.stages.size());
  for (const Stage& stage : cached.plan.stages) {
    const Node& node = nodes_[stage.node];
    if (node.binary_conv) node.binary_conv->reserve(stage.binary, worker.binary);
  }
}

const float* Graph::load(const Plan& plan, const Images& images, int64_t sample, Arena& arena) const {
  arena.in_bytes = images.bytes != nullptr;
  if (arena.in_bytes) {
    for (size_t i = 0; i < plan.stages.size(); ++i) {
      const Stage& stage = plan.stages[i];
      if (stage.bytes.rows == 0) continue;
      nodes_[stage.node].byte_conv->load(stage.bytes, images.bytes + sample * plan.image.elements(), arena.bytes[i]);
    }
    if (!plan.reads_floats) return nullptr;
  }
  return load_image(images, sample, plan.image, arena.image.data());
}

Map Graph::value(const Plan& plan, int index, const Arena& arena, const float* image) const {
  if (index == kImage) {
    const Shape shape = plan.image;
    return {image, shape.h, shape.w * shape.c};
  }
  const Stage& stage = plan.stages[index];
  if (stage.slot == kNowhere) return {};
  return {arena.slots[stage.slot].data(), arena.whole ? stage.out.h : stage.kept, stage.out.w * stage.out.c};
}

void Graph::pack(const Plan& plan, int index, const float* image, Arena& arena) const {
  const Stage& stage = plan.stages[index];
  const BinaryConv& conv = *nodes_[stage.node].binary_conv;
  const Map x = value(plan, stage.input, arena, image);
  const float mean = conv.needs_mean() ? conv.mean(stage.binary, x.data) : 0.0f;
  for (int64_t y = 0; y < stage.in.h; ++y) conv.pack(stage.binary, x.at(y), y, mean, arena.images[index]);
}

Finish Graph::finish_of(const Plan& plan, const Stage& stage, size_t step, int64_t y, const float* image,
                        const Arena& arena) const {
  Finish finish{};
  finish.pixels = stage.out.w;
  finish.channels = finish.stride = finish.x_stride = finish.params_stride = stage.out.c;
  if (step >= stage.steps.size()) return finish;
  const FusedStep& fused = stage.steps[step];
  if (fused.other != kNothing) {
    finish.other = value(plan, fused.other, arena, image).at(y);
  }
  if (fused.node != kNothing) finish.params = nodes_[fused.node].params.data();
  return finish;
}

Step Graph::step_of(const Stage& stage, size_t step) const {
  if (step >= stage.steps.size() || stage.steps[step].node == kNothing) return Step::add;
  return nodes_[stage.steps[step].node].step;
}

void (*Graph::step_function(const Stage& stage) const)(const Finish&) {
  return stage.steps.empty() ? nullptr : steps_.finish[static_cast<int>(step_of(stage, 0))];
}

// A row is made in the worker's memory, which stays in cache; the last step writes it to where it is kept.
void Graph::rows(const Plan& plan, int index, const float* image, Range range, Arena& arena, Worker& worker) const {
  const Stage& stage = plan.stages[index];
  const Node& node = nodes_[stage.node];
  const Map x = value(plan, stage.input, arena, image), out = value(plan, index, arena, image);
  const int64_t row = stage.out.w * stage.out.c;  // floats
  for (int64_t y = range.begin; y < range.end; ++y) {
    float* kept = out.data ? arena.slots[stage.slot].data() + (out.at(y) - out.data) : worker.row.data();
    const auto target = [&](size_t steps) { return stage.steps.size() <= steps ? kept : worker.row.data(); };
    size_t taken = 0;  // steps applied
    if (node.op == Op::binary_conv) {
      if ((y - range.begin) % stage.binary.band() == 0) {
        const Range band{y, std::min(y + stage.binary.band(), range.end)};
        node.binary_conv->count(stage.binary, arena.images[index], band, worker.binary);
      }
      Finish finish = finish_of(plan, stage, 0, y, image, arena);
      finish.out = target(1);
      int32_t* accumulators = arena.accumulators.empty() ? nullptr : arena.accumulators[index].data() + y * row;
      node.binary_conv->row(stage.binary, arena.images[index], y, step_of(stage, 0), finish, worker.binary,
                            accumulators);
      taken = 1;
    } else if (arena.in_bytes && stage.bytes.rows) {
      Finish finish = finish_of(plan, stage, 0, y, image, arena);
      finish.out = target(1);
      node.byte_conv->row(stage.bytes, arena.bytes[index], y, step_function(stage), finish, worker.floats.sums);
      taken = 1;
    } else if (node.op == Op::conv) {
      Finish finish = finish_of(plan, stage, 0, y, image, arena);
      finish.out = target(1);
      node.conv->row(stage.in, x, y, step_function(stage), finish, worker.floats);
      taken = 1;
    } else {
      simple_row(node, steps_, stage.in, stage.out, x, y, target(0));
    }
    for (; taken < stage.steps.size(); ++taken) {
      Finish finish = finish_of(plan, stage, taken, y, image, arena);
      finish.x = worker.row.data();
      finish.out = target(taken + 1);
      steps_.finish[static_cast<int>(step_of(stage, taken))](finish);
    }
    for (int reader : stage.packs) {
      const Stage& binary = plan.stages[reader];
      nodes_[binary.node].binary_conv->pack(binary.binary, kept, y, 0.0f, arena.images[reader]);
    }
  }
}

void Graph::advance(const Plan& plan, const Group& group, int index, int64_t count, const float* image, Arena& arena,
                    Worker& worker, double* seconds) const {
  const Stage& stage = plan.stages[index];
  const Node& node = nodes_[stage.node];
  for (int64_t& y = worker.done[index]; y < count;) {
    const int64_t end = std::min(y + stage.binary.band(), stage.out.h);
    if (stage.input >= group.begin) {
      advance(plan, group, stage.input, rows_needed(node, stage, end - 1), image, arena, worker, seconds);
    }
    for (const FusedStep& step : stage.steps) {
      if (step.other >= group.begin) advance(plan, group, step.other, end, image, arena, worker, seconds);
    }
    const auto start = seconds ? Clock::now() : Clock::time_point{};
    rows(plan, index, image, {y, end}, arena, worker);
    y = end;
    if (seconds) seconds[index] += std::chrono::duration<double>(Clock::now() - start).count();
  }
}

void Graph::run_alone(const Plan& plan, const float* image, Arena& arena, Worker& worker, double* seconds) const {
  std::fill(worker.done.begin(), worker.done.end(), 0);
  for (const Group& group : plan.groups) {
    const auto start = seconds ? Clock::now() : Clock::time_point{};
    if (plan.stages[group.begin].packs_itself) pack(plan, group.begin, image, arena);
    if (seconds) seconds[group.begin] += std::chrono::duration<double>(Clock::now() - start).count();
    // The last stage asks for nearly everything; what it does not need, nobody may, but a run must not depend on that.
    for (int i = group.end; i-- > group.begin;) {
      advance(plan, group, i, plan.stages[i].out.h, image, arena, worker, seconds);
    }
  }
}

void Graph::run_together(Running& now, const Plan& plan, const float* image, Arena& arena) const {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const Stage& stage = plan.stages[i];
    if (stage.packs_itself) pack(plan, static_cast<int>(i), image, arena);  // too short to be worth waking the others
    const int parts = static_cast<int>(std::min<int64_t>(stage.out.h, int64_t{kPartsPerThread} * now.pool.threads()));
    now.pool.run(parts, [&](int part, int thread) {
      rows(plan, static_cast<int>(i), image, part_of(stage.out.h, part, parts), arena, now.workers[thread]);
    });
  }
}

void Graph::run(const Images& images, int64_t batch, Shape image, float* out) {
  Running& now = running();
  std::lock_guard<std::mutex> lock(now.mutex);
  const CachedPlan& cached = plan_for(now, image);
  const Plan& plan = cached.plan;
  const int64_t out_size = plan.stages[plan.output].out.elements();
  std::atomic<bool> finite{true};
  const auto load_checked = [&](Arena& arena, int64_t sample) {
    const float* x = load(plan, images, sample, arena);
    if (!images.bytes && !all_finite(x, image.elements())) finite = false;
    return x;
  };
  const auto store = [&](const Arena& arena, int64_t sample) {
    std::copy_n(value(plan, plan.output, arena, nullptr).data, out_size, out + sample * out_size);
  };
  for (Worker& worker : now.workers) prepare(cached, worker);
  if (batch < now.pool.threads()) {
    Arena& arena = now.workers[0].arena;
    prepare(cached, true, arena);
    for (int64_t sample = 0; sample < batch; ++sample) {
      run_together(now, plan, load_checked(arena, sample), arena);
      store(arena, sample);
    }
  } else {
    for (Worker& worker : now.workers) prepare(cached, false, worker.arena);
    now.pool.run(static_cast<int>(batch), [&](int sample, int thread) {
      Worker& worker = now.workers[thread];
      run_alone(plan, load_checked(worker.arena, sample), worker.arena, worker);
      store(worker.arena, sample);
    });
  }
  if (!finite) throw std::invalid_argument("images contain NaN or infinity; check how they were normalised");
}

Memory Graph::memory(Shape shape) {
  Running& now = running();
  std::lock_guard<std::mutex> lock(now.mutex);
  const CachedPlan& cached = plan_for(now, shape);
  Worker& worker = now.workers[0];
  prepare(cached, worker);
  prepare(cached, false, worker.arena);
  Memory memory{};
  for (const Node& node : nodes_) {
    if (node.conv) memory.weights += node.conv->weight_bytes();
    if (node.byte_conv) memory.weights += node.byte_conv->weight_bytes();
    if (node.binary_conv) memory.weights += node.binary_conv->weight_bytes();
    memory.weights += static_cast<int64_t>(node.params.size() * sizeof(float));
  }
  const auto add = [&](const auto& buffer) {
    memory.maps += static_cast<int64_t>(buffer.size() * sizeof(*buffer.data()));
  };
  const Arena& arena = worker.arena;
  add(arena.image);
  for (const Buffer<float>& slot : arena.slots) add(slot);
  for (const ByteImage& image : arena.bytes) add(image);
  for (const BitImage& image : arena.images) {
    add(image.bits);
    add(image.ones);
    add(image.bytes);
  }
  add(worker.row);
  add(worker.floats.windows);
  add(worker.floats.sums);
  add(worker.binary.windows);
  add(worker.binary.counts);
  add(worker.binary.product.panel);
  add(worker.binary.product.counts);
  return memory;
}

std::vector<Profiled> Graph::profile(const Images& images, Shape shape, int rounds) {
  Running& now = running();
  std::lock_guard<std::mutex> lock(now.mutex);
  const CachedPlan& cached = plan_for(now, shape);
  Worker& worker = now.workers[0];
  prepare(cached, worker);
  prepare(cached, false, worker.arena);
  std::vector<Profiled> result;
  for (const Stage& stage : cached.plan.stages) result.push_back({stage.node, stage.tail, stage.in, stage.out, 0});
  std::vector<double> seconds(result.size());
  for (int round = 0; round < rounds; ++round) {
    std::fill(seconds.begin(), seconds.end(), 0.0);
    run_alone(cached.plan, load(cached.plan, images, 0, worker.arena), worker.arena, worker, seconds.data());
    for (size_t i = 0; i < result.size(); ++i) {
      result[i].seconds = round == 0 ? seconds[i] : std::min(result[i].seconds, seconds[i]);
    }
  }
  return result;
}

std::vector<Traced> Graph::trace(const float* images, int64_t batch, Shape image) {
  Running& now = running();
  std::lock_guard<std::mutex> lock(now.mutex);
  if (output_ < 0) throw std::invalid_argument("the graph is not finished");
  const CachedPlan cached{image, ++now.plans_made, make_plan(nodes_, output_, image, true)};
  const Plan& plan = cached.plan;
  Arena arena;
  prepare(cached, true, arena);
  for (Worker& worker : now.workers) prepare(cached, worker);
  std::vector<Traced> result;
  for (const Stage& stage : plan.stages) {
    const bool binary = nodes_[stage.node].op == Op::binary_conv;
    arena.accumulators.emplace_back(binary ? stage.out.elements() : 0);
    result.push_back({stage.node, stage.out, {}, {}});
  }
  for (int64_t sample = 0; sample < batch; ++sample) {
    run_together(now, plan, images + sample * image.elements(), arena);
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
