// What the test of the kernels draws and where it puts it: inputs end where a page without access begins, and outputs
// lie between bytes that must not change: reading or writing past the end of an array is noticed, too.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

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

// From low to high, both included.
size_t between(size_t low, size_t high) { return std::uniform_int_distribution<size_t>(low, high)(random_bits); }
bool coin() { return between(0, 1); }

// Multiples of 2^-22 in -2..2: exact, so that every architecture draws the same.
float value() { return static_cast<float>(static_cast<int>(between(0, 1 << 24)) - (1 << 23)) * 0x1p-22f; }

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

// n values whose last byte is the last one before a page without access. Such memory is aligned to 64 bytes if its size
// is a multiple of them.
template <typename T>
class Input {
 public:
  explicit Input(size_t n) : size_(n) {
    const size_t page = sysconf(_SC_PAGESIZE), bytes = (n * sizeof(T) + page - 1) / page * page;
    mapped_ = bytes + page;
    map_ = static_cast<char*>(mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (map_ == MAP_FAILED || mprotect(map_ + bytes, page, PROT_NONE) != 0) fail("no memory");
    data_ = reinterpret_cast<T*>(map_ + bytes - n * sizeof(T));
  }
  Input(const Input&) = delete;
  ~Input() { munmap(map_, mapped_); }

  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }

  template <typename F>
  Input& fill(F f) {
    for (size_t i = 0; i < size_; ++i) data_[i] = f();
    return *this;
  }

 private:
  size_t size_, mapped_;
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
