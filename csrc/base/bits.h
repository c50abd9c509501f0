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
inline int popcount(uint32_t word) {
  word -= (word >> 1) & 0x55555555u;
  word = (word & 0x33333333u) + ((word >> 2) & 0x33333333u);
  word = (word + (word >> 4)) & 0x0f0f0f0fu;
  return static_cast<int>((word * 0x01010101u) >> 24);
}
inline int popcount(uint64_t word) {
  return popcount(static_cast<uint32_t>(word)) + popcount(static_cast<uint32_t>(word >> 32));
}

// 64 bits from bit `at` on. Reads the next word too unless `at` is a multiple of 64.
inline uint64_t read_bits(const uint64_t* from, uint64_t at) {
  const uint64_t word = at / 64, shift = at % 64;
  return shift == 0 ? from[word] : from[word] >> shift | from[word + 1] << (64 - shift);
}

// The first n < 64 bits of a word.
inline uint64_t low_bits(uint64_t word, uint64_t n) { return word & ((uint64_t{1} << n) - 1); }

// Writes bits one after the other; every word is stored once, when it is full or by `finish`.
class BitWriter {
 public:
  explicit BitWriter(uint64_t* to) : to_(to) {}

  // The n bits from bit `at` of `from`; reads as read_bits.
  void copy(const uint64_t* from, uint64_t at, uint64_t n) {
    for (; n >= 64; n -= 64, at += 64) put(read_bits(from, at), 64);
    if (n) put(low_bits(read_bits(from, at), n), n);
  }

  void zeros(uint64_t n) {
    for (; n >= 64; n -= 64) put(0, 64);
    if (n) put(0, n);
  }

  void finish() {
    if (used_) *to_ = word_;
  }

 private:
  // 1 <= n <= 64; bits of value from n on are 0.
  void put(uint64_t value, uint64_t n) {
    word_ |= value << used_;
    if (used_ + n < 64) {
      used_ += n;
      return;
    }
    *to_++ = word_;
    word_ = used_ ? value >> (64 - used_) : 0;
    used_ = used_ + n - 64;
  }

  uint64_t* to_;
  uint64_t word_ = 0, used_ = 0;  // used_ < 64
};

}  // namespace onebit
