#include "convolutions/code_conv.h"

#include <algorithm>

#include "base/require.h"

namespace onebit {
namespace {

constexpr int64_t kLanes = static_cast<int64_t>(kCodeLanes);
constexpr int64_t kTile = 48;  // pixels computed before the step behind them, while they are in cache
constexpr int kZero = 128;     // the byte of code 0

}  // namespace

CodeConv::CodeConv(const CodeWeights& w, Isa isa)
    : window_(w.window), in_(w.in), out_(w.out), kernel_(select_codes(isa)), quantize_(select_quantize(isa)) {
  require(takes(in_) && out_ >= 1, "convolution of codes: the channels do not fit");
  taps_ = window_.rows.kernel * window_.columns.kernel;
  words_ = (in_ + 3) / 4;
  blocks_ = (out_ + kLanes - 1) / kLanes;
  require(static_cast<int64_t>(w.codes.size()) == out_ * in_ * taps_ && static_cast<int64_t>(w.scale.size()) == out_ &&
              (w.bias.empty() || static_cast<int64_t>(w.bias.size()) == out_),
          "convolution of codes: the arrays have the wrong sizes");
  packed_ = Buffer<int8_t>(blocks_ * taps_ * words_ * kLanes * 4);
  starts_ = Buffer<int32_t>(blocks_ * taps_ * kLanes);
  scale_ = Buffer<float>(blocks_ * kLanes);
  bias_ = Buffer<float>(blocks_ * kLanes);
  std::copy(w.scale.begin(), w.scale.end(), scale_.data());
  std::copy(w.bias.begin(), w.bias.end(), bias_.data());
  const int8_t* from = w.codes.data();
  for (int64_t o = 0; o < out_; ++o) {
    const int64_t first = o / kLanes * taps_, lane = o % kLanes;
    for (int64_t c = 0; c < in_; ++c) {
      for (int64_t tap = first; tap < first + taps_; ++tap) {
        const int8_t code = *from++;
        packed_[((tap * words_ + c / 4) * kLanes + lane) * 4 + c % 4] = code;
        starts_[tap * kLanes + lane] -= kZero * code;
      }
    }
  }
}

Shape CodeConv::out_shape(Shape in) const {
  require(in.c == in_, "convolution: the input has the wrong number of channels");
  require(window_.rows.fits(in.h) && window_.columns.fits(in.w), "convolution: the image is too small");
  return {window_.rows.out_size(in.h), window_.columns.out_size(in.w), out_};
}

CodeImage CodeConv::image(Shape in) const {
  const int64_t pixels = in.h * in.w;
  CodeImage image{Buffer<uint8_t>((pixels + 1) * words_ * 4), Buffer<float>(pixels + 1)};
  std::fill_n(image.codes.data() + pixels * words_ * 4, words_ * 4, kZero);
  return image;
}

void CodeConv::reserve(CodeScratch& scratch) const {
  const size_t places = taps_ * kTile, sums = kTile * out_;
  if (scratch.places.size() < places) scratch.places = Buffer<int32_t>(places);
  if (scratch.sums.size() < sums) scratch.sums = Buffer<float>(sums);
}

void CodeConv::pack(Shape in, const float* x, int64_t y, CodeImage& image) const {
  const int64_t first = y * in.w;
  quantize_.run(x, in.w, in_, words_ * 4, image.codes.data() + first * words_ * 4, image.scales.data() + first);
}

void CodeConv::rows(Shape in, const CodeImage& image, int64_t y, int64_t count, void (*step)(const Finish&),
                    const Finish& finish, CodeScratch& scratch) const {
  const int64_t width = window_.columns.out_size(in.w);
  if (pointwise())
    return pixels({1, in.h * in.w, in.c}, image, 0, {y * width, (y + count) * width}, step, finish, scratch);
  Finish row = finish;
  for (int64_t i = 0; i < count; ++i) {
    pixels(in, image, y + i, {0, width}, step, row, scratch);
    row.out += width * out_;
    if (row.other) row.other += width * out_;
  }
}

void CodeConv::pixels(Shape in, const CodeImage& image, int64_t y, Range range, void (*step)(const Finish&),
                      const Finish& finish, CodeScratch& scratch) const {
  const Axis &rows = window_.rows, &columns = window_.columns;
  const Range vertical = rows.valid_taps(y, in.h);  // the other rows of taps contribute 0 and are left out
  const bool apart = step && finish.other;          // it may lie where the output goes
  const int64_t none = in.h * in.w;
  CodeMultiply m;
  m.codes = image.codes.data();
  m.scales = image.scales.data();
  m.pitch = words_ * 4;
  m.places = scratch.places.data();
  m.places_step = kTile;
  m.taps = vertical.size() * columns.kernel;
  m.words = words_;
  m.weights = packed_.data() + vertical.begin * columns.kernel * words_ * kLanes * 4;
  m.weight_step = taps_ * words_ * kLanes * 4;
  m.starts = starts_.data() + vertical.begin * columns.kernel * kLanes;
  m.start_step = taps_ * kLanes;
  m.weight_scales = scale_.data();
  m.bias = bias_.data();
  m.blocks = blocks_;
  m.outputs = m.out_step = out_;
  for (int64_t at = range.begin, end; at < range.end; at = end) {
    end = std::min(at + kTile, range.end);
    int32_t* to = scratch.places.data();
    for (int64_t kh = vertical.begin; kh < vertical.end; ++kh) {
      const int64_t row = (rows.origin(y) + kh * rows.dilation) * in.w;
      for (int64_t kw = 0; kw < columns.kernel; ++kw, to += kTile) {
        for (int64_t p = at; p < end; ++p) {
          const int64_t x = columns.origin(p) + kw * columns.dilation;
          to[p - at] = static_cast<int32_t>(x >= 0 && x < in.w ? row + x : none);
        }
      }
    }
    const int64_t first = (at - range.begin) * out_;
    m.pixels = end - at;
    m.out = apart ? scratch.sums.data() : finish.out + first;
    kernel_.run(m);
    if (!step) continue;
    Finish part = finish;
    part.x = m.out;
    part.x_stride = out_;
    part.out += first;
    part.pixels = m.pixels;
    part.channels = out_;
    if (part.other) part.other += first;
    step(part);
  }
}

}  // namespace onebit
