// y[j·groups + g] = x[g·(C / groups) + j] of each pixel

#include <string>

#include "base/require.h"
#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {
namespace {

class ChannelShuffle : public Operator {
 public:
  explicit ChannelShuffle(Source& source) : groups_(source.integer("groups", 1, kMaxSize)) {
    const int64_t channels = source.shape(0).c;
    if (channels % groups_) {
      source.refuse("groups " + std::to_string(groups_) + " must divide " + std::to_string(channels) + " channels");
    }
  }

  Shape infer(const std::vector<Shape>& in) const override {
    require(in[0].c % groups_ == 0, "channel_shuffle: the groups do not divide the channels");
    return in[0];
  }
  int64_t rows_needed(const Layout&, int, int64_t y) const override { return y + 1; }
  int64_t rows_seen() const override { return 1; }

  void row(const Row& r) const override {
    const int64_t channels = r.layout.out.c, each = channels / groups_;
    const float* from = r.inputs[0].at(r.y);
    float* to = r.finish.out;
    for (int64_t at = 0; at < r.layout.out.w; ++at, from += channels, to += channels) {
      for (int64_t g = 0; g < groups_; ++g) {
        for (int64_t j = 0; j < each; ++j) to[j * groups_ + g] = from[g * each + j];
      }
    }
  }

 private:
  int64_t groups_;
};

}  // namespace

ONEBIT_OPERATOR(channel_shuffle){"channel_shuffle", 1, [](Source& source) -> std::unique_ptr<Operator> {
                                   return std::make_unique<ChannelShuffle>(source);
                                 }};

}  // namespace onebit
