// A tensor of a file: its bytes where they lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace onebit {

enum class Dtype : uint8_t { f32, u8, i8 };

const char* dtype_name(Dtype dtype);  // as in the header: "F32"
int64_t dtype_bytes(Dtype dtype);     // of one element

// A tensor within the bytes of a file, in C order; `bytes` is the product of shape and element.
struct Tensor {
  Dtype dtype;
  std::vector<int64_t> shape;
  const uint8_t* data;  // aligned to nothing
  size_t bytes;
};

}  // namespace onebit
