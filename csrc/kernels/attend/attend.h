// Attention of signs (convolutions/binary_attention.h) of one head and some queries, all of it while it is in
// registers:
//
//   n[u] = Σ_k popcount(word k of the query xor that of key u)
//   w[u] = table[n[u]];  P[u] = w[u] >= high,  bound = level·Σ_u w[u],  high = bound·(1 + slack)
//   y[c] = factor·float(Σ_k popcount(word k of P xor that of channel c's values) - ones[c])
//
// unsure[t] = 1 where an entry of the table is at least bound·(1 - slack) and below high: then y[t] means nothing.
//
//   queries  query t begins at queries + t·step
//   keys     (blocks of 16 u, words, 16);  values  (blocks of 16 c, words of the keys, 16)
//   table    (kTableRoom): of all n that can be, then zeros
//   out      y of query t at out + t·out_step
// Contract: 1 <= keys_count <= kMaxKeys, n < kTableRoom, what is looked up and level are above 0, 0 <= slack < 1; keys,
// values and ones are aligned to 64 bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace onebit {

constexpr size_t kMaxKeys = 1024, kTableRoom = 96;

struct Attend {
  const uint32_t* queries;
  size_t step, count, words;
  const uint32_t* keys;
  size_t keys_count;
  const float* table;
  float level, slack;
  const uint32_t* values;
  const int32_t* ones;  // (16·blocks of c)
  float factor;
  size_t outputs;
  float* out;
  size_t out_step;
  uint8_t* unsure;  // (count)
};

struct AttendKernel {
  const char* name;
  Isa isa;
  void (*run)(const Attend&);
};

#define ONEBIT_KERNEL(function, isa) void function(const Attend&);
#include "kernels/attend/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows. The scalar one is the oracle and slower than counts kept in between:
// null without another one, unless `oracle` asks for it.
const AttendKernel* select_attend(Isa isa, bool oracle = false);

}  // namespace onebit
