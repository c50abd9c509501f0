// Elementwise operators on a run of pixels, alone or fused behind a convolution:
//
//   finish      out = f(x + other)
//   dequantize  out = f(what the counts of a binary convolution mean + other)
//
// f is a Step (Step::add: nothing more) with parameters (rows, channels), what the operator's tensor holds, or
// constants; `other`, the second operand of an addition, may be null. Values are (pixels, channels) floats; out may be
// x or other.
//
// And what pools, means, softmax and normalisations are made of.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace onebit {

enum class Step {
  affine,
  add,
  hardtanh,
  relu,
  prelu,
  rprelu,
  maxout,
  clip,
  hardsigmoid,
  hardswish,
  sigmoid,
  tanh,
  silu,
  elu,
  gelu,
  gelu_tanh
};
constexpr size_t kSteps = 16;

// Pixels that are `stride` floats apart, in x `x_stride`; `channels` of each.
struct Finish {
  const float* x;
  size_t x_stride;
  const float* other;   // or null
  const float* params;  // rows params_stride floats apart
  size_t params_stride;
  float constants[2];  // parameters that all channels have in common: clip's low and high, elu's alpha
  float* out;
  size_t pixels, channels, stride;
};

// Counts to outputs (derived in convolutions/binary_conv.h); k is the border class of pixel p:
//   y[p][o] = (scale[o]·(float(base[k][o] - 2·count[p][o]) + shifted[k][o]) + offset[o]·window[p]) + bias[o]
// `offset` may be null: then its term is left out.
struct Dequantize {
  const int32_t* counts;  // (pixels, count_stride)
  size_t count_stride;
  const int64_t* classes;  // (pixels): equal ones side by side
  const int32_t* base;     // (classes, class_stride)
  const float* shifted;    // (classes, class_stride)
  size_t class_stride;
  const float* scale;   // (outputs)
  const float* bias;    // (outputs)
  const float* offset;  // (outputs) or null
  const float* window;  // (pixels), read only with offset
  Finish finish;        // its x is not read
};

// A pixel that is normalised, each operation in double until the quotient, which is rounded, then in float:
//   out[c] = scale[c]·float((x[c] - mean[c]) / deviation[c]) + bias[c]
struct Normalize {
  const float* x;
  const double *mean, *deviation;
  const float *scale, *bias;
  size_t channels;
  float* out;
};

// Pixels (pixels, channels) that are each normalised over their channels, in the arithmetic of Normalize; all in
// double,
//   mean = Σ x[c] / channels,  deviation = sqrt(Σ (x[c] - mean)² / channels + eps),  sums over the channels in order
constexpr size_t kNormPixels = 16;  // that are summed together

struct LayerNormalize {
  const float* x;
  size_t pixels, channels;
  double eps;
  const float *scale, *bias;
  float* turned;  // room for (channels, kNormPixels)
  float* out;     // not x
};

// Windows of neighbouring pixels: the taps of the first one, count >= 1; those of pixel p lie p·step further on.
struct Windows {
  const float* const* taps;
  size_t count, step;
  size_t pixels, channels;
};

struct StepKernels {
  const char* name;
  Isa isa;
  void (*finish[kSteps])(const Finish&);          // by Step
  void (*dequantize[kSteps])(const Dequantize&);  // by Step
  // Over the taps k in order: out[p][i] = max_k taps[k][p·step + i], and 0 + Σ_k taps[k][p·step + i].
  void (*maximum)(const Windows&, float* out);
  void (*sum)(const Windows&, float* out);
  // sums[c] += x[p][c], over the pixels in order
  void (*channel_sums)(const float* x, double* sums, size_t pixels, size_t channels);
  // out[i] = e[i] / Σ_j e[j], j from 0 on, where e[i] = exp(x[i] - max x) in double, for which `e` has room; n >= 1
  void (*softmax)(const float* x, size_t n, double* e, float* out);
  // out[i] = exp(x[i]) in double
  void (*exponential)(const float* x, size_t n, float* out);
  void (*normalize)(const Normalize&);
  void (*layer_norm)(const LayerNormalize&);
};

#define ONEBIT_KERNEL(table, isa) extern const StepKernels table;
#include "kernels/steps/kernels.inc"
#undef ONEBIT_KERNEL

// The first row of the table that `isa` allows.
const StepKernels& select_steps(Isa isa);

}  // namespace onebit
