// A map with pixels around it: zeros, its own mirrored at the border, its border, or its own from the other side.

#include <algorithm>
#include <string>
#include <vector>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

enum class Mode { zeros, reflect, replicate, circular };
const std::vector<std::string> kModes = {"zeros", "reflect", "replicate", "circular"};  // by Mode

class Pad : public Operator {
 public:
  explicit Pad(Source& source) {
    const Shape in = source.map(0);
    const std::vector<int64_t> pixels = source.integers("pixels", 4, 0, kMaxSize);
    mode_ = static_cast<Mode>(source.word("mode", kModes, "zeros"));
    rows_ = {pixels[0], pixels[1]};
    columns_ = {pixels[2], pixels[3]};
    for (const auto& [pads, size] : {std::pair{rows_, in.h}, std::pair{columns_, in.w}}) {
      if (fits(pads, size)) continue;
      source.refuse("mode " + kModes[static_cast<int>(mode_)] + " pads " + std::to_string(size) + " pixels by " +
                    std::to_string(most(size)) + " at most, got " + show(pads));
    }
  }

  Shape infer(const std::vector<Shape>& in) const override {
    require(fits(rows_, in[0].h) && fits(columns_, in[0].w), "pad: more pixels than the mode has");
    return {rows_.first + in[0].h + rows_.second, columns_.first + in[0].w + columns_.second, in[0].c};
  }

  int64_t rows_needed(const Layout& layout, int, int64_t y) const override {
    const int64_t height = layout.in[0].h, until = std::clamp<int64_t>(y - rows_.first + 1, 0, height);
    switch (mode_) {
      case Mode::zeros:
        return until;
      case Mode::replicate:
        return std::max<int64_t>(until, 1);
      case Mode::reflect:
        return std::max(until, std::min(rows_.first + 1, height));
      case Mode::circular:
        return rows_.first > 0 ? height : until;
    }
    return height;
  }
  // Reflected rows come back in reverse, circular ones from the end.
  int64_t rows_seen() const override { return mode_ == Mode::zeros || mode_ == Mode::replicate ? 1 : 0; }

  void row(const Row& r) const override {
    const Shape in = r.layout.in[0], out = r.layout.out;
    const int64_t row = seen(r.y - rows_.first, in.h);
    float* to = r.finish.out;
    if (row == kOutside) {
      std::fill_n(to, out.w * out.c, 0.0f);
      return;
    }
    const float* from = r.inputs[0].at(row);
    const auto pixels = [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; ++at) {
        const int64_t column = seen(at, in.w);
        to = column == kOutside ? std::fill_n(to, in.c, 0.0f) : std::copy_n(from + column * in.c, in.c, to);
      }
    };
    pixels(-columns_.first, 0);
    to = std::copy_n(from, in.w * in.c, to);
    pixels(in.w, in.w + columns_.second);
  }

 private:
  static constexpr int64_t kOutside = -1;

  int64_t most(int64_t size) const {
    return mode_ == Mode::reflect ? size - 1 : mode_ == Mode::circular ? size : kMaxSize;
  }
  bool fits(Pair pads, int64_t size) const { return std::max(pads.first, pads.second) <= most(size); }

  // Which of the input's `size` rows or columns is at `at`, counted from the first.
  int64_t seen(int64_t at, int64_t size) const {
    if (at >= 0 && at < size) return at;
    switch (mode_) {
      case Mode::reflect:
        return at < 0 ? -at : 2 * (size - 1) - at;
      case Mode::replicate:
        return at < 0 ? 0 : size - 1;
      case Mode::circular:
        return at < 0 ? at + size : at - size;
      default:
        return kOutside;
    }
  }

  Mode mode_;
  Pair rows_, columns_;
};

}  // namespace

ONEBIT_OPERATOR(pad){"pad", 1,
                     [](Source& source) -> std::unique_ptr<Operator> { return std::make_unique<Pad>(source); }};

}  // namespace onebit
