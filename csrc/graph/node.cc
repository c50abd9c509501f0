#include "graph/node.h"

#include <algorithm>
#include <stdexcept>

#include "base/require.h"

namespace onebit {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 28;  // of one activation, as the format

Shape infer_unchecked(const Node& node, const std::vector<Shape>& inputs) {
  const Shape in = inputs.empty() ? Shape{} : inputs[0];
  switch (node.op) {
    case Op::conv:
      return node.conv->out_shape(in);
    case Op::binary_conv:
      return node.binary_conv->out_shape(in);
    case Op::step: {
      if (node.step == Step::add) {
        require(in.h == inputs[1].h && in.w == inputs[1].w && in.c == inputs[1].c, "add: the shapes differ");
        return in;
      }
      constexpr int64_t kRows[kSteps] = {2, 0, 0, 0, 1, 3, 2};  // by Step
      require(static_cast<int64_t>(node.params.size()) == kRows[static_cast<int>(node.step)] * in.c,
              "elementwise operator: the parameters do not fit the channels");
      return in;
    }
    case Op::max_pool:
    case Op::avg_pool:
      return pool_shape(node.pooling, in);
    case Op::global_avg_pool:
      return {1, 1, in.c};
    case Op::flatten:
      return {1, 1, in.elements()};
    case Op::option_a:
      return {(in.h + node.stride - 1) / node.stride, (in.w + node.stride - 1) / node.stride,
              node.before + in.c + node.after};
    case Op::input:
      break;
  }
  throw std::invalid_argument("the image cannot be computed");
}

}  // namespace

Shape infer(const Node& node, const std::vector<Shape>& inputs) {
  const Shape out = infer_unchecked(node, inputs);
  require(out.h >= 1 && out.w >= 1 && out.c >= 1, "an output is empty");
  require(out.h <= kMaxElements / out.w && out.h * out.w <= kMaxElements / out.c, "an output is too large");
  return out;
}

void simple_row(const Node& node, const StepKernels& steps, Shape in, Shape out, const Map& x, int64_t y, float* to) {
  switch (node.op) {
    case Op::max_pool:
    case Op::avg_pool:
      return pool_row(node.pooling, node.op == Op::max_pool, steps, in, out, x, y, to);
    case Op::global_avg_pool:
      return global_average(steps, in, x.data, to);
    case Op::option_a:
      for (int64_t at = 0; at < out.w; ++at, to += out.c) {
        const float* pixel = x.at(y * node.stride) + at * node.stride * in.c;
        std::fill_n(to, node.before, 0.0f);
        std::copy_n(pixel, in.c, to + node.before);
        std::fill_n(to + node.before + in.c, node.after, 0.0f);
      }
      return;
    default:  // step, flatten: the values themselves, which a step's input has as many rows of
      std::copy_n(node.op == Op::flatten ? x.data : x.at(y), out.w * out.c, to);
  }
}

}  // namespace onebit
