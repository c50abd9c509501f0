// Python module onebit.runtime._engine: arrays in, arrays out. Every size is checked again here, whatever Python
// checked.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "graph/graph.h"
#include "graph/peak.h"

namespace nb = nanobind;

namespace onebit {
namespace {

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const uint8_t, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<const int8_t, nb::c_contig, nb::device::cpu>;
using Doubles = nb::ndarray<const double, nb::c_contig, nb::device::cpu>;
using Pair = std::pair<int64_t, int64_t>;

constexpr int64_t kMaxSize = 1 << 15;  // of a kernel, stride, padding, dilation, height or width
constexpr int64_t kMaxChannels = 1 << 24;
constexpr int64_t kMaxBatch = 1 << 30;

std::vector<float> to_vector(const Floats& array) { return {array.data(), array.data() + array.size()}; }

int64_t between(int64_t low, int64_t value, int64_t high) {
  if (value < low || value > high) throw std::invalid_argument("a size is out of range: " + std::to_string(value));
  return value;
}

Axis axis(int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  return {between(1, kernel, kMaxSize), between(1, stride, kMaxSize), between(0, padding, kMaxSize),
          between(1, dilation, kMaxSize)};
}

Window window(Pair kernel, Pair stride, Pair padding, Pair dilation) {
  return {axis(kernel.first, stride.first, padding.first, dilation.first),
          axis(kernel.second, stride.second, padding.second, dilation.second)};
}

Node node_of(Op op, int input) {
  Node node;
  node.op = op;
  node.inputs = {input};
  return node;
}

// weight (O, I/g, KH, KW)
int add_conv(Graph& graph, int input, const Floats& weight, const std::optional<Floats>& bias, Pair stride,
             Pair padding, Pair dilation, int64_t groups) {
  if (weight.ndim() != 4) throw std::invalid_argument("convolution: the weight must be (O, I/g, KH, KW)");
  Node node = node_of(Op::conv, input);
  const Pair kernel{weight.shape(2), weight.shape(3)};
  const int64_t in = between(1, weight.shape(1), kMaxChannels) * between(1, groups, kMaxSize);
  node.conv =
      std::make_unique<FloatConv>(window(kernel, stride, padding, dilation), in, weight.shape(0), groups,
                                  to_vector(weight), bias ? to_vector(*bias) : std::vector<float>{}, graph.isa());
  return graph.add(std::move(node));
}

// What the convolution `index` is for images of bytes: weight (O, I, KH, KW), a and b (I, O), bias (O), as in
// operators/byte_conv.h.
void add_byte_conv(Graph& graph, int index, const Codes& weight, const Floats& a, const Doubles& b, const Doubles& bias,
                   Pair stride, Pair padding, Pair dilation) {
  if (weight.ndim() != 4) throw std::invalid_argument("byte convolution: the weight must be (O, I, KH, KW)");
  ByteWeights weights;
  weights.window = window({weight.shape(2), weight.shape(3)}, stride, padding, dilation);
  weights.out = between(1, weight.shape(0), kMaxChannels);
  weights.in = between(1, weight.shape(1), kMaxChannels);
  weights.q.assign(weight.data(), weight.data() + weight.size());
  weights.a = to_vector(a);
  weights.b.assign(b.data(), b.data() + b.size());
  weights.bias.assign(bias.data(), bias.data() + bias.size());
  graph.set_byte_conv(index, std::make_unique<ByteConv>(std::move(weights), graph.isa()));
}

// bits (O, bytes), channels (2 or 3, O), threshold (1), or (I) if kind is "channel"; single: of maps of one pixel
int add_binary_conv(Graph& graph, int input, const Bytes& bits, const Floats& channels, const Floats& threshold,
                    int64_t in_channels, Pair kernel, Pair stride, Pair padding, Pair dilation, int64_t groups,
                    double shift, const std::string& kind, bool single) {
  if (bits.ndim() != 2) throw std::invalid_argument("binary convolution: bits must be (O, bytes)");
  BinaryWeights weights;
  weights.window = window(kernel, stride, padding, dilation);
  weights.in = between(1, in_channels, kMaxChannels);
  weights.out = between(1, bits.shape(0), kMaxChannels);
  weights.groups = between(1, groups, kMaxSize);
  weights.bits.assign(bits.data(), bits.data() + bits.size());
  weights.channels = to_vector(channels);
  weights.shift = shift;
  weights.threshold = kind == "channel"       ? Threshold::channel
                      : kind == "sample_mean" ? Threshold::sample_mean
                      : kind == "constant"    ? Threshold::constant
                                              : throw std::invalid_argument("unknown threshold " + kind);
  weights.levels = to_vector(threshold);
  Node node = node_of(Op::binary_conv, input);
  node.binary_conv = std::make_unique<BinaryConv>(std::move(weights), graph.isa(), single ? nullptr : graph.product());
  return graph.add(std::move(node));
}

int add_step(Graph& graph, const std::string& name, const std::vector<int>& inputs,
             const std::optional<Floats>& params) {
  static const char* const kNames[kSteps] = {"affine", "add", "hardtanh", "relu", "prelu", "rprelu", "maxout"};
  for (size_t i = 0; i < kSteps; ++i) {
    if (name != kNames[i]) continue;
    Node node = node_of(Op::step, 0);
    node.inputs = inputs;
    node.step = static_cast<Step>(i);
    if (params) node.params = to_vector(*params);
    return graph.add(std::move(node));
  }
  throw std::invalid_argument("unknown operator " + name);
}

int add_pool(Graph& graph, int input, bool max, Pair kernel, Pair stride, Pair padding, bool ceil_mode,
             bool count_include_pad) {
  Node node = node_of(max ? Op::max_pool : Op::avg_pool, input);
  node.pooling.window = window(kernel, stride, padding, {1, 1});
  if (2 * padding.first > kernel.first || 2 * padding.second > kernel.second) {
    throw std::invalid_argument("pooling: the padding must be at most half of the kernel");
  }
  node.pooling.ceil_mode = ceil_mode;
  node.pooling.count_include_pad = count_include_pad;
  return graph.add(std::move(node));
}

int add_option_a(Graph& graph, int input, int64_t stride, Pair pad) {
  Node node = node_of(Op::option_a, input);
  node.stride = between(1, stride, kMaxSize);
  node.before = between(0, pad.first, kMaxSize);
  node.after = between(0, pad.second, kMaxSize);
  return graph.add(std::move(node));
}

template <typename Array>
Shape image_shape(const Array& images) {
  if (images.ndim() != 4 || images.size() == 0) throw std::invalid_argument("images must be (B, H, W, C)");
  between(1, images.shape(0), kMaxBatch);
  return {between(1, images.shape(1), kMaxSize), between(1, images.shape(2), kMaxSize),
          between(1, images.shape(3), kMaxSize)};
}

// A numpy array (B, H, W, C) that owns the vector's memory.
template <typename T>
nb::ndarray<nb::numpy, T> to_numpy(std::vector<T> values, int64_t batch, Shape shape) {
  auto* owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void* pointer) noexcept { delete static_cast<std::vector<T>*>(pointer); });
  return nb::ndarray<nb::numpy, T>(owned->data(),
                                   {static_cast<size_t>(batch), static_cast<size_t>(shape.h),
                                    static_cast<size_t>(shape.w), static_cast<size_t>(shape.c)},
                                   owner);
}

