// The pool and the executor with several threads, for ThreadSanitizer: outputs equal those of one thread bit for bit.
// `make sanitize` builds and runs it; it prints what differs and then fails.

#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "file/reader.h"

namespace onebit {
namespace {

constexpr Shape kSize{11, 13, 3};
constexpr int64_t kBatches = 9;

// A packed file, made node by node with random tensors; each method returns the name of the node that it adds.
class File {
 public:
  std::string conv(const std::string& input, int64_t in, int64_t out) {
    const std::string name = node("conv", {input}, R"("padding":[1,1])");
    floats(name, "weight", {out, in, 3, 3});
    floats(name, "bias", {out});
    return name;
  }

  // With a weight offset and a shift: every term of the output is there.
  std::string binary_conv(const std::string& input, int64_t in, int64_t out, int64_t stride,
                          const std::string& threshold, int64_t groups = 1) {
    const std::string s = std::to_string(stride), quoted = threshold.empty() ? "0.25" : '"' + threshold + '"';
    const std::string name =
        node("binary_conv", {input},
             R"("kernel":[3,3],"padding":[1,1],"stride":[)" + s + "," + s + R"(],"in_channels":)" + std::to_string(in) +
                 R"(,"groups":)" + std::to_string(groups) + R"(,"shift":0.25,"threshold":)" + quoted);
    const int64_t products = 9 * in / groups, row = (products + 7) / 8;
    std::string bits;
    for (int64_t i = 0; i < out * row; ++i) {
      const bool last = i % row == row - 1 && products % 8;
      bits += static_cast<char>(random_() & (last ? (1 << products % 8) - 1 : 0xff));  // bits past the end are 0
    }
    tensor(name, "bits", "U8", {out, row}, bits);
    floats(name, "channels", {3, out});
    if (threshold == "channel") floats(name, "threshold", {in});
    return name;
  }

  std::string step(const std::string& op, const std::vector<std::string>& inputs, std::vector<int64_t> params = {}) {
    const std::string name = node(op, inputs);
    if (!params.empty()) floats(name, "channels", params);
    return name;
  }

  std::string pool(const std::string& op, const std::string& input) {
    return node(op, {input}, R"("kernel":[3,3],"stride":[2,2],"padding":[1,1])");
  }

  std::string transposed_conv(const std::string& input, int64_t in, int64_t out) {
    const std::string name =
        node("transposed_conv", {input}, R"("stride":[2,2],"padding":[1,0],"output_padding":[0,1])");
    floats(name, "weight", {out, in, 3, 3});
    floats(name, "bias", {out});
    return name;
  }

  std::string constant(const std::vector<int64_t>& sizes) {
    const std::string name = node("constant", {});
    floats(name, "value", sizes);
    return name;
  }

  std::string classifier(const std::string& input, int64_t channels) {
    const std::string name = node("linear", {node("global_avg_pool", {input})});
    floats(name, "weight", {7, channels});
    return name;
  }

  std::string node(const std::string& op, const std::vector<std::string>& inputs, const std::string& attributes = "") {
    const std::string name = "n" + std::to_string(count_++);
    std::string names;
    for (const std::string& input : inputs) names += (names.empty() ? "" : ",") + ('"' + input + '"');
    nodes_ += (nodes_.empty() ? "" : ",") + (R"({"op":")" + op + R"(","name":")" + name) + R"(","inputs":[)" + names +
              "]" + (attributes.empty() ? "" : ",") + attributes + "}";
    return name;
  }

  // The file's bytes.
  std::string bytes(const std::string& output) const {
    std::string graph =
        R"({"name":"test","method":"none","inputs":[{"name":"x","type":"image","shape":[3,11,13],"mean":[0,0,0],)"
        R"("std":[1,1,1]}],"nodes":[)" +
        nodes_ + R"(],"outputs":[{"name":"y","node":")" + output +
        R"("}],"task":{"name":"classification","answer":"one"}})";
    std::string escaped;
    for (char c : graph) escaped += c == '"' ? R"(\")" : std::string(1, c);
    const std::string header =
        R"({"__metadata__":{"format":"onebit","version":"2","graph":")" + escaped + R"("})" + entries_ + "}";
    std::string file;
    for (int i = 0; i < 8; ++i) file += static_cast<char>(header.size() >> 8 * i & 0xff);
    return file + header + data_;
  }

 private:
  void floats(const std::string& name, const char* what, const std::vector<int64_t>& sizes) {
    std::normal_distribution<float> normal;
    int64_t n = 1;
    for (int64_t size : sizes) n *= size;
    std::string data(n * sizeof(float), 0);
    for (int64_t i = 0; i < n; ++i) {
      const float value = normal(random_);
      std::memcpy(&data[i * sizeof(float)], &value, sizeof(float));
    }
    tensor(name, what, "F32", sizes, data);
  }

  void tensor(const std::string& name, const char* what, const char* dtype, const std::vector<int64_t>& sizes,
              const std::string& data) {
    std::string shape;
    for (int64_t size : sizes) shape += (shape.empty() ? "" : ",") + std::to_string(size);
    entries_ += R"(,")" + name + "." + what + R"(":{"dtype":")" + dtype + R"(","shape":[)" + shape +
                R"(],"data_offsets":[)" + std::to_string(data_.size()) + ",";
    data_ += data;
    entries_ += std::to_string(data_.size()) + "]}";
  }

  std::mt19937 random_{7};
  int count_ = 0;
  std::string nodes_, entries_, data_;
};

