#include <immintrin.h>

#include "kernels/dwconv/dwconv.h"

namespace onebit {
namespace {

using Vector = __m512;
constexpr int kWidth = 16;

inline __mmask16 first(size_t n) { return static_cast<__mmask16>((1u << n) - 1); }

inline Vector load(const float* p) { return _mm512_loadu_ps(p); }
inline Vector load(const float* p, size_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
inline void store(float* p, Vector x) { _mm512_storeu_ps(p, x); }
inline void store(float* p, Vector x, size_t n) { _mm512_mask_storeu_ps(p, first(n), x); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION depthwise_avx512
#define ONEBIT_PIXELS 4
#define ONEBIT_VECTORS 2
#include "kernels/dwconv/body.inc"
