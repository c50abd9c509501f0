// A safetensors file taken apart: https://github.com/huggingface/safetensors, within the limits of docs/format.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace onebit {

constexpr uint64_t kMaxHeaderBytes = uint64_t{16} << 20;
constexpr uint64_t kMaxFileBytes = uint64_t{4} << 30;

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

struct Safetensors {
  std::map<std::string, std::string, std::less<>> metadata;
  std::map<std::string, Tensor, std::less<>> tensors;
};

// Takes a file of `size` bytes apart; the tensors point into `data`. Throws FormatError unless the header is in order
// and its tensors cover the rest of the file without holes and overlaps.
Safetensors parse_safetensors(const uint8_t* data, size_t size);

}  // namespace onebit
