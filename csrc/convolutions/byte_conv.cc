#include "convolutions/byte_conv.h"

#include <algorithm>
#include <utility>

#include "base/require.h"

namespace onebit {
namespace {

constexpr int64_t kLanes = static_cast<int64_t>(kByteLanes);
constexpr int64_t kTile = 48;  // pixels computed before the step behind them, while they are in cache
constexpr int64_t kMaxPadding = 64;
constexpr int64_t kExact = 1 << 24;  // integers below it are exact as floats

int64_t words_of(const Axis& columns) { return (columns.kernel + 3) / 4; }  // of 4 taps in a row

}  // namespace

bool ByteConv::takes(const Window& window, int64_t in) {
  const Axis &rows = window.rows, &columns = window.columns;
  return in >= 1 && in <= static_cast<int64_t>(kMaxByteChannels) && rows.kernel <= kExact && columns.kernel <= kExact &&
         rows.kernel * words_of(columns) <= (kExact - 1) / (4 * 128 * 255) && columns.dilation == 1 &&
         rows.padding <= kMaxPadding && columns.padding <= kMaxPadding;
}

ByteConv::ByteConv(ByteWeights weights, Isa isa) : weights_(std::move(weights)), kernel_(select_bytes(isa)) {
  const ByteWeights& w = weights_;
  const int64_t kh = w.window.rows.kernel, kw = w.window.columns.kernel;
  require(takes(w.window, w.in) && w.out >= 1, "byte convolution: the window or the channels do not fit");
  words_ = words_of(w.window.columns);
  require(static_cast<int64_t>(w.q.size()) == w.out * w.in * kh * kw &&
              static_cast<int64_t>(w.a.size()) == w.in * w.out && w.b.size() == w.a.size() &&
              static_cast<int64_t>(w.bias.size()) == w.out,
          "byte convolution: the arrays have the wrong sizes");
  blocks_ = (w.out + kLanes - 1) / kLanes;
  packed_ = Buffer<int8_t>(blocks_ * w.in * kh * words_ * kLanes * 4);
  scales_ = Buffer<float>(w.in * blocks_ * kLanes);
  const int8_t* from = w.q.data();
  for (int64_t o = 0; o < w.out; ++o) {
    for (int64_t c = 0; c < w.in; ++c) {
      scales_[c * blocks_ * kLanes + o] = w.a[c * w.out + o];
      for (int64_t y = 0; y < kh; ++y) {
        for (int64_t x = 0; x < kw; ++x) {
          const int64_t word = ((o / kLanes * w.in + c) * kh + y) * words_ + x / 4;
          packed_[(word * kLanes + o % kLanes) * 4 + x % 4] = *from++;
        }
      }
    }
  }
}

BytePlan ByteConv::plan(Shape in) const {
  const ByteWeights& w = weights_;
  const Axis &rows = w.window.rows, &columns = w.window.columns;
  require(in.c == w.in, "byte convolution: the input has the wrong number of channels");
  require(rows.fits(in.h) && columns.fits(in.w), "byte convolution: the image is too small");
  BytePlan plan;
  plan.in = in;
  plan.out = {rows.out_size(in.h), columns.out_size(in.w), w.out};
  plan.rows = in.h + 2 * rows.padding;
  plan.row_bytes = in.w + 2 * columns.padding + 3;  // a last word may reach past the last tap
  const std::vector<Range> vertical = classify(all_taps(rows, in.h, plan.out.h), plan.row_class);
  const std::vector<Range> horizontal = classify(all_taps(columns, in.w, plan.out.w), plan.column_class);
  plan.column_classes = static_cast<int64_t>(horizontal.size());
  plan.base = Buffer<float>(vertical.size() * horizontal.size() * blocks_ * kLanes);
  for (size_t i = 0; i < vertical.size() * horizontal.size(); ++i) {
    const Range v = vertical[i / horizontal.size()], h = horizontal[i % horizontal.size()];
    for (int64_t o = 0; o < w.out; ++o) {
      double base = w.bias[o];
      for (int64_t c = 0; c < w.in; ++c) {
        int64_t sum = 0;
        const int8_t* q = w.q.data() + (o * w.in + c) * rows.kernel * columns.kernel;
        for (int64_t y = v.begin; y < v.end; ++y) {
          for (int64_t x = h.begin; x < h.end; ++x) sum += q[y * columns.kernel + x];
        }
        base -= w.b[c * w.out + o] * static_cast<double>(sum);
      }
      plan.base[i * blocks_ * kLanes + o] = static_cast<float>(base);
    }
  }
  return plan;
}

void ByteConv::load(const BytePlan& plan, const uint8_t* bytes, ByteImage& image) const {
  const Axis &rows = weights_.window.rows, &columns = weights_.window.columns;
  const int64_t channels = plan.in.c;
  const size_t pixels = plan.in.w, step = plan.rows * plan.row_bytes;
  for (int64_t y = 0; y < plan.in.h; ++y, bytes += plan.in.w * channels) {
    uint8_t* to = image.data() + (rows.padding + y) * plan.row_bytes + columns.padding;
    kernel_.split({bytes, pixels, static_cast<size_t>(channels), to, step});
  }
}

void ByteConv::row(const BytePlan& plan, const ByteImage& image, int64_t y, void (*step)(const Finish&),
                   const Finish& finish, Buffer<float>& scratch) const {
  const Axis &rows = weights_.window.rows, &columns = weights_.window.columns;
  const int64_t outputs = weights_.out;
  const bool apart = step && finish.other;  // it may lie where the output goes
  ByteMultiply m;
  m.channel_step = plan.rows * plan.row_bytes;
  m.row_step = rows.dilation * plan.row_bytes;
  m.step = columns.stride;
  m.channels = weights_.in;
  m.rows = rows.kernel;
  m.words = words_;
  m.weights = packed_.data();
  m.scales = scales_.data();
  m.blocks = blocks_;
  m.outputs = m.out_step = outputs;
  if (apart && static_cast<int64_t>(scratch.size()) < kTile * outputs) scratch = Buffer<float>(kTile * outputs);
  m.base = plan.base.data() + plan.row_class[y] * plan.column_classes * blocks_ * kLanes;
  for (int64_t at = 0, end; at < plan.out.w; at = end) {
    end = std::min(at + kTile, plan.out.w);
    m.bytes = image.data() + y * rows.stride * plan.row_bytes + at * columns.stride;
    m.classes = plan.column_class.data() + at;
    m.pixels = end - at;
    m.out = apart ? scratch.data() : finish.out + at * outputs;
    kernel_.run(m);
    if (!step) continue;
    Finish part = finish;
    part.x = apart ? scratch.data() : finish.out + at * outputs;
    part.x_stride = outputs;
    part.out += at * outputs;
    part.pixels = end - at;
    part.channels = outputs;
    if (part.other) part.other += at * outputs;
    step(part);
  }
}

}  // namespace onebit
