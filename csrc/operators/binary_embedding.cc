// Of T tokens, which are whole numbers below V: (T, 1, 1) -> (T, 1, C), for each scale[v]·B[v] (+ offset[v]), where B
// are the signs of its row of bits.

#include <string>
#include <utility>

#include "base/bits.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

struct Rows {
  int64_t width = 0;
  std::vector<uint8_t> bits;  // (V, ceil(C / 8)), and a byte
  std::vector<float> scale, offset;
};

class BinaryEmbedding : public Operator {
 public:
  explicit BinaryEmbedding(Rows rows) : rows_(std::move(rows)), bytes_(bytes_for(rows_.width)) {}

  Shape infer(const std::vector<Shape>& in) const override { return {in[0].h, 1, rows_.width}; }
  int64_t rows_needed(const Layout&, int, int64_t y) const override { return y + 1; }
  bool strips() const override { return true; }

  void row(const Row& r) const override {
    float* out = r.finish.out;
    for (int64_t y = r.y; y < r.y + r.count; ++y, out += rows_.width) {
      const int64_t token = static_cast<int64_t>(*r.inputs[0].at(y));  // checked when it was given
      const float scale = rows_.scale[token];
      float plus = scale, minus = -scale;  // scale·(±1) is exact
      if (!rows_.offset.empty()) {
        plus = plus + rows_.offset[token];
        minus = minus + rows_.offset[token];
      }
      const uint8_t* bits = rows_.bits.data() + token * bytes_;
      int64_t c = 0;
      for (; c + 8 <= rows_.width; c += 8, ++bits) {
        for (int i = 0; i < 8; ++i) out[c + i] = *bits >> i & 1 ? minus : plus;
      }
      for (int i = 0; c + i < rows_.width; ++i) out[c + i] = *bits >> i & 1 ? minus : plus;
    }
  }

  int64_t weight_bytes() const override {
    return static_cast<int64_t>(rows_.bits.size() + (rows_.scale.size() + rows_.offset.size()) * sizeof(float));
  }

 private:
  Rows rows_;
  int64_t bytes_;
};

std::unique_ptr<Operator> make(Source& source) {
  const int64_t count = source.given(0)->count;
  Rows rows;
  rows.width = source.integer("width", 1, kMaxChannels);
  rows.bits = source.bits("bits", count, rows.width);
  const Tensor& channels = source.tensor("channels", Dtype::f32, {0, count});
  if (channels.shape[0] > 2) {
    source.refuse("channels must have 1 row (scale) or 2 (+ offset), got " + std::to_string(channels.shape[0]));
  }
  const std::vector<float> values = source.floats("channels", channels.shape);
  rows.scale.assign(values.begin(), values.begin() + count);
  rows.offset.assign(values.begin() + count, values.end());
  return std::make_unique<BinaryEmbedding>(std::move(rows));
}

}  // namespace

ONEBIT_OPERATOR(binary_embedding){"binary_embedding", 1, make, kFirst};

}  // namespace onebit