nb::ndarray<nb::numpy, float> run_images(Graph& graph, const Images& images, int64_t batch, Shape image) {
  std::vector<float> out;
  Shape shape;
  {
    nb::gil_scoped_release release;
    shape = graph.out_shape(image);
    out.resize(batch * shape.elements());
    graph.run(images, batch, image, out.data());
  }
  return to_numpy(std::move(out), batch, shape);
}

// images (B, H, W, C)
nb::ndarray<nb::numpy, float> run(Graph& graph, const Floats& images) {
  const Shape image = image_shape(images);
  Images source;
  source.channels_last = images.data();
  return run_images(graph, source, images.shape(0), image);
}

// images (B, C, H, W)
nb::ndarray<nb::numpy, float> run_channels_first(Graph& graph, const Floats& images) {
  const Shape shape = image_shape(images);  // of (C, H, W)
  Images source;
  source.channels_first = images.data();
  return run_images(graph, source, images.shape(0), {shape.w, shape.c, shape.h});
}

Images byte_images(const Bytes& images, const Floats& mean, const Floats& std, Shape image) {
  if (static_cast<int64_t>(mean.size()) != image.c || static_cast<int64_t>(std.size()) != image.c) {
    throw std::invalid_argument("mean and std must have one number per channel");
  }
  Images source;
  source.bytes = images.data();
  source.mean = mean.data();
  source.std = std.data();
  return source;
}

