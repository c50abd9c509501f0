// What the binary kernel (csrc/kernels/bconv/arm64_neon.cc) is compared with: the inner loop of an int8 convolution by
// sdot, in the best known shape. 8 pixels × 8 outputs: one step of 4 input channels loads 2 registers of weights (4
// outputs × 4 channels each) and 2 of activations (4 pixels × 4 channels each), and makes 16 sdot of 16 products, each
// with one lane of the activations. 16 of 32 registers hold sums, so that no sdot waits for the one before it.
#include <arm_neon.h>

#include <cstddef>

void int8_tile(const int8_t* pixels, const int8_t* weights, size_t depth, int32_t* out) {
  int32x4_t sums[8][2];
#pragma GCC unroll 8
  for (int p = 0; p < 8; ++p) sums[p][0] = sums[p][1] = vdupq_n_s32(0);
  for (size_t i = 0; i < depth; i += 4, pixels += 32, weights += 32) {
    const int8x16_t a0 = vld1q_s8(pixels), a1 = vld1q_s8(pixels + 16);
    const int8x16_t w0 = vld1q_s8(weights), w1 = vld1q_s8(weights + 16);
#define ONEBIT_PIXEL(p, a, lane)                         \
  sums[p][0] = vdotq_laneq_s32(sums[p][0], w0, a, lane); \
  sums[p][1] = vdotq_laneq_s32(sums[p][1], w1, a, lane);
    ONEBIT_PIXEL(0, a0, 0)
    ONEBIT_PIXEL(1, a0, 1)
    ONEBIT_PIXEL(2, a0, 2)
    ONEBIT_PIXEL(3, a0, 3)
    ONEBIT_PIXEL(4, a1, 0)
    ONEBIT_PIXEL(5, a1, 1)
    ONEBIT_PIXEL(6, a1, 2)
    ONEBIT_PIXEL(7, a1, 3)
#undef ONEBIT_PIXEL
  }
#pragma GCC unroll 8
  for (int p = 0; p < 8; ++p) {
    vst1q_s32(out + 8 * p, sums[p][0]);
    vst1q_s32(out + 8 * p + 4, sums[p][1]);
  }
}
