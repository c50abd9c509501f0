#include <immintrin.h>

#include <cstdint>

#include "base/bytes_avx512vnni.inc"
#include "kernels/iconv/iconv.h"

namespace onebit {
namespace {

inline Vector splat(float x) { return _mm512_set1_ps(x); }
inline Integers start_at(const int32_t* p) { return _mm512_load_si512(p); }

}  // namespace
}  // namespace onebit

#define ONEBIT_FUNCTION codes_avx512vnni
#define ONEBIT_PIXELS 16
#define ONEBIT_BLOCKS 4
#include "kernels/iconv/body.inc"
