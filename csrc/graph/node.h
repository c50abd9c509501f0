// A node of the graph: one operator, its parameters and its inputs.
#pragma once

#include <memory>
#include <vector>

#include "base/window.h"
#include "kernels/steps/steps.h"
#include "operators/binary_conv.h"
#include "operators/byte_conv.h"
#include "operators/float_conv.h"
#include "operators/pooling.h"

namespace onebit {

enum class Op { input, conv, binary_conv, step, max_pool, avg_pool, global_avg_pool, flatten, option_a };

struct Node {
  Op op = Op::input;
  std::vector<int> inputs;  // indices of earlier nodes

  std::unique_ptr<FloatConv> conv;            // conv, linear
  std::unique_ptr<ByteConv> byte_conv;        // conv: instead of `conv` where its input is an image of bytes
  std::unique_ptr<BinaryConv> binary_conv;    // binary_conv, binary_linear
  Step step = Step::add;                      // step
  std::vector<float> params;                  // step: (rows, C)
  Pooling pooling;                            // pools
  int64_t stride = 1, before = 0, after = 0;  // option_a
};

// Output shape; throws std::invalid_argument if the inputs do not fit the node or the output is too large.
Shape infer(const Node& node, const std::vector<Shape>& inputs);

// One output row of the operators that need no scratch: pools, flatten, option_a, or a copy (step).
void simple_row(const Node& node, const StepKernels& steps, Shape in, Shape out, const Map& x, int64_t y, float* to);

}  // namespace onebit
