// Attention of signs: A = +1 where x >= threshold, else -1, of q, k and v; of each head
//
//   i[t][u] = Σ_c A_q[t][c]·A_k[u][c]                      = d - 2·n,  n signs that differ of the head's d channels
//   s[t][u] = scale·i[t][u]
//   P[t][u] = 1 where p[t][u] >= level, else 0;              p[t] = softmax of s[t] over the keys that are there, or
//   s[t] y[t][c] = factor·Σ_u P[t][u]·A_v[u][c]
//
// Both sums are counts of bits that differ (kernels/bconv): the first as it is. Of the second, with the bits of v, 1
// for -1, and |X| the number of 1 bits of X: Σ P·A_v = |P| - 2·|P and V|, and |P xor V| = |P| + |V| - 2·|P and V|, so
// that
//
//   Σ_u P·A_v = |P xor V| - |V|                              where |V| is counted once for all t
//
// Keys that are not there are left out of all sums: they have no bits at all.
//
// A negative scale is a positive one with all signs of q turned. Then p[t][u] falls with n, so P chooses the keys with
// the fewest differences, n < limit. Without softmax the limit is the same for all t. With it
//
//   p[t][u] = E(n - m) / Σ_u E(n[u] - m),  m the least n of the row,  E(j) = e^(-2·scale·j)
//
// which has few values: the exponentials are made once, as floats, and so is their sum. It differs a little from the
// softmax's, a sum in double of exponentials of rounded s. By how much, in parts of it, is `slack`:
//
//   each s is off by up to 2^-24·|scale|·d of itself, an exponential by 2^-24 and twice that, a sum of K floats by
//   K·2^-24; both sides of the comparison together by less than 2^-23·(K + 4·|scale|·d + 17), if that is small
//
// Where some E(j) is so close to level·Σ that the slack might change the comparison, the row is computed as the
// operator softmax does. Chosen are the same keys in either way.
//
// m cancels, too. Where floats hold E(n - d/2) for all n, no m is looked for, and one kernel does all (kernels/attend).
#pragma once

#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "base/window.h"
#include "kernels/attend/attend.h"
#include "kernels/bconv/bconv.h"
#include "kernels/choose/choose.h"
#include "kernels/pack/pack.h"
#include "kernels/steps/steps.h"

namespace onebit {

struct BinaryAttentionWeights {
  int64_t heads = 1;
  float scale = 0, level = 0, factor = 0;
  bool softmax = true;
  std::vector<float> query, key, value;  // thresholds: (C), (C), (Cv)
};

// Per-thread memory. Words have 32 bits; K keys are there, in blocks of 16.
struct BinaryAttentionScratch {
  Buffer<uint64_t> row;      // the bits of one row, and 32 rows of v's
  Buffer<uint32_t> keys;     // (heads, blocks of K, words of d, 16)
  Buffer<uint32_t> values;   // (heads, blocks of channels, words of K, 16)
  Buffer<int32_t> ones;      // (heads, 16·blocks of channels): 1 bits of each channel's values
  Buffer<uint8_t> unsure;    // (tile)
  Buffer<uint32_t> queries;  // (tile, heads, words of d)
  Buffer<uint32_t> chosen;   // (tile, words of K)
  Buffer<int32_t> counts;    // (tile, 16·blocks of K or of channels)
  Buffer<int64_t> there;     // (K): the rows of k and v
  Buffer<float> scores;      // (K), for rows that are computed as softmax does
  Buffer<double> exponentials;
  Buffer<float> sums;  // (band, Cv), from row `first` on
  int64_t first = 0;
};

class BinaryAttention {
 public:
  BinaryAttention(BinaryAttentionWeights weights, Isa isa);

  int64_t heads() const { return weights_.heads; }
  bool fits(int64_t channels, int64_t values) const {
    return channels == static_cast<int64_t>(weights_.query.size()) &&
           values == static_cast<int64_t>(weights_.value.size());
  }

  // As those of Attention.
  int64_t band(Shape q, Shape v) const;
  void reserve(Shape q, Shape k, Shape v, BinaryAttentionScratch& scratch) const;
  int64_t products(Shape k, Shape v) const { return k.h + k.h * k.c / v.c; }
  int64_t weight_bytes() const {
    return static_cast<int64_t>((2 * weights_.query.size() + weights_.value.size() + table_.size()) * sizeof(float));
  }

  // These rows of the output -> scratch.sums, as Attention does.
  void run(const Map& q, Shape k_shape, const Map& k, Shape v_shape, const Map& v, const float* mask, Range rows,
           BinaryAttentionScratch& scratch) const;

 private:
  float slack(int64_t count) const {
    return 0x1p-23f * (static_cast<float>(count) + 4 * weights_.scale * static_cast<float>(depth_) + 17);
  }
  void pack_keys(const Map& k, int64_t count, BinaryAttentionScratch& scratch) const;
  void pack_values(const Map& v, int64_t count, BinaryAttentionScratch& scratch) const;
  void pack_query(const float* q, uint32_t* words, BinaryAttentionScratch& scratch) const;
  // Some rows of the output of one head. The second keeps all that is between in memory.
  void attend(const Attend& head, BinaryAttentionScratch& scratch) const;
  void attend_slowly(const Attend& head, BinaryAttentionScratch& scratch) const;
  // The bits of one row of counts (K).
  void choose(const int32_t* counts, int64_t count, BinaryAttentionScratch& scratch, uint32_t* bits) const;

  BinaryAttentionWeights weights_;
  bool turned_;                      // whether the signs of q are
  int64_t depth_, words_, outputs_;  // of a head: d, words of 32 bits for them, channels of v
  int32_t limit_ = 0;                // without softmax
  Buffer<float> table_;              // E(j)
  int64_t entries_ = 0;
  Buffer<float> whole_table_;    // E(n - d/2), if floats hold it and the kernel is there
  std::vector<size_t> offsets_;  // (words), bytes
  const PackKernel& pack_;
  const CountKernel& count_;
  const ChooseKernel& choose_;
  const AttendKernel* attend_;  // or null
  const StepKernels& steps_;
};

}  // namespace onebit