// images (B, H, W, C), mean and std (C)
nb::ndarray<nb::numpy, float> run_bytes(Graph& graph, const Bytes& images, const Floats& mean, const Floats& std) {
  const Shape image = image_shape(images);
  return run_images(graph, byte_images(images, mean, std, image), images.shape(0), image);
}

// List of (node index, float32 values, int32 accumulators or None).
nb::list trace(Graph& graph, const Floats& images) {
  const Shape image = image_shape(images);
  const int64_t batch = images.shape(0);
  std::vector<Traced> traced;
  {
    nb::gil_scoped_release release;
    traced = graph.trace(images.data(), batch, image);
  }
  nb::list result;
  for (Traced& item : traced) {
    nb::object accumulators = nb::none();
    if (!item.accumulators.empty()) {
      accumulators = nb::cast(to_numpy(std::move(item.accumulators), batch, item.shape));
    }
    result.append(nb::make_tuple(item.node, to_numpy(std::move(item.values), batch, item.shape), accumulators));
  }
  return result;
}

// List of (node index, index of the last node fused behind it, input (H, W, C), output (H, W, C), seconds).
nb::list profile_images(Graph& graph, const Images& images, Shape image, int rounds) {
  std::vector<Profiled> stages;
  {
    nb::gil_scoped_release release;
    stages = graph.profile(images, image, static_cast<int>(between(1, rounds, 1 << 20)));
  }
  nb::list result;
  const auto shape = [](Shape s) { return nb::make_tuple(s.h, s.w, s.c); };
  for (const Profiled& stage : stages) {
    result.append(nb::make_tuple(stage.node, stage.tail, shape(stage.in), shape(stage.out), stage.seconds));
  }
  return result;
}

// images (B, H, W, C)
nb::list profile(Graph& graph, const Floats& images, int rounds) {
  const Shape image = image_shape(images);
  Images source;
  source.channels_last = images.data();
  return profile_images(graph, source, image, rounds);
}

// images (B, H, W, C), mean and std (C)
nb::list profile_bytes(Graph& graph, const Bytes& images, const Floats& mean, const Floats& std, int rounds) {
  const Shape image = image_shape(images);
  return profile_images(graph, byte_images(images, mean, std, image), image, rounds);
}

nb::dict kernels(const Graph& graph) {
  nb::dict names;
  names["pack"] = select_pack(graph.isa()).name;
  names["count"] = select_count(graph.isa()).name;
  if (graph.product()) names["product"] = graph.product()->name;
  names["multiply"] = select_multiply(graph.isa()).name;
  names["bytes"] = select_bytes(graph.isa()).name;
  names["steps"] = select_steps(graph.isa()).name;
  return names;
}

}  // namespace
}  // namespace onebit

