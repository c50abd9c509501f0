// The boxes that a detector's second stage looks at: of each level the best logits, their boxes decoded, clipped, and
// suppressed where they overlap better ones; of all levels the best. docs/format.md has the arithmetic.

#include <algorithm>
#include <cmath>
#include <string>

#include "base/require.h"
#include "boxes/boxes.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

constexpr int64_t kMaxGrids = 100;

struct Level {
  int64_t rows, columns, step;
  int64_t cells() const { return rows * columns; }
};

struct Candidate {
  float logit;
  int64_t place;  // of its level
};

// The higher logit, then the lower place.
bool better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.place < b.place);
}

struct Proposal {
  float logit;
  Box box;
};

class Proposals : public Operator {
 public:
  explicit Proposals(Source& source) : steps_(source.steps()) {
    for (const std::vector<int64_t>& entry : source.lists("grids", kMaxGrids, 3, 1, kMaxSize)) {
      levels_.push_back({entry[0], entry[1], entry[2]});
    }
    const Pair image = source.pair("image", 1, kMaxSize);
    coding_.height = image.first, coding_.width = image.second;
    coding_.weights = {1, 1, 1, 1};
    candidates_ = source.integer("candidates", 1, kMaxSize);
    most_ = source.integer("most", 1, kMaxSize);
    overlap_ = source.number("overlap");
    if (!(overlap_ >= 0 && overlap_ <= 1)) source.refuse("overlap must be a number from 0 to 1");
    const double smallest = source.number("smallest", 0.0);
    if (!(smallest >= 0)) source.refuse("smallest must be a number from 0 on");
    smallest_ = static_cast<float>(smallest);
    const Shape logits = source.map(0), offsets = source.map(1);
    const auto levels = static_cast<int64_t>(levels_.size());
    shapes_ = source.tensor("anchors", Dtype::f32, {levels, 0, 4}).shape[1];
    anchors_ = source.floats("anchors", {levels, 0, 4});
    count_ = 0;
    for (const Level& level : levels_) count_ += level.cells() * shapes_;
    if (!fit(logits, offsets)) {
      const std::string count = std::to_string(count_);
      source.refuse("needs (" + count + ", 1, 1) and (" + count + ", 1, 4) for its anchors, got " + show(logits) +
                    " and " + show(offsets));
    }
  }

  Shape infer(const std::vector<Shape>& in) const override {
    require(fit(in[0], in[1]), "proposals: the anchors are of an image of another size");
    return {most_, 1, 4};
  }

  void plan(Layout& layout, bool) const override {
    layout.rows = most_;
    layout.together = true;
  }

  void reserve(const Layout& layout, Scratch& scratch) const override {
    if (static_cast<int64_t>(scratch.boxes.size()) < layout.out.elements()) {
      scratch.boxes = Buffer<float>(layout.out.elements());
    }
  }

  void begin(const Layout& layout, const Map* inputs, const Packed&, Range, Scratch& scratch) const override {
    std::fill_n(scratch.boxes.data(), layout.out.elements(), 0.0f);
    float* to = scratch.boxes.data();
    for (const Proposal& found : best(inputs[0].data, inputs[1].data)) {
      const Box& box = found.box;
      for (float corner : {box.x1, box.y1, box.x2, box.y2}) *to++ = corner;
    }
  }

  void row(const Row& r) const override { std::copy_n(r.scratch.boxes.data() + 4 * r.y, 4, r.finish.out); }

 private:
  bool fit(Shape logits, Shape offsets) const {
    return logits == Shape{count_, 1, 1} && offsets == Shape{count_, 1, 4};
  }

  std::vector<Proposal> best(const float* logits, const float* offsets) const {
    std::vector<Proposal> found;
    const float* cells = anchors_.data();
    for (const Level& level : levels_) {
      add_level(level, cells, logits, offsets, found);
      const int64_t count = level.cells() * shapes_;
      logits += count, offsets += 4 * count, cells += 4 * shapes_;
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const Proposal& a, const Proposal& b) { return a.logit > b.logit; });
    if (static_cast<int64_t>(found.size()) > most_) found.resize(most_);
    return found;
  }

  void add_level(const Level& level, const float* cells, const float* logits, const float* offsets,
                 std::vector<Proposal>& found) const {
    std::vector<Candidate> candidates;
    const int64_t count = level.cells() * shapes_;
    for (int64_t i = 0; i < count; ++i) {
      if (!std::isnan(logits[i])) candidates.push_back({logits[i], i});
    }
    if (static_cast<int64_t>(candidates.size()) > candidates_) {
      std::nth_element(candidates.begin(), candidates.begin() + candidates_, candidates.end(), better);
      candidates.resize(candidates_);
    }
    std::sort(candidates.begin(), candidates.end(), better);
    const size_t first = found.size();  // of this level
    for (const Candidate& candidate : candidates) {
      const int64_t cell = candidate.place / shapes_;
      const auto x = static_cast<float>(cell % level.columns * level.step);
      const auto y = static_cast<float>(cell / level.columns * level.step);
      const float* shape = cells + 4 * (candidate.place % shapes_);
      const Box anchor = {x + shape[0], y + shape[1], x + shape[2], y + shape[3]};
      const Box box = decoded(steps_, coding_, offsets + 4 * candidate.place, anchor);
      if (!(box.x2 - box.x1 >= smallest_ && box.y2 - box.y1 >= smallest_)) continue;  // NaN, too
      const bool hidden = std::any_of(found.begin() + static_cast<std::ptrdiff_t>(first), found.end(),
                                      [&](const Proposal& other) { return overlapping(other.box, box, overlap_); });
      if (hidden) continue;
      found.push_back({candidate.logit, box});
      if (static_cast<int64_t>(found.size() - first) == most_) break;
    }
  }

  const StepKernels& steps_;
  std::vector<Level> levels_;
  std::vector<float> anchors_;  // (levels, shapes, 4): around (0, 0)
  int64_t shapes_, count_, candidates_, most_;
  double overlap_;
  float smallest_;
  BoxSettings coding_;  // of which decoding needs the weights and the image's size
};

}  // namespace

ONEBIT_OPERATOR(proposals){
    "proposals", 2, [](Source& source) -> std::unique_ptr<Operator> { return std::make_unique<Proposals>(source); }};

}  // namespace onebit
