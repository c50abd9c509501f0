#include "convolutions/binary_conv.h"

#include <algorithm>
#include <utility>

#include "base/bits.h"
#include "base/require.h"

namespace onebit {
namespace {

constexpr int64_t kLanes = static_cast<int64_t>(kBinaryLanes);
constexpr int64_t kMaxPadding = 8;  // pixels that are stored: more would waste memory
constexpr int64_t kMaxTaps = 64;
constexpr int64_t kMaxExpanded = 1 << 16;  // channels: a pixel of padding takes as many bytes
constexpr size_t kMaxTable = size_t{1} << 26;

// n ones, n < 32.
uint32_t low_mask(int64_t n) { return (uint32_t{1} << n) - 1; }

int64_t count_bits(const uint64_t* words, int64_t begin, int64_t n) {
  int64_t count = 0;
  for (; n > 0; n -= kWordBits, begin += kWordBits) {
    uint64_t value = read_bits(words, begin);
    if (n < kWordBits) value = low_bits(value, n);
    count += popcount(value);
  }
  return count;
}

}  // namespace

BinaryConv::BinaryConv(BinaryWeights weights, Isa isa, const ProductKernel* product)
    : weights_(std::move(weights)), pack_(select_pack(isa)), count_(select_count(isa)), steps_(select_steps(isa)) {
  const BinaryWeights& w = weights_;
  const int64_t kh = w.window.rows.kernel, kw = w.window.columns.kernel;
  require(kh >= 1 && kw >= 1 && w.in >= 1 && w.out >= 1 && w.groups >= 1, "binary convolution: sizes must be positive");
  require(w.in % w.groups == 0 && w.out % w.groups == 0, "binary convolution: groups must divide the channels");
  group_in_ = w.in / w.groups;
  group_out_ = w.out / w.groups;
  require(kh <= 1 << 15 && kw <= 1 << 15 && w.in <= 1 << 24 && kh * kw <= (1 << 24) / group_in_,
          "binary convolution: more than 2^24 products per output");
  const int64_t products = kh * kw * group_in_, row_bytes = bytes_for(products);
  require(static_cast<int64_t>(w.bits.size()) == w.out * row_bytes, "binary convolution: bits have the wrong size");
  require(w.channels.size() == static_cast<size_t>(2 * w.out) || w.channels.size() == static_cast<size_t>(3 * w.out),
          "binary convolution: channels must be (2 or 3, O)");
  require(static_cast<int64_t>(w.levels.size()) == (w.threshold == Threshold::channel ? w.in : 1),
          "binary convolution: thresholds have the wrong size");
  words_ = words_for(products);
  contiguous_ = w.groups == 1 && w.window.columns.dilation == 1;
  padded_ = w.groups == 1 && w.window.rows.padding <= kMaxPadding && w.window.columns.padding <= kMaxPadding;
  direct_ = padded_ && (w.in % 32 == 0 || (w.in % 8 == 0 && contiguous_));
  // The window as `runs` of bits that begin with a new word.
  const int64_t runs = direct_ ? kh : 1, run_bits = products / runs, run_words = (run_bits + 31) / 32;
  row_words_ = run_words;
  lane_words_ = runs * run_words;
  blocks_ = (group_out_ + kLanes - 1) / kLanes;
  for (int64_t k = 0; k < lane_words_; ++k) gathered_.push_back(4 * k);
  if (direct_ && run_bits % 32) {
    for (int64_t k = 1; k <= lane_words_; ++k) masks_.push_back(k % run_words ? ~uint32_t{0} : low_mask(run_bits % 32));
  }
  if (product && padded_ && w.in % static_cast<int64_t>(kProductRun) == 0 && w.in <= kMaxExpanded) {
    product_.emplace(w.bits, w.window, w.in, w.out, *product);
    return;
  }
  packed_ = Buffer<uint32_t>(w.groups * blocks_ * lane_words_ * kLanes);
  std::vector<uint32_t> row(run_words);
  for (int64_t o = 0; o < w.out; ++o) {
    const int64_t group = o / group_out_, block = o % group_out_ / kLanes, lane = o % group_out_ % kLanes;
    uint32_t* to = packed_.data() + (group * blocks_ + block) * lane_words_ * kLanes + lane;
    for (int64_t run = 0; run < runs; ++run) {  // of whole bytes, or the only one
      row.back() = 0;
      std::memcpy(row.data(), w.bits.data() + o * row_bytes + run * run_bits / 8, bytes_for(run_bits));
      if (run_bits % 32) row.back() &= low_mask(run_bits % 32);
      for (int64_t k = 0; k < run_words; ++k, to += kLanes) *to = row[k];
    }
  }
}

Shape BinaryConv::out_shape(Shape in) const {
  const Window& window = weights_.window;
  require(in.c == weights_.in, "binary convolution: the input has the wrong number of channels");
  require(window.rows.fits(in.h) && window.columns.fits(in.w), "binary convolution: the image is too small");
  return {window.rows.out_size(in.h), window.columns.out_size(in.w), weights_.out};
}

BinaryPlan BinaryConv::plan(Shape in) const {
  const BinaryWeights& w = weights_;
  BinaryPlan plan;
  plan.in = in;
  plan.out = out_shape(in);
  const Axis &vertical_axis = w.window.rows, &horizontal_axis = w.window.columns;
  plan.rows = in.h;
  plan.row_words = words_for(in.w * in.c) + 1;
  if (direct_) {
    // The first pixel starts at a whole word; a partial word before it belongs to nobody.
    plan.top = vertical_axis.padding;
    plan.rows += 2 * plan.top;
    plan.lead_words = words_for(horizontal_axis.padding * in.c);
    plan.row_words += 2 * plan.lead_words;
    const int64_t before = plan.lead_words * 8 - horizontal_axis.padding * in.c / 8;  // bytes
    const int64_t tap_words = w.in % 32 ? row_words_ : w.in / 32, tap = horizontal_axis.dilation * in.c / 8;
    for (int64_t k = 0; k < lane_words_; ++k) {
      const int64_t line = k / row_words_ * vertical_axis.dilation * plan.row_words * 8, word = k % row_words_;
      plan.offsets.push_back(before + line + word / tap_words * tap + word % tap_words * 4);
    }
  }
  if (product_) plan.product = product_->plan(in, plan.out);
  plan.row_taps = all_taps(w.window.rows, in.h, plan.out.h);
  plan.column_taps = all_taps(w.window.columns, in.w, plan.out.w);
  const std::vector<Range> rows = classify(plan.row_taps, plan.row_class);
  const std::vector<Range> columns = classify(plan.column_taps, plan.column_class);
  if (in.w == 1 && pointwise()) plan.column_class.resize(kTile);
  plan.inside = horizontal_axis.inside(in.w, plan.out.w);
  plan.column_classes = static_cast<int64_t>(columns.size());
  const size_t classes = rows.size() * columns.size();
  require(classes <= kMaxTable / w.out,
          "binary convolution: kernel, padding and outputs need tables above 2^26 numbers");
  plan.base = Buffer<int32_t>(classes * w.out);
  plan.shifted = Buffer<float>(classes * w.out);
  if (w.threshold == Threshold::channel) {
    for (int64_t x = 0; x < in.w; ++x) plan.levels.insert(plan.levels.end(), w.levels.begin(), w.levels.end());
  }

  const int64_t kw = w.window.columns.kernel, products = w.window.rows.kernel * kw * group_in_;
  const int64_t row_bytes = kw * group_in_ / 8, last = row_bytes - (row_bytes + 7) / 8 * 8 + 8;  // 1 to 8 bytes
  plan.whole_words = contiguous_ && group_in_ % 8 == 0 && words_ * 8 - (products / 8 - last) >= 8;
  std::vector<uint64_t> row(words_ + 1);  // one output's weights, with a word of slack for read_bits
  // ones[y·(KW + 1) + x]: 1 bits of the taps above y and left of x, so that a class costs four additions.
  const int64_t kh = w.window.rows.kernel;
  std::vector<int64_t> ones((kh + 1) * (kw + 1));
  const auto at = [&](int64_t y, int64_t x) { return ones[y * (kw + 1) + x]; };
  for (int64_t o = 0; o < w.out; ++o) {
    std::memcpy(row.data(), w.bits.data() + o * bytes_for(products), bytes_for(products));
    for (int64_t y = 0; y < kh; ++y) {
      for (int64_t x = 0; x < kw; ++x) {
        ones[(y + 1) * (kw + 1) + x + 1] =
            at(y, x + 1) + at(y + 1, x) - at(y, x) + count_bits(row.data(), (y * kw + x) * group_in_, group_in_);
      }
    }
    for (size_t i = 0; i < classes; ++i) {
      const Range vertical = rows[i / columns.size()], horizontal = columns[i % columns.size()];
      const int64_t n = vertical.size() * horizontal.size() * group_in_;
      const int64_t valid_ones = at(vertical.end, horizontal.end) - at(vertical.begin, horizontal.end) -
                                 at(vertical.end, horizontal.begin) + at(vertical.begin, horizontal.begin);
      if (o == 0) {
        plan.products.push_back(static_cast<float>(n));
        plan.shifts.push_back(static_cast<float>(w.shift * static_cast<double>(n)));
      }
      plan.base[i * w.out + o] = static_cast<int32_t>(n + 2 * (ones.back() - valid_ones));
      plan.shifted[i * w.out + o] = static_cast<float>(w.shift * static_cast<double>(n - 2 * valid_ones));
    }
  }
  return plan;
}

void BinaryConv::reserve(const BinaryPlan& plan, BinaryScratch& scratch) const {
  const auto grow = [](auto& buffer, int64_t size) {
    if (static_cast<int64_t>(buffer.size()) < size) buffer = std::decay_t<decltype(buffer)>(size);
  };
  grow(scratch.ones, kTile);
  grow(scratch.sums, kTile);
  if (product_) return product_->reserve(plan.product, scratch.product);
  grow(scratch.windows, kTile * words_);
  grow(scratch.counts, kTile * blocks_ * kLanes);
}

float BinaryConv::mean(const BinaryPlan& plan, const float* x) const {
  std::vector<double> sums(plan.in.c);
  steps_.channel_sums(x, sums.data(), plan.in.h * plan.in.w, plan.in.c);
  double total = 0;
  for (double sum : sums) total += sum;
  return static_cast<float>(total / static_cast<double>(plan.in.elements()));
}

BitImage BinaryConv::image(const BinaryPlan& plan) const {
  BitImage image;
  image.bits = Buffer<uint64_t>(plan.rows * plan.row_words);
  if (padded_ && with_offset()) {
    image.ones = Buffer<float>((plan.in.h + 2 * weights_.window.rows.padding) * padded_width(plan.in.w));
  }
  image.bytes = Buffer<uint8_t>(plan.product.size);
  return image;
}

void BinaryConv::pack(const BinaryPlan& plan, const float* x, int64_t y, float mean, BitImage& image) const {
  const bool per_channel = weights_.threshold == Threshold::channel;
  const float* levels = per_channel ? plan.levels.data() : needs_mean() ? &mean : weights_.levels.data();
  uint64_t* row = image.bits.data() + (plan.top + y) * plan.row_words + plan.lead_words;
  pack_.run(x, levels, per_channel ? 1 : 0, plan.in.w * plan.in.c, row);
  if (product_) product_->pack(plan.product, row, y, image.bytes);
  if (image.ones.size() == 0) return;
  const int64_t at = (weights_.window.rows.padding + y) * padded_width(plan.in.w) + weights_.window.columns.padding;
  pack_.ones(row, plan.in.w, plan.in.c, image.ones.data() + at);
}

void BinaryConv::gather_bits(const BinaryPlan& plan, const uint64_t* bits, int64_t y, int64_t x, int64_t group,
                             uint64_t* window) const {
  const Axis &rows = weights_.window.rows, &columns = weights_.window.columns;
  const Range vertical = plan.row_taps[y], horizontal = plan.column_taps[x];
  const int64_t run = contiguous_ ? horizontal.size() : 1;  // taps copied at once
  BitWriter writer(window);
  writer.zeros(vertical.begin * columns.kernel * group_in_);
  for (int64_t kh = vertical.begin; kh < vertical.end; ++kh) {
    const uint64_t* row = bits + (rows.origin(y) + kh * rows.dilation) * plan.row_words;
    writer.zeros(horizontal.begin * group_in_);
    for (int64_t kw = horizontal.begin; kw < horizontal.end; kw += run) {
      const int64_t pixel = columns.origin(x) + kw * columns.dilation;
      writer.copy(row, pixel * weights_.in + group * group_in_, run * group_in_);
    }
    writer.zeros((columns.kernel - horizontal.end) * group_in_);
  }
  writer.zeros((rows.kernel - vertical.end) * columns.kernel * group_in_);
  writer.finish();
}

void BinaryConv::gather_bytes(const BinaryPlan& plan, const uint64_t* bits, int64_t y, int64_t x, int64_t group,
                              uint64_t* window) const {
  const Axis &rows = weights_.window.rows, &columns = weights_.window.columns;
  const Range vertical = plan.row_taps[y], horizontal = plan.column_taps[x];
  const int64_t tap = group_in_ / 8;                        // bytes
  const int64_t run = contiguous_ ? horizontal.size() : 1;  // taps copied at once
  std::fill_n(window, words_, 0);
  for (int64_t kh = vertical.begin; kh < vertical.end; ++kh) {
    const char* row = reinterpret_cast<const char*>(bits + (rows.origin(y) + kh * rows.dilation) * plan.row_words);
    char* to = reinterpret_cast<char*>(window) + kh * columns.kernel * tap;
    for (int64_t kw = horizontal.begin; kw < horizontal.end; kw += run) {
      const int64_t pixel = columns.origin(x) + kw * columns.dilation;
      std::memcpy(to + kw * tap, row + pixel * (weights_.in / 8) + group * tap, run * tap);
    }
  }
}

void BinaryConv::gather_inside(const BinaryPlan& plan, const uint64_t* bits, int64_t y, int64_t x, int64_t pixels,
                               uint64_t* windows) const {
  const Axis &rows = weights_.window.rows, &columns = weights_.window.columns;
  const int64_t tap = group_in_ / 8, row_bytes = columns.kernel * tap;  // bytes
  const int64_t step = columns.stride * tap, window_step = words_ * 8;  // bytes from pixel to pixel
  for (int64_t p = 0; p < pixels; ++p) windows[p * words_ + words_ - 1] = 0;
  for (int64_t kh = 0; kh < rows.kernel; ++kh) {
    const char* row = reinterpret_cast<const char*>(bits + (rows.origin(y) + kh * rows.dilation) * plan.row_words);
    for (int64_t at = 0; at < row_bytes; at += 8) {
      const char* from = row + columns.origin(x) * tap + at;
      char* to = reinterpret_cast<char*>(windows) + kh * row_bytes + at;
      const uint64_t mask = row_bytes - at < 8 ? low_bits(~uint64_t{0}, 8 * (row_bytes - at)) : ~uint64_t{0};
      for (int64_t p = 0; p < pixels; ++p, from += step, to += window_step) {
        uint64_t word;
        std::memcpy(&word, from, 8);
        word &= mask;
        std::memcpy(to, &word, 8);
      }
    }
  }
}

void BinaryConv::gather(const BinaryPlan& plan, const uint64_t* bits, int64_t y, Range pixels, int64_t group,
                        uint64_t* windows) const {
  const bool whole_rows = plan.row_taps[y].size() == weights_.window.rows.kernel;
  for (int64_t x = pixels.begin; x < pixels.end; ++x) {
    uint64_t* window = windows + (x - pixels.begin) * words_;
    if (plan.whole_words && whole_rows && x >= plan.inside.begin && x < plan.inside.end) {
      const int64_t end = std::min(pixels.end, plan.inside.end);
      gather_inside(plan, bits, y, x, end - x, window);
      x = end - 1;
    } else if (group_in_ % 8 == 0) {
      gather_bytes(plan, bits, y, x, group, window);
    } else {
      gather_bits(plan, bits, y, x, group, window);
    }
  }
}

void BinaryConv::row(const BinaryPlan& plan, const BitImage& image, int64_t y, int64_t rows_of, Step step,
                     const Finish& finish, BinaryScratch& scratch, int32_t* accumulators) const {
  const Axis &rows = weights_.window.rows, &columns = weights_.window.columns;
  Count count;
  count.words = lane_words_;
  count.masks = masks_.empty() ? nullptr : masks_.data();
  count.blocks = blocks_;
  count.counts = scratch.counts.data();
  const bool strip = rows_of > 1;  // pixels are one above the other
  const int64_t width = strip ? rows_of : plan.out.w;
  for (int64_t group = 0; group < weights_.groups; ++group) {
    for (int64_t x = 0; x < width; x += kTile) {
      const int64_t pixels = std::min(kTile, width - x);
      const int32_t* counts = count.counts;
      if (product_) {
        counts = product_->row(plan.product, scratch.product, y) + x * blocks_ * kLanes;
      } else {
        count.pixels = pixels;
        count.weights = packed_.data() + group * blocks_ * lane_words_ * kLanes;
        if (direct_) {
          count.step = strip ? plan.row_words * 8 : columns.stride * plan.in.c / 8;
          count.bits = reinterpret_cast<const char*>(image.bits.data() + y * rows.stride * plan.row_words);
          count.bits += x * count.step;
          count.offsets = plan.offsets.data();
        } else {
          gather(plan, image.bits.data(), y, {x, x + pixels}, group, scratch.windows.data());
          count.bits = reinterpret_cast<const char*>(scratch.windows.data());
          count.step = words_ * 8;
          count.offsets = gathered_.data();
        }
        count_.run(count);
      }
      if (with_offset()) window_ones(plan, image, y, {x, x + pixels}, scratch);
      dequantize(plan, y, x, pixels, group, step, finish, counts, scratch, accumulators);
    }
  }
}

void BinaryConv::window_ones(const BinaryPlan& plan, const BitImage& image, int64_t y, Range pixels,
                             BinaryScratch& scratch) const {
  const Axis &rows = weights_.window.rows, &columns = weights_.window.columns;
  float* ones = scratch.ones.data();
  if (image.ones.size() == 0) {
    for (int64_t p = 0; p < pixels.size(); ++p) {
      ones[p] = static_cast<float>(count_bits(scratch.windows.data() + p * words_, 0, words_ * kWordBits));
    }
    return;
  }
  const int64_t width = padded_width(plan.in.w);
  const auto tap = [&](int64_t kh, int64_t kw) {
    return image.ones.data() + (y * rows.stride + kh * rows.dilation) * width + pixels.begin * columns.stride +
           kw * columns.dilation;
  };
  if (columns.stride == 1 && rows.kernel * columns.kernel <= kMaxTaps) {
    const float* taps[kMaxTaps];
    size_t count = 0;
    for (int64_t kh = 0; kh < rows.kernel; ++kh) {
      for (int64_t kw = 0; kw < columns.kernel; ++kw) taps[count++] = tap(kh, kw);
    }
    steps_.sum({taps, count, 0, 1, static_cast<size_t>(pixels.size())}, ones);
    return;
  }
  std::fill_n(ones, pixels.size(), 0.0f);
  for (int64_t kh = 0; kh < rows.kernel; ++kh) {
    for (int64_t kw = 0; kw < columns.kernel; ++kw) {
      const float* from = tap(kh, kw);
      for (int64_t p = 0; p < pixels.size(); ++p) ones[p] += from[p * columns.stride];
    }
  }
}

void BinaryConv::dequantize(const BinaryPlan& plan, int64_t y, int64_t x, int64_t pixels, int64_t group, Step step,
                            const Finish& finish, const int32_t* counts, BinaryScratch& scratch,
                            int32_t* accumulators) const {
  const int64_t outputs = weights_.out, stride = blocks_ * kLanes;
  const int64_t row_class = plan.row_class[y] * plan.column_classes;
  const float* scale = weights_.channels.data() + group * group_out_;
  const int64_t at = x * outputs + group * group_out_;
  Dequantize d;
  d.counts = counts;
  d.count_stride = stride;
  d.classes = plan.column_class.data() + x;
  d.base = plan.base.data() + row_class * outputs + group * group_out_;
  d.shifted = plan.shifted.data() + row_class * outputs + group * group_out_;
  d.class_stride = outputs;
  d.scale = scale;
  d.bias = scale + outputs;
  d.offset = with_offset() ? scale + 2 * outputs : nullptr;
  d.window = scratch.sums.data();
  if (with_offset()) {
    for (int64_t begin = 0, end; begin < pixels; begin = end) {  // of one class, which most pixels are
      end = begin + 1;
      while (end < pixels && d.classes[end] == d.classes[begin]) ++end;
      const float products = plan.products[row_class + d.classes[begin]];
      const float shift = plan.shifts[row_class + d.classes[begin]];
      const float* ones = scratch.ones.data();
      float* sums = scratch.sums.data();
      for (int64_t p = begin; p < end; ++p) sums[p] = (products - 2.0f * ones[p]) + shift;  // A·1 (exact) + shift·N
    }
  }
  d.finish = finish;
  d.finish.pixels = pixels;
  d.finish.channels = group_out_;
  d.finish.out += at;
  if (finish.other) d.finish.other += at;
  if (finish.params) d.finish.params += group * group_out_;
  steps_.dequantize[static_cast<int>(step)](d);
  if (!accumulators) return;
  for (int64_t p = 0; p < pixels; ++p) {
    const int32_t* base = d.base + d.classes[p] * outputs;
    for (int64_t o = 0; o < group_out_; ++o)
      accumulators[at + p * outputs + o] = base[o] - 2 * d.counts[p * stride + o];
  }
}

}  // namespace onebit
