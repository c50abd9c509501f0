// Memory aligned to 64 bytes (a cache line, an AVX-512 register), zero-initialised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

namespace onebit {

template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size) : size_(static_cast<size_t>(size)) {
    if (size == 0) return;
    if (static_cast<uint64_t>(size) > PTRDIFF_MAX / sizeof(T)) throw std::bad_alloc();  // where sizes have 32 bits
    data_ = static_cast<T*>(::operator new(size_ * sizeof(T), std::align_val_t{64}));
    std::memset(static_cast<void*>(data_), 0, size_ * sizeof(T));
  }
  Buffer(Buffer&& other) noexcept : data_(other.data_), size_(other.size_) {
    other.data_ = nullptr;
    other.size_ = 0;
  }
  Buffer& operator=(Buffer&& other) noexcept {
    T* data = data_;
    data_ = other.data_;
    other.data_ = data;
    const size_t size = size_;
    size_ = other.size_;
    other.size_ = size;
    return *this;
  }
  ~Buffer() {
    if (data_) ::operator delete(data_, std::align_val_t{64});
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace onebit
