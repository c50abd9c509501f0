// The pool and the executor with several threads, for ThreadSanitizer: outputs equal those of one thread bit for bit.
// `make sanitize` builds and runs it; it prints what differs and then fails.

#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "graph/graph.h"

namespace onebit {
namespace {

using Random = std::mt19937;
using Network = int (*)(Graph& graph, Random& random);  // adds the nodes and returns the output

constexpr Shape kSize{11, 13, 3};
constexpr int64_t kBatches = 9;

std::vector<float> floats(Random& random, int64_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

Window window(int64_t kernel, int64_t stride, int64_t padding) {
  return {{kernel, stride, padding, 1}, {kernel, stride, padding, 1}};
}

int conv(Graph& graph, Random& random, int input, int64_t in, int64_t out) {
  Node node;
  node.op = Op::conv;
  node.inputs = {input};
  node.conv = std::make_unique<FloatConv>(window(3, 1, 1), in, out, 1, floats(random, out * in * 9),
                                          floats(random, out), graph.isa());
  return graph.add(std::move(node));
}

// With a weight offset and a shift: every term of the output is there.
int binary_conv(Graph& graph, Random& random, int input, int64_t in, int64_t out, int64_t stride, Threshold threshold,
                int64_t groups = 1) {
  BinaryWeights weights;
  weights.window = window(3, stride, 1);
  weights.in = in;
  weights.out = out;
  weights.groups = groups;
  const int64_t products = 9 * in / groups;
  for (int64_t i = 0; i < out * ((products + 7) / 8); ++i) weights.bits.push_back(random() & 0xff);
  if (products % 8) {  // bits past the end are 0
    const int64_t row = (products + 7) / 8;
    for (int64_t o = 0; o < out; ++o) weights.bits[o * row + row - 1] &= (1 << products % 8) - 1;
  }
  weights.channels = floats(random, 3 * out);
  weights.shift = 0.25;
  weights.threshold = threshold;
  weights.levels = floats(random, threshold == Threshold::channel ? in : 1);
  Node node;
  node.op = Op::binary_conv;
  node.inputs = {input};
  node.binary_conv = std::make_unique<BinaryConv>(std::move(weights), graph.isa(), graph.product());
  return graph.add(std::move(node));
}

int step(Graph& graph, Step kind, std::vector<int> inputs, std::vector<float> params = {}) {
  Node node;
  node.op = Op::step;
  node.step = kind;
  node.inputs = std::move(inputs);
  node.params = std::move(params);
  return graph.add(std::move(node));
}

int simple(Graph& graph, Op op, int input) {
  Node node;
  node.op = op;
  node.inputs = {input};
  node.pooling.window = window(3, 2, 1);  // read by pools
  return graph.add(std::move(node));
}

int classifier(Graph& graph, Random& random, int input, int64_t channels) {
  Node node;
  node.op = Op::conv;
  node.inputs = {simple(graph, Op::global_avg_pool, input)};
  node.conv = std::make_unique<FloatConv>(window(1, 1, 0), channels, 7, 1, floats(random, 7 * channels),
                                          std::vector<float>{}, graph.isa());
  return graph.add(std::move(node));
}

// Two residual blocks: packed rows, fused steps and sums that are written in place.
int residual(Graph& graph, Random& random) {
  int x = conv(graph, random, 0, 3, 32);
  for (int block = 0; block < 2; ++block) {
    const int y = binary_conv(graph, random, x, 32, 32, 1, Threshold::channel);
    x = step(graph, Step::add, {y, x});
    x = step(graph, Step::maxout, {x}, floats(random, 64));
  }
  return classifier(graph, random, x, 32);
}

// Layers that need the whole map before they start, and windows that are gathered bit by bit.
int means(Graph& graph, Random& random) {
  int x = binary_conv(graph, random, 0, 3, 10, 1, Threshold::sample_mean);
  x = simple(graph, Op::max_pool, x);
  x = binary_conv(graph, random, x, 10, 20, 2, Threshold::sample_mean, 2);
  x = step(graph, Step::rprelu, {x}, floats(random, 60));
  x = simple(graph, Op::avg_pool, x);
  return simple(graph, Op::flatten, x);
}

// Weights of more than one group of stages, a value read twice, and a map as the output.
int heavy(Graph& graph, Random& random) {
  const int x = conv(graph, random, 0, 3, 64);
  const int y = conv(graph, random, x, 64, 128);
  const int z = binary_conv(graph, random, y, 128, 128, 1, Threshold::constant);
  const int w = step(graph, Step::hardtanh, {step(graph, Step::add, {y, z})});
  return step(graph, Step::add, {w, binary_conv(graph, random, w, 128, 128, 1, Threshold::constant)});
}

// Each part of each loop exactly once, for loops shorter and longer than the number of threads and back to back.
bool pool_takes_every_part(int threads) {
  Pool pool(threads);
  for (int round = 0; round < 2000; ++round) {
    const int parts = round % 23;
    std::vector<int> taken(parts, 0);  // plain integers: a part that two threads took is a race
    std::vector<int> sums(threads, 0);
    pool.run(parts, [&](int part, int thread) {
      taken[part] += part + 1;
      ++sums[thread];
    });
    int total = 0;
    for (int sum : sums) total += sum;
    if (total != parts) return false;
    for (int part = 0; part < parts; ++part) {
      if (taken[part] != part + 1) return false;
    }
  }
  return true;
}

// An exception of a part reaches the caller when no thread is at work any more, and the next loop runs as ever.
bool pool_passes_exceptions_on(int threads) {
  Pool pool(threads);
  for (int round = 0; round < 500; ++round) {
    const int parts = 1 + round % 23, bad = round % parts;
    std::vector<int> taken(parts, 0);
    bool caught = false;
    try {
      pool.run(parts, [&](int part, int) {
        if (part == bad) throw std::bad_alloc();
        taken[part] = 1;
      });
    } catch (const std::bad_alloc&) {
      caught = true;
    }
    int total = 0;
    for (int one : taken) total += one;
    // One thread stops at the exception: nobody else is at work.
    if (!caught || (threads > 1 && parts > 1 && total != parts - 1)) return false;
  }
  return true;
}

std::unique_ptr<Graph> make(Network network, Isa isa, int threads) {
  auto graph = std::make_unique<Graph>(isa, threads);
  Random random(7);
  const int output = network(*graph, random);
  graph->finish(output, kSize);
  return graph;
}

std::vector<float> run(Graph& graph, const std::vector<float>& images, int64_t batch) {
  Images source;
  source.channels_last = images.data();
  std::vector<float> out(batch * graph.out_shape(kSize).elements());
  graph.run(source, batch, kSize, out.data());
  return out;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Every batch size on each number of threads, then two callers of one graph at once.
bool network_agrees(const char* name, Network network, Isa isa, const std::vector<float>& images) {
  std::vector<std::vector<float>> expected;  // by batch - 1
  const auto one = make(network, isa, 1);
  for (int64_t batch = 1; batch <= kBatches; ++batch) expected.push_back(run(*one, images, batch));
  bool agrees = true;
  for (int threads : {1, 2, 4, 8}) {
    const auto graph = make(network, isa, threads);
    for (int64_t batch = kBatches; batch >= 1; --batch) {
      if (same(run(*graph, images, batch), expected[batch - 1])) continue;
      std::printf("%s: batch %d on %d threads differs\n", name, static_cast<int>(batch), threads);
      agrees = false;
    }
    std::vector<float> other;
    std::thread caller([&] { other = run(*graph, images, 3); });
    const bool both = same(run(*graph, images, kBatches), expected[kBatches - 1]);
    caller.join();
    if (both && same(other, expected[2])) continue;
    std::printf("%s: two callers on %d threads differ\n", name, threads);
    agrees = false;
  }
  return agrees;
}

}  // namespace
}  // namespace onebit

int main() {
  using namespace onebit;
  bool passed = true;
  for (int threads : {1, 2, 4, 8}) {
    if (!pool_takes_every_part(threads)) {
      std::printf("the pool of %d threads missed a part or took one twice\n", threads);
      passed = false;
    }
    if (!pool_passes_exceptions_on(threads)) {
      std::printf("the pool of %d threads lost an exception or a part\n", threads);
      passed = false;
    }
  }
  Random random(1);
  const std::vector<float> images = floats(random, kBatches * kSize.elements());
  for (Isa isa : {Isa::scalar, best_isa()}) {
    passed &= network_agrees("residual", residual, isa, images);
    passed &= network_agrees("means", means, isa, images);
    passed &= network_agrees("heavy", heavy, isa, images);
  }
  std::puts(passed ? "threads: passed" : "threads: FAILED");
  return passed ? 0 : 1;
}
