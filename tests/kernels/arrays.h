// What the test of the kernels draws and where it puts it: inputs end where a page without access begins, and outputs
// lie between bytes that must not change: reading or writing past the end of an array is noticed, too.
#pragma once

#if !defined(ONEBIT_WASM)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

namespace onebit {
namespace {

std::mt19937 random_bits(1);

// From low to high, both included: the distributions of the standard library draw others on each platform.
size_t between(size_t low, size_t high) {
  return low + static_cast<size_t>(static_cast<uint32_t>(random_bits()) % (high - low + 1));
}
bool coin() { return between(0, 1); }

// Multiples of 2^-22 in -2..2: exact, so that every architecture draws the same.
float value() { return static_cast<float>(static_cast<int>(between(0, 1 << 24)) - (1 << 23)) * 0x1p-22f; }

// Values of whose products the sums lie in the middle between two floats or hardly beside it, where rounding twice is
// not rounding once; `tiny`: where those floats are subnormal.
float near_middle(bool tiny) {
  constexpr float kMantissas[] = {0, 1, 1 + 0x1p-23f, 1 - 0x1p-23f, -1, 0x1p-23f - 1};
  constexpr int kExponents[][4] = {{0, 0, -11, -12}, {-65, -65, -75, -75}};
  const float mantissa = kMantissas[between(0, 5)];
  return std::ldexp(mantissa, kExponents[tiny][between(0, 3)]);
}
float middle() { return near_middle(false); }
float tiny_middle() { return near_middle(true); }
// Whose products and sums are around the largest float: some of them overflow.
float huge() { return value() * (coin() ? 0x1p62f : 0x1p63f); }
constexpr float (*kDraws[])() = {value, middle, tiny_middle, huge};

// Of all that the scalar kernels computed: the same on every architecture.
uint64_t digest = 0xcbf29ce484222325;

std::string text(const char* format, ...) {
  char line[200];
  va_list values;
  va_start(values, format);
  std::vsnprintf(line, sizeof(line), format, values);
  va_end(values);
  return line;
}

[[noreturn]] void fail(const std::string& message) {
  std::printf("FAILED: %s\n", message.c_str());
  std::exit(1);
}

// n values whose last byte is the last one before a page without access (WebAssembly has no such pages: there, before
// the end of the memory that was asked for). Such memory is aligned to 64 bytes if its size is a multiple of them.
template <typename T>
class Input {
 public:
#if defined(ONEBIT_WASM)
  explicit Input(size_t n) : size_(n) {
    const size_t bytes = (n * sizeof(T) + 63) / 64 * 64;
    map_ = static_cast<char*>(std::aligned_alloc(64, bytes));
    data_ = reinterpret_cast<T*>(map_ + bytes - n * sizeof(T));
  }
  ~Input() { std::free(map_); }
#else
  explicit Input(size_t n) : size_(n) {
    const size_t page = sysconf(_SC_PAGESIZE), bytes = (n * sizeof(T) + page - 1) / page * page;
    mapped_ = bytes + page;
    map_ = static_cast<char*>(mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (map_ == MAP_FAILED || mprotect(map_ + bytes, page, PROT_NONE) != 0) fail("no memory");
    data_ = reinterpret_cast<T*>(map_ + bytes - n * sizeof(T));
  }
  ~Input() { munmap(map_, mapped_); }
#endif
  Input(const Input&) = delete;

  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }

  template <typename F>
  Input& fill(F f) {
    for (size_t i = 0; i < size_; ++i) data_[i] = f();
    return *this;
  }

 private:
  size_t size_;
#if !defined(ONEBIT_WASM)
  size_t mapped_;
#endif
  char* map_;
  T* data_;
};

// n values, aligned to 64 bytes, between 64 bytes on each side; all the same before a kernel runs.
template <typename T>
class Output {
 public:
  explicit Output(size_t n) : bytes_((n * sizeof(T) + 191) / 64 * 64), n_(n) {
    memory_ = static_cast<char*>(std::aligned_alloc(64, bytes_));
    std::memset(memory_, 0x5a, bytes_);
  }
  Output(const Output&) = delete;
  ~Output() { std::free(memory_); }

  T* data() { return reinterpret_cast<T*>(memory_ + 64); }
  void set(const T* from) { std::memcpy(data(), from, n_ * sizeof(T)); }
  void add_to_digest() const {  // FNV-1a
    for (size_t i = 0; i < n_ * sizeof(T); ++i)
      digest = (digest ^ static_cast<uint8_t>(memory_[64 + i])) * 0x100000001b3;
  }
  bool operator==(const Output& other) const { return std::memcmp(memory_, other.memory_, bytes_) == 0; }

 private:
  size_t bytes_, n_;
  char* memory_;
};

}  // namespace
}  // namespace onebit