using Maker = std::string (*)(File& file);  // adds the nodes and returns the output

// Two residual blocks: packed rows, fused steps and sums that are written in place.
std::string residual(File& file) {
  std::string x = file.conv("x", 3, 32);
  for (int block = 0; block < 2; ++block) {
    const std::string y = file.binary_conv(x, 32, 32, 1, "channel");
    x = file.step("maxout", {file.step("add", {y, x})}, {2, 32});
  }
  return file.classifier(x, 32);
}

// Layers that need the whole map before they start, and windows that are gathered bit by bit.
std::string means(File& file) {
  std::string x = file.binary_conv("x", 3, 10, 1, "sample_mean");
  x = file.pool("max_pool", x);
  x = file.binary_conv(x, 10, 20, 2, "sample_mean", 2);
  x = file.step("rprelu", {x}, {3, 20});
  x = file.pool("avg_pool", x);
  return file.node("flatten", {x});
}

// Weights of more than one group of stages, a value read twice, and a map as the output.
std::string heavy(File& file) {
  const std::string x = file.conv("x", 3, 64), y = file.conv(x, 64, 128), z = file.binary_conv(y, 128, 128, 1, "");
  const std::string w = file.step("hardtanh", {file.step("add", {y, z})});
  return file.step("add", {w, file.binary_conv(w, 128, 128, 1, "")});
}

// Rows that come from elsewhere in the input, outputs that are computed in bands, and values that no input changes.
std::string moving(File& file) {
  std::string x = file.transposed_conv(file.conv("x", 3, 8), 8, 12);
  x = file.node("pad", {x}, R"("pixels":[2,1,0,3],"mode":"reflect")");
  x = file.node("slice", {x}, R"("axis":"height","start":1,"stop":20,"step":3)");
  x = file.node("upsample", {x}, R"("scale":[2,1],"mode":"bilinear")");
  x = file.node("to_sequence", {file.node("channel_shuffle", {x}, R"("groups":3)")});
  const std::string keys = file.constant({70, 1, 12}), values = file.constant({70, 1, 6});
  x = file.node("attention", {x, keys, values}, R"("heads":2,"scale":0.3)");
  return file.node("concat", {file.step("relu", {x}), values}, R"("axis":"height")");
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

std::unique_ptr<Graph> make(Maker maker, Isa isa, int threads) {
  File file;
  const std::string output = maker(file), bytes = file.bytes(output);
  return read_network(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), isa, threads).graph;
}

std::vector<float> run(Graph& graph, const std::vector<float>& images, int64_t batch) {
  Values values;
  values.channels_last = images.data();
  values.shape = kSize;
  std::vector<float> out(batch * graph.out_shapes({kSize})[0].elements());
  graph.run({values}, batch, {out.data()});
  return out;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Every batch size on each number of threads, then two callers of one graph at once.
bool network_agrees(const char* name, Maker network, Isa isa, const std::vector<float>& images) {
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
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> images(kBatches * kSize.elements());
  for (float& value : images) value = normal(random);
  for (Isa isa : {Isa::scalar, best_isa()}) {
    passed &= network_agrees("residual", residual, isa, images);
    passed &= network_agrees("means", means, isa, images);
    passed &= network_agrees("heavy", heavy, isa, images);
    passed &= network_agrees("moving", moving, isa, images);
  }
  std::puts(passed ? "threads: passed" : "threads: FAILED");
  return passed ? 0 : 1;
}
