#include <immintrin.h>

#include "kernels/fconv/fconv.h"

namespace onebit {
namespace {

using Vector = __m512;
constexpr int kWidth = 16;

inline Vector broadcast(float x) { return _mm512_set1_ps(x); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION multiply_avx512
#define ONEBIT_PIXELS 12
#define ONEBIT_BLOCKS 2
#include "kernels/fconv/body.inc"
