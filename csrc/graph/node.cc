#include "graph/node.h"

#include <algorithm>
#include <stdexcept>

#include "base/require.h"

namespace onebit {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 28;  // of one activation, as the format

// As PyTorch: with ceil_mode the last window must start inside the image or its leading padding.
int64_t pool_size(const Axis& axis, int64_t size, bool ceil_mode) {
  const int64_t span = size + 2 * axis.padding - axis.kernel;
  require(span >= 0, "pooling: the image is too small");
  const int64_t out = (ceil_mode ? span + axis.stride - 1 : span) / axis.stride + 1;
  return ceil_mode && (out - 1) * axis.stride >= size + axis.padding ? out - 1 : out;
}

void pool_row(const Node& node, const StepKernels& steps, Shape in, Shape out, const Map& x, int64_t y, float* to) {
  const Axis &rows = node.window.rows, &columns = node.window.columns;
  const bool max = node.op == Op::max_pool;
  std::vector<const float*> taps;
  taps.reserve(std::min(rows.kernel, in.h) * std::min(columns.kernel, in.w));
  const int64_t top = rows.origin(y), row_begin = std::max<int64_t>(top, 0);
  const int64_t row_end = std::min(top + rows.kernel, in.h);
  std::vector<const float*> seen;  // rows
  for (int64_t row = row_begin; row < row_end; ++row) seen.push_back(x.at(row));
  for (int64_t at = 0; at < out.w; ++at, to += out.c) {
    const int64_t left = columns.origin(at), column_begin = std::max<int64_t>(left, 0);
    const int64_t column_end = std::min(left + columns.kernel, in.w);
    taps.clear();
    for (const float* row : seen) {
      for (int64_t column = column_begin; column < column_end; ++column) taps.push_back(row + column * in.c);
    }
    (max ? steps.maximum : steps.sum)(taps.data(), taps.size(), in.c, to);
    if (max) continue;
    const int64_t whole = (std::min(top + rows.kernel, in.h + rows.padding) - top) *
                          (std::min(left + columns.kernel, in.w + columns.padding) - left);
    const int64_t inside = (row_end - row_begin) * (column_end - column_begin);
    const float pixels = static_cast<float>(node.count_include_pad ? whole : inside);
    for (int64_t c = 0; c < in.c; ++c) to[c] /= pixels;
  }
}

void global_average(const StepKernels& steps, Shape in, const float* x, float* to) {
  std::vector<double> sums(in.c);
  steps.channel_sums(x, sums.data(), in.h * in.w, in.c);
  for (int64_t c = 0; c < in.c; ++c) to[c] = static_cast<float>(sums[c] / static_cast<double>(in.h * in.w));
}

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
      return {pool_size(node.window.rows, in.h, node.ceil_mode), pool_size(node.window.columns, in.w, node.ceil_mode),
              in.c};
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
      return pool_row(node, steps, in, out, x, y, to);
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
