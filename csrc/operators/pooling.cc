#include "operators/pooling.h"

#include <algorithm>
#include <vector>

#include "base/require.h"

namespace onebit {
namespace {

// As PyTorch: with ceil_mode the last window must start inside the image or its leading padding.
int64_t pool_size(const Axis& axis, int64_t size, bool ceil_mode) {
  const int64_t span = size + 2 * axis.padding - axis.kernel;
  require(span >= 0, "pooling: the image is too small");
  const int64_t out = (ceil_mode ? span + axis.stride - 1 : span) / axis.stride + 1;
  return ceil_mode && (out - 1) * axis.stride >= size + axis.padding ? out - 1 : out;
}

}  // namespace

Shape pool_shape(const Pooling& pooling, Shape in) {
  const Axis &rows = pooling.window.rows, &columns = pooling.window.columns;
  return {pool_size(rows, in.h, pooling.ceil_mode), pool_size(columns, in.w, pooling.ceil_mode), in.c};
}

void pool_row(const Pooling& pooling, bool max, const StepKernels& steps, Shape in, Shape out, const Map& x, int64_t y,
              float* to) {
  const Axis &rows = pooling.window.rows, &columns = pooling.window.columns;
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
    const float pixels = static_cast<float>(pooling.count_include_pad ? whole : inside);
    for (int64_t c = 0; c < in.c; ++c) to[c] /= pixels;
  }
}

void global_average(const StepKernels& steps, Shape in, const float* x, float* to) {
  std::vector<double> sums(in.c);
  steps.channel_sums(x, sums.data(), in.h * in.w, in.c);
  for (int64_t c = 0; c < in.c; ++c) to[c] = static_cast<float>(sums[c] / static_cast<double>(in.h * in.w));
}

}  // namespace onebit
