#include "convolutions/attention.h"

#include <algorithm>

namespace onebit {
namespace {

constexpr int64_t kLanes = static_cast<int64_t>(kFloatLanes);
constexpr int64_t kTile = 48;             // rows computed at once
constexpr int64_t kMaxScratch = 1 << 20;  // floats of what is computed at once, unless one row has more

int64_t blocks_of(int64_t outputs) { return (outputs + kLanes - 1) / kLanes; }
int64_t tile_of(int64_t keys) { return std::clamp<int64_t>(kMaxScratch / keys, 1, kTile); }

template <typename T>
void grow(Buffer<T>& buffer, int64_t size) {
  if (static_cast<int64_t>(buffer.size()) < size) buffer = Buffer<T>(size);
}

// Element i of output o -> (block, i, lane) as the kernel reads weights; lanes without an output are 0.
template <typename At>
void pack(int64_t outputs, int64_t depth, At at, float* to) {
  for (int64_t first = 0; first < outputs; first += kLanes, to += depth * kLanes) {
    const int64_t lanes = std::min(outputs - first, kLanes);
    if (lanes < kLanes) std::fill_n(to, depth * kLanes, 0.0f);
    at(first, lanes, to);
  }
}

}  // namespace

int64_t Attention::band(Shape q, Shape v) const { return std::clamp<int64_t>(kMaxScratch / v.c, 1, q.h); }

void Attention::reserve(Shape q, Shape k, Shape v, AttentionScratch& scratch) const {
  const int64_t depth = k.c / heads_, outputs = v.c / heads_, of_keys = blocks_of(k.h), of_values = blocks_of(outputs);
  grow(scratch.keys, of_keys * depth * kLanes);
  grow(scratch.values, of_values * k.h * kLanes);
  grow(scratch.zeros, std::max(of_keys, of_values) * kLanes);
  grow(scratch.scores, tile_of(k.h) * k.h);
  grow(scratch.exponentials, k.h);
  grow(scratch.there, k.h);
  grow(scratch.sums, band(q, v) * v.c);
}

void Attention::softmax(float* row, int64_t keys, const float* mask, AttentionScratch& scratch) const {
  if (!mask) return steps_.softmax(row, keys, scratch.exponentials.data(), row);
  float* const there = scratch.there.data();
  int64_t n = 0;
  for (int64_t u = 0; u < keys; ++u) {
    if (mask[u] != 0) there[n++] = row[u];
  }
  if (n) steps_.softmax(there, n, scratch.exponentials.data(), there);
  n = 0;
  for (int64_t u = 0; u < keys; ++u) row[u] = mask[u] != 0 ? there[n++] : 0.0f;
}

void Attention::run(const Map& q, Shape k_shape, const Map& k, Shape v_shape, const Map& v, const float* mask,
                    Range rows, AttentionScratch& scratch) const {
  const int64_t keys = k_shape.h, depth = k_shape.c / heads_, outputs = v_shape.c / heads_, tile = tile_of(keys);
  float* const scores = scratch.scores.data();
  scratch.first = rows.begin;
  for (int64_t head = 0; head < heads_; ++head) {
    const int64_t read = head * depth, made = head * outputs;
    pack(
        keys, depth,
        [&](int64_t first, int64_t lanes, float* to) {
          for (int64_t lane = 0; lane < lanes; ++lane) {
            const float* from = k.at(first + lane) + read;
            for (int64_t c = 0; c < depth; ++c) to[c * kLanes + lane] = from[c];
          }
        },
        scratch.keys.data());
    pack(
        outputs, keys,
        [&](int64_t first, int64_t lanes, float* to) {
          for (int64_t u = 0; u < keys; ++u) std::copy_n(v.at(u) + made + first, lanes, to + u * kLanes);
        },
        scratch.values.data());
    for (int64_t begin = rows.begin, end; begin < rows.end; begin = end) {
      end = std::min(begin + tile, rows.end);
      const float* of_head = q.at(begin) + read;
      Multiply m;
      m.rows = &of_head;
      m.count = 1;
      m.run = depth;
      m.step = q.row;
      m.pixels = end - begin;
      m.weights = scratch.keys.data();
      m.bias = scratch.zeros.data();
      m.blocks = blocks_of(keys);
      m.outputs = keys;
      m.out = scores;
      m.out_step = keys;
      multiply_.run(m);
      for (int64_t t = 0; t < end - begin; ++t) {
        float* row = scores + t * keys;
        for (int64_t u = 0; u < keys; ++u) row[u] *= scale_;
        softmax(row, keys, mask, scratch);
      }
      const float* parts = scores;
      m.rows = &parts;
      m.run = m.step = keys;
      m.weights = scratch.values.data();
      m.blocks = blocks_of(outputs);
      m.outputs = outputs;
      m.out = scratch.sums.data() + (begin - rows.begin) * v_shape.c + made;
      m.out_step = v_shape.c;
      multiply_.run(m);
    }
  }
}

}  // namespace onebit
