// Attention: of each head softmax(scale·q·kᵀ)·v, two products of matrices by the kernel of float convolutions.
//
//   s[t][u] = scale·(fma(q[t][c], k[u][c], ...), c ascending, from 0)
//   p[t]    = softmax of s[t]; with a mask, of the keys that are there, 0 for the others
//   y[t][c] = fma(p[t][u], v[u][c], ...), u ascending, from 0
#pragma once

#include <cstdint>

#include "base/buffer.h"
#include "base/window.h"
#include "kernels/fconv/fconv.h"
#include "kernels/steps/steps.h"

namespace onebit {

// Per-thread memory: k and v of one head as the kernel reads weights, and what is computed of a band of rows.
struct AttentionScratch {
  Buffer<float> keys, values;  // (blocks of 16 u, C / heads, 16), (blocks of 16 c, Tk, 16)
  Buffer<float> zeros;
  Buffer<float> scores;  // (tile, Tk)
  Buffer<double> exponentials;
  Buffer<float> there;  // (Tk): scores of keys that are there
  Buffer<float> sums;   // (band, Cv), from row `first` on
  int64_t first = 0;
};

class Attention {
 public:
  Attention(int64_t heads, float scale, Isa isa)
      : heads_(heads), scale_(scale), multiply_(select_multiply(isa)), steps_(select_steps(isa)) {}

  int64_t heads() const { return heads_; }
  bool fits(int64_t, int64_t) const { return true; }  // it has no numbers of its own for channels
  int64_t weight_bytes() const { return 0; }

  // Of the sequences k (Tk, 1, C) and v (Tk, 1, Cv): how many rows of q are best computed at once, the memory that they
  // need, and how many products an output is a sum of.
  int64_t band(Shape q, Shape v) const;
  void reserve(Shape q, Shape k, Shape v, AttentionScratch& scratch) const;
  int64_t products(Shape k, Shape v) const { return k.h + k.h * k.c / v.c; }

  // These rows of the output -> scratch.sums. All rows of the maps are there. The mask (Tk) has a 0 for each key that
  // is not, or is null.
  void run(const Map& q, Shape k_shape, const Map& k, Shape v_shape, const Map& v, const float* mask, Range rows,
           AttentionScratch& scratch) const;

 private:
  void softmax(float* row, int64_t keys, const float* mask, AttentionScratch& scratch) const;

  int64_t heads_;
  float scale_;
  const MultiplyKernel& multiply_;
  const StepKernels& steps_;
};

}  // namespace onebit
