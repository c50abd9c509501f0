#include "convolutions/binary_attention.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/bits.h"

namespace onebit {
namespace {

constexpr int64_t kLanes = static_cast<int64_t>(kBinaryLanes), kWord = 32;
constexpr int64_t kTile = 32;             // rows of q at once
constexpr int64_t kMaxScratch = 1 << 20;  // floats of what is computed at once, unless one row has more
constexpr float kLeastLevel = 1e-11f, kLeastEntry = 1e-12f;  // of the table: less is left out of sums of 1 and more
constexpr float kMostWhole = 40;                             // of scale·d: floats hold e^40 and e^-40
constexpr float kMostSlack = 1.0f / 16;

int64_t blocks_of(int64_t outputs) { return (outputs + kLanes - 1) / kLanes; }
int64_t words_of(int64_t bits) { return (bits + kWord - 1) / kWord; }
int64_t tile_of(int64_t lanes) { return std::clamp<int64_t>(kMaxScratch / lanes, 1, kTile); }

template <typename T>
void grow(Buffer<T>& buffer, int64_t size) {
  if (static_cast<int64_t>(buffer.size()) < size) buffer = Buffer<T>(size);
}

// Bits [begin, end) of a row as words of 32 bits, the first of which goes to *to, the next `step` words further on.
void take(const uint64_t* row, int64_t begin, int64_t end, bool turned, int64_t step, uint32_t* to) {
  for (int64_t at = begin; at < end; at += kWord, to += step) {
    const uint64_t n = static_cast<uint64_t>(std::min(end - at, kWord));
    const uint64_t bits = row[at / 64] >> at % 64 | (at % 64 > 32 ? row[at / 64 + 1] << (64 - at % 64) : 0);
    *to = static_cast<uint32_t>(low_bits(turned ? ~bits : bits, n));
  }
}

// Bit j of word i becomes bit i of word j.
void transpose(uint32_t (&words)[kWord]) {
  uint32_t mask = 0xffffu;
  for (int step = 16; step; step /= 2, mask ^= mask << step) {
    for (int i = 0; i < kWord; i = (i + step + 1) & ~step) {
      const uint32_t swapped = (words[i] >> step ^ words[i + step]) & mask;
      words[i] ^= swapped << step;
      words[i + step] ^= swapped;
    }
  }
}

}  // namespace

BinaryAttention::BinaryAttention(BinaryAttentionWeights weights, Isa isa)
    : weights_(std::move(weights)),
      turned_(weights_.scale < 0),
      depth_(static_cast<int64_t>(weights_.query.size()) / weights_.heads),
      words_(words_of(depth_)),
      outputs_(static_cast<int64_t>(weights_.value.size()) / weights_.heads),
      pack_(select_pack(isa)),
      count_(select_count(isa)),
      choose_(select_choose(isa)),
      attend_(select_attend(isa)),
      steps_(select_steps(isa)) {
  weights_.scale = std::fabs(weights_.scale);
  for (int64_t k = 0; k < std::max(words_, words_of(int64_t{1} << 15)); ++k) offsets_.push_back(4 * k);
  if (!weights_.softmax) {
    const auto chosen = [&](int64_t n) {
      return weights_.scale * static_cast<float>(depth_ - 2 * n) >= weights_.level;
    };
    while (limit_ <= depth_ && chosen(limit_)) ++limit_;
    return;
  }
  const double each = 2.0 * static_cast<double>(weights_.scale);
  std::vector<float> table;
  for (int64_t j = 0; j <= depth_; ++j) {
    const float value = static_cast<float>(std::exp(-each * static_cast<double>(j)));
    if (value < kLeastEntry) break;
    table.push_back(j ? std::min(value, table.back()) : value);
  }
  entries_ = static_cast<int64_t>(table.size());
  constexpr int64_t kStep = static_cast<int64_t>(kTableStep);
  table_ = Buffer<float>((entries_ + kStep - 1) / kStep * kStep);
  std::copy(table.begin(), table.end(), table_.data());
  const bool held = weights_.scale * static_cast<float>(depth_) <= kMostWhole;
  if (!attend_ || !held || depth_ >= static_cast<int64_t>(kTableRoom) || weights_.level < kLeastLevel) return;
  whole_table_ = Buffer<float>(kTableRoom);
  for (int64_t n = 0; n <= depth_; ++n) {
    const double from_middle = static_cast<double>(n) - static_cast<double>(depth_) / 2;
    whole_table_[n] = static_cast<float>(std::exp(-each * from_middle));
  }
}

int64_t BinaryAttention::band(Shape q, Shape v) const { return std::clamp<int64_t>(kMaxScratch / v.c, 1, q.h); }

void BinaryAttention::reserve(Shape q, Shape k, Shape v, BinaryAttentionScratch& scratch) const {
  const int64_t heads = weights_.heads, of_keys = blocks_of(k.h), of_values = blocks_of(outputs_);
  const int64_t lanes = std::max(of_keys, of_values) * kLanes, tile = tile_of(lanes);
  grow(scratch.row, std::max(words_for(k.c), kWord * words_for(v.c)) + 1);
  grow(scratch.keys, heads * of_keys * words_ * kLanes);
  grow(scratch.values, heads * of_values * words_of(k.h) * kLanes);
  grow(scratch.ones, heads * of_values * kLanes);
  grow(scratch.queries, tile * heads * words_);
  grow(scratch.chosen, tile * words_of(k.h));
  grow(scratch.unsure, tile);
  grow(scratch.counts, tile * lanes);
  grow(scratch.there, k.h);
  grow(scratch.scores, k.h);
  grow(scratch.exponentials, k.h);
  grow(scratch.sums, band(q, v) * v.c);
}

void BinaryAttention::pack_keys(const Map& k, int64_t count, BinaryAttentionScratch& scratch) const {
  const int64_t blocks = blocks_of(count), channels = depth_ * weights_.heads;
  uint64_t* const row = scratch.row.data();
  for (int64_t j = 0; j < count; ++j) {
    pack_.run(k.at(scratch.there[j]), weights_.key.data(), 1, channels, row);
    for (int64_t head = 0; head < weights_.heads; ++head) {
      uint32_t* to = scratch.keys.data() + (head * blocks + j / kLanes) * words_ * kLanes + j % kLanes;
      take(row, head * depth_, (head + 1) * depth_, false, kLanes, to);
    }
  }
}

void BinaryAttention::pack_values(const Map& v, int64_t count, BinaryAttentionScratch& scratch) const {
  const int64_t channels = outputs_ * weights_.heads, words = words_of(count), blocks = blocks_of(outputs_);
  const int64_t row_words = words_for(channels);
  for (int64_t word = 0; word < words; ++word) {
    const int64_t begin = word * kWord, keys = std::min(count - begin, kWord);
    for (int64_t j = 0; j < keys; ++j) {
      uint64_t* const row = scratch.row.data() + j * row_words;
      pack_.run(v.at(scratch.there[begin + j]), weights_.value.data(), 1, channels, row);
    }
    for (int64_t at = 0; at < channels; at += kWord) {
      uint32_t square[kWord] = {};
      for (int64_t j = 0; j < keys; ++j) {
        square[j] = static_cast<uint32_t>(scratch.row[j * row_words + at / 64] >> at % 64);
      }
      transpose(square);
      for (int64_t i = 0; i < std::min(channels - at, kWord); ++i) {
        const int64_t head = (at + i) / outputs_, c = (at + i) % outputs_;
        scratch.values[((head * blocks + c / kLanes) * words + word) * kLanes + c % kLanes] = square[i];
      }
    }
  }
  Count c;  // of bits that differ from none
  std::fill_n(scratch.chosen.data(), words, 0);
  c.bits = reinterpret_cast<const char*>(scratch.chosen.data());
  c.step = 0;
  c.offsets = offsets_.data();
  c.masks = nullptr;
  c.words = words;
  c.pixels = 1;
  c.blocks = blocks;
  for (int64_t head = 0; head < weights_.heads; ++head) {
    c.weights = scratch.values.data() + head * blocks * words * kLanes;
    c.counts = scratch.ones.data() + head * blocks * kLanes;
    count_.run(c);
  }
}

void BinaryAttention::pack_query(const float* q, uint32_t* words, BinaryAttentionScratch& scratch) const {
  pack_.run(q, weights_.query.data(), 1, depth_ * weights_.heads, scratch.row.data());
  for (int64_t head = 0; head < weights_.heads; ++head, words += words_) {
    take(scratch.row.data(), head * depth_, (head + 1) * depth_, turned_, 1, words);
  }
}

void BinaryAttention::choose(const int32_t* counts, int64_t count, BinaryAttentionScratch& scratch,
                             uint32_t* bits) const {
  const float level = weights_.level;
  if (!weights_.softmax) return choose_.below(counts, count, limit_, bits);
  if (level <= 0) return choose_.below(counts, count, INT32_MAX, bits);  // no p is less
  if (level >= kLeastLevel && slack(count) <= kMostSlack) {
    const Weighed found = choose_.sum(counts, count, table_.data(), entries_);
    const float bound = level * found.sum, low = bound * (1 - slack(count)), high = bound * (1 + slack(count));
    int32_t limit = 0;
    while (limit < entries_ && table_[limit] >= high) ++limit;
    if (limit == entries_ || table_[limit] < low) return choose_.below(counts, count, found.least + limit, bits);
  }
  float* const scores = scratch.scores.data();
  for (int64_t u = 0; u < count; ++u) scores[u] = weights_.scale * static_cast<float>(depth_ - 2 * counts[u]);
  steps_.softmax(scores, count, scratch.exponentials.data(), scores);
  std::fill_n(bits, words_of(count), 0);
  for (int64_t u = 0; u < count; ++u) bits[u / kWord] |= static_cast<uint32_t>(scores[u] >= level) << u % kWord;
}

void BinaryAttention::run(const Map& q, Shape k_shape, const Map& k, Shape v_shape, const Map& v, const float* mask,
                          Range rows, BinaryAttentionScratch& scratch) const {
  int64_t count = 0;
  for (int64_t u = 0; u < k_shape.h; ++u) {
    if (!mask || mask[u] != 0) scratch.there[count++] = u;
  }
  scratch.first = rows.begin;
  if (count == 0) {
    std::fill_n(scratch.sums.data(), rows.size() * v_shape.c, weights_.factor * 0.0f);
    return;
  }
  pack_keys(k, count, scratch);
  pack_values(v, count, scratch);
  const int64_t heads = weights_.heads, of_values = blocks_of(outputs_);
  const int64_t tile = tile_of(std::max(blocks_of(k_shape.h), of_values) * kLanes);
  Attend a;
  a.step = heads * words_;
  a.words = words_;
  a.keys_count = count;
  a.table = whole_table_.data();
  a.level = weights_.level;
  a.slack = slack(count);
  a.factor = weights_.factor;
  a.outputs = outputs_;
  a.out_step = v_shape.c;
  a.unsure = scratch.unsure.data();
  for (int64_t begin = rows.begin, end; begin < rows.end; begin = end) {
    end = std::min(begin + tile, rows.end);
    a.count = end - begin;
    for (int64_t t = begin; t < end; ++t) {
      pack_query(q.at(t), scratch.queries.data() + (t - begin) * heads * words_, scratch);
    }
    for (int64_t head = 0; head < heads; ++head) {
      a.queries = scratch.queries.data() + head * words_;
      a.keys = scratch.keys.data() + head * blocks_of(count) * words_ * kLanes;
      a.values = scratch.values.data() + head * of_values * words_of(count) * kLanes;
      a.ones = scratch.ones.data() + head * of_values * kLanes;
      a.out = scratch.sums.data() + (begin - rows.begin) * v_shape.c + head * outputs_;
      attend(a, scratch);
    }
  }
}

void BinaryAttention::attend(const Attend& a, BinaryAttentionScratch& scratch) const {
  const bool fits = a.keys_count <= kMaxKeys && a.slack <= kMostSlack;
  if (whole_table_.size() == 0 || !fits) return attend_slowly(a, scratch);
  attend_->run(a);
  for (size_t t = 0; t < a.count; ++t) {
    if (!a.unsure[t]) continue;
    Attend one = a;
    one.queries += t * a.step;
    one.out += t * a.out_step;
    one.count = 1;
    attend_slowly(one, scratch);
  }
}

void BinaryAttention::attend_slowly(const Attend& a, BinaryAttentionScratch& scratch) const {
  const size_t keys = a.keys_count;
  const int64_t of_keys = blocks_of(keys), of_values = blocks_of(outputs_), words = words_of(keys);
  Count c;
  c.bits = reinterpret_cast<const char*>(a.queries);
  c.step = a.step * 4;
  c.offsets = offsets_.data();
  c.masks = nullptr;
  c.words = a.words;
  c.pixels = a.count;
  c.weights = a.keys;
  c.blocks = of_keys;
  c.counts = scratch.counts.data();
  count_.run(c);
  for (size_t t = 0; t < a.count; ++t) {
    choose(c.counts + t * of_keys * kLanes, keys, scratch, scratch.chosen.data() + t * words);
  }
  c.bits = reinterpret_cast<const char*>(scratch.chosen.data());
  c.step = words * 4;
  c.words = words;
  c.weights = a.values;
  c.blocks = of_values;
  count_.run(c);
  for (size_t t = 0; t < a.count; ++t) {
    const int32_t* counts = c.counts + t * of_values * kLanes;
    float* y = a.out + t * a.out_step;
    for (int64_t i = 0; i < outputs_; ++i) y[i] = a.factor * static_cast<float>(counts[i] - a.ones[i]);
  }
}

}  // namespace onebit
