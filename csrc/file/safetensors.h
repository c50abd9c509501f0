// A safetensors file taken apart: https://github.com/huggingface/safetensors, within the limits of docs/format.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "base/tensor.h"

namespace onebit {

constexpr uint64_t kMaxHeaderBytes = uint64_t{16} << 20;
constexpr uint64_t kMaxFileBytes = uint64_t{4} << 30;

struct Safetensors {
  std::map<std::string, std::string, std::less<>> metadata;
  std::map<std::string, Tensor, std::less<>> tensors;
};

// Takes a file of `size` bytes apart; the tensors point into `data`. Throws FormatError unless the header is in order
// and its tensors cover the rest of the file without holes and overlaps.
Safetensors parse_safetensors(const uint8_t* data, size_t size);

}  // namespace onebit
