#include <immintrin.h>

#include "kernels/fconv/fconv.h"

namespace onebit {
namespace {

using Vector = __m256;
constexpr int kWidth = 8;

inline Vector broadcast(float x) { return _mm256_set1_ps(x); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION multiply_avx2
#define ONEBIT_PIXELS 6
#define ONEBIT_BLOCKS 1
#include "kernels/fconv/body.inc"
