// What a map (H, W, C) holds inside boxes (R, 1, 4): of each its size·size cells, row by row, as the means of samples
// that are interpolated linearly. docs/format.md has the arithmetic.

#include <algorithm>
#include <cmath>
#include <string>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

constexpr int64_t kMaxCells = 64;  // of a box in a row, and samples of a cell in one
constexpr double kMaxSide = 3.4e38;

// Along one axis of the map: the sample lies between two places; the second has the weight.
struct Tap {
  int64_t before, after;
  float weight;
  bool inside;
};

// out[c] += Σ of four, from the left, each weight·value rounded.
void add_sample(const float* const* from, const float* weights, float* out, int64_t channels) {
  const float *a = from[0], *b = from[1], *c = from[2], *d = from[3];
  const float wa = weights[0], wb = weights[1], wc = weights[2], wd = weights[3];
  for (int64_t i = 0; i < channels; ++i) out[i] += ((wa * a[i] + wb * b[i]) + wc * c[i]) + wd * d[i];
}

bool fit(const Shape& boxes) { return boxes.w == 1 && boxes.c == 4 && !boxes.vector; }

class RoiAlign : public Operator {
 public:
  explicit RoiAlign(Source& source)
      : scale_(static_cast<float>(source.positive("scale"))),
        low_(static_cast<float>(source.number("low", 0.0))),
        high_(static_cast<float>(source.number("high", kMaxSide))),
        size_(source.integer("size", 1, kMaxCells, 7)),
        samples_(source.integer("samples", 1, kMaxCells, 2)) {
    const Shape boxes = source.map(0);
    source.map(1);
    if (!fit(boxes)) source.refuse("needs boxes (R, 1, 4) and a map, got " + show(boxes) + " first");
    if (source.number("low", 0.0) > source.number("high", kMaxSide)) source.refuse("needs low <= high");
  }

  Shape infer(const std::vector<Shape>& in) const override {
    require(fit(in[0]) && !in[1].vector, "roi_align: no boxes, or no map");
    return {in[0].h, 1, size_ * size_ * in[1].c};
  }

  int64_t rows_needed(const Layout& layout, int input, int64_t y) const override {
    return input == 0 ? y + 1 : layout.in[1].h;
  }

  void row(const Row& r) const override {
    const Shape map = r.layout.in[1];
    float* out = r.finish.out;
    std::fill_n(out, r.layout.out.c, 0.0f);
    const float* box = r.inputs[0].at(r.y);
    const float area = (box[2] - box[0]) * (box[3] - box[1]), side = std::sqrt(area);
    if (!(area > 0 && side >= low_ && side < high_)) return;
    const auto parts = static_cast<float>(samples_ * samples_);
    for (int64_t i = 0; i < size_; ++i) {
      for (int64_t j = 0; j < size_; ++j, out += map.c) {
        for (int64_t iy = 0; iy < samples_; ++iy) {
          const Tap y = tap(box[1], box[3], i, iy, map.h);
          for (int64_t ix = 0; y.inside && ix < samples_; ++ix) {
            const Tap x = tap(box[0], box[2], j, ix, map.w);
            if (!x.inside) continue;
            const float hy = 1.0f - y.weight, hx = 1.0f - x.weight;
            const float weights[] = {hy * hx, hy * x.weight, y.weight * hx, y.weight * x.weight};
            const float *top = r.inputs[1].at(y.before), *bottom = r.inputs[1].at(y.after);
            const float* const from[] = {top + x.before * map.c, top + x.after * map.c, bottom + x.before * map.c,
                                         bottom + x.after * map.c};
            add_sample(from, weights, out, map.c);
          }
        }
        for (int64_t c = 0; c < map.c; ++c) out[c] /= parts;
      }
    }
  }

 private:
  // Sample number `sample` of cell `cell` between two corners of a box, on an axis of so many places.
  Tap tap(float low, float high, int64_t cell, int64_t sample, int64_t places) const {
    const float start = low * scale_;
    float length = high * scale_ - start;
    length = length < 1.0f ? 1.0f : length;  // NaN stays
    const float each = length / static_cast<float>(size_);
    float at = start + static_cast<float>(cell) * each;
    at = at + (static_cast<float>(sample) + 0.5f) * each / static_cast<float>(samples_);
    if (!(at >= -1.0f && at <= static_cast<float>(places))) return {0, 0, 0.0f, false};
    at = at < 0.0f ? 0.0f : at;
    const int64_t before = std::min(static_cast<int64_t>(at), places - 1);
    if (before == places - 1) return {before, before, 0.0f, true};
    return {before, before + 1, at - static_cast<float>(before), true};
  }

  const float scale_, low_, high_;
  const int64_t size_, samples_;
};

}  // namespace

ONEBIT_OPERATOR(roi_align){
    "roi_align", 2, [](Source& source) -> std::unique_ptr<Operator> { return std::make_unique<RoiAlign>(source); }};

}  // namespace onebit
