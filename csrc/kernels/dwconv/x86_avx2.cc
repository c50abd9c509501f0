#include <immintrin.h>

#include "kernels/dwconv/dwconv.h"

namespace onebit {
namespace {

using Vector = __m256;
constexpr int kWidth = 8;

inline __m256i first(size_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline Vector load(const float* p) { return _mm256_loadu_ps(p); }
inline Vector load(const float* p, size_t n) { return _mm256_maskload_ps(p, first(n)); }
inline void store(float* p, Vector x) { _mm256_storeu_ps(p, x); }
inline void store(float* p, Vector x, size_t n) { _mm256_maskstore_ps(p, first(n), x); }
inline Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION depthwise_avx2
#define ONEBIT_PIXELS 4
#define ONEBIT_VECTORS 2
#include "kernels/dwconv/body.inc"