NB_MODULE(_engine, module) {
  using namespace onebit;
  // A child of a fork ends with what other threads of its parent held, a program with what its daemon threads hold.
  nb::set_leak_warnings(false);
  module.def("best_isa", [] { return std::string(isa_name(best_isa())); });
  nb::class_<Graph>(module, "Graph")
      .def(
          "__init__",
          [](Graph* self, const std::string& isa, int threads, bool oracle) {
            const Isa chosen = choose_isa(isa, best_isa());
            new (self) Graph(chosen, static_cast<int>(between(1, threads, 1024)), oracle);
          },
          nb::arg("isa"), nb::arg("threads"), nb::arg("oracle") = false)
      .def_prop_ro("isa", [](const Graph& graph) { return std::string(isa_name(graph.isa())); })
      .def_prop_ro("threads", &Graph::threads)
      .def("peaks",
           [](const Graph& graph) {
             nb::dict peaks;  // multiply-accumulates a second on one thread
             peaks["binary"] = binary_peak(graph.isa());
             peaks["float"] = float_peak(graph.isa());
             peaks["bytes"] = byte_peak(graph.isa());
             return peaks;
           })
      .def_prop_ro("kernels", kernels)
      .def("conv", add_conv, nb::arg("input"), nb::arg("weight"), nb::arg("bias").none(), nb::arg("stride"),
           nb::arg("padding"), nb::arg("dilation"), nb::arg("groups"))
      .def("byte_conv", add_byte_conv, nb::arg("conv"), nb::arg("weight"), nb::arg("a"), nb::arg("b"), nb::arg("bias"),
           nb::arg("stride"), nb::arg("padding"), nb::arg("dilation"))
      .def("binary_conv", add_binary_conv, nb::arg("input"), nb::arg("bits"), nb::arg("channels"), nb::arg("threshold"),
           nb::arg("in_channels"), nb::arg("kernel"), nb::arg("stride"), nb::arg("padding"), nb::arg("dilation"),
           nb::arg("groups"), nb::arg("shift"), nb::arg("kind"), nb::arg("single") = false)
      .def("step", add_step, nb::arg("name"), nb::arg("inputs"), nb::arg("params").none())
      .def("pool", add_pool, nb::arg("input"), nb::arg("max"), nb::arg("kernel"), nb::arg("stride"), nb::arg("padding"),
           nb::arg("ceil_mode"), nb::arg("count_include_pad"))
      .def("global_avg_pool", [](Graph& graph, int input) { return graph.add(node_of(Op::global_avg_pool, input)); })
      .def("flatten", [](Graph& graph, int input) { return graph.add(node_of(Op::flatten, input)); })
      .def("option_a", add_option_a, nb::arg("input"), nb::arg("stride"), nb::arg("pad"))
      .def("finish",
           [](Graph& graph, int output, int64_t height, int64_t width, int64_t channels) {
             graph.finish(output,
                          {between(1, height, kMaxSize), between(1, width, kMaxSize), between(1, channels, kMaxSize)});
           })
      .def("run", run, nb::arg("images"))
      .def("run_channels_first", run_channels_first, nb::arg("images"))
      .def("run_bytes", run_bytes, nb::arg("images"), nb::arg("mean"), nb::arg("std"))
      .def("trace", trace, nb::arg("images"))
      .def("memory",
           [](Graph& graph, int64_t height, int64_t width, int64_t channels) {
             const Memory memory = graph.memory(
                 {between(1, height, kMaxSize), between(1, width, kMaxSize), between(1, channels, kMaxSize)});
             nb::dict bytes;
             bytes["weights"] = memory.weights;
             bytes["maps"] = memory.maps;
             return bytes;
           })
      .def("profile", profile, nb::arg("images"), nb::arg("rounds"))
      .def("profile_bytes", profile_bytes, nb::arg("images"), nb::arg("mean"), nb::arg("std"), nb::arg("rounds"));
}
