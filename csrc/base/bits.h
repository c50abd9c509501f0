// The bit convention, defined here for C++ and in src/onebit/runtime/bits.py for Python.
//
//   bit 1 means -1, bit 0 means +1; sign(x) = +1 if x >= threshold
//   bit i of a vector is bit (i mod 64) of 64-bit word (i div 64); in memory words are little-endian
//   bits past the end are 0 in both operands, so they cancel: dot = n - 2 popcount(a xor b)
#pragma once

#include <cstdint>
#include <cstring>

namespace onebit {

constexpr int64_t kWordBits = 64;

#if defined(__BYTE_ORDER__)
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file's bytes are used as little-endian words");
#endif

constexpr int64_t words_for(int64_t bits) { return (bits + kWordBits - 1) / kWordBits; }
constexpr int64_t bytes_for(int64_t bits) { return (bits + 7) / 8; }

// Number of 1 bits, for any CPU; kernels have their own.
inline int popcount(uint64_t word) {
  word -= (word >> 1) & 0x5555555555555555u;
  word = (word & 0x3333333333333333u) + ((word >> 2) & 0x3333333333333333u);
  word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  return static_cast<int>((word * 0x0101010101010101u) >> 56);
}

// 64 bits from bit `at` on. Reads the next word too unless `at` is a multiple of 64.
inline uint64_t read_bits(const uint64_t* from, int64_t at) {
  const int64_t word = at / kWordBits, shift = at % kWordBits;
  return shift == 0 ? from[word] : from[word] >> shift | from[word + 1] << (kWordBits - shift);
}

// Copies n bits from bit `from_at` to bit `to_at`, where the destination must be 0.
inline void copy_bits(uint64_t* to, int64_t to_at, const uint64_t* from, int64_t from_at, int64_t n) {
  for (; n > 0; n -= kWordBits, to_at += kWordBits, from_at += kWordBits) {
    uint64_t value = read_bits(from, from_at);
    if (n < kWordBits) value &= (uint64_t{1} << n) - 1;
    const int64_t word = to_at / kWordBits, shift = to_at % kWordBits;
    to[word] |= value << shift;
    if (shift + (n < kWordBits ? n : kWordBits) > kWordBits) to[word + 1] |= value >> (kWordBits - shift);
  }
}

}  // namespace onebit
