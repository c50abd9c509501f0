#include "file/safetensors.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <tuple>

#include "base/error.h"
#include "base/json.h"

namespace onebit {

namespace {

using json::Kind;
using json::Value;

constexpr std::array<Dtype, 3> kDtypes = {Dtype::f32, Dtype::u8, Dtype::i8};
constexpr const char* kMetadata = "__metadata__";

// A tensor and where its header entry places it: bytes begin .. end - 1 after the header.
struct Extent {
  uint64_t begin, end;
  std::string_view name;
  Tensor* tensor;
};

// The text of the header, within the file.
std::string_view header_text(const uint8_t* data, size_t size) {
  const uint64_t total = size;
  if (total > kMaxFileBytes) {
    throw FormatError("the file has " + std::to_string(total) + " bytes, at most " + std::to_string(kMaxFileBytes) +
                      " are supported");
  }
  if (total == 0) throw FormatError("the file is empty; copy or export it again");
  if (total < 8) {
    throw FormatError("the file has only " + std::to_string(total) + " bytes and is truncated; copy it again");
  }
  uint64_t length = 0;
  for (int i = 0; i < 8; ++i) length |= uint64_t{data[i]} << 8 * i;
  if (length < 2 || length > kMaxHeaderBytes) {
    throw FormatError("the header length " + std::to_string(length) + " is not from 2 to " +
                      std::to_string(kMaxHeaderBytes) + " bytes; this is not a onebit file");
  }
  if (8 + length > total) {
    throw FormatError("the header claims " + std::to_string(length) + " bytes, the file has " + std::to_string(total) +
                      " in all: it is truncated");
  }
  return {reinterpret_cast<const char*>(data) + 8, static_cast<size_t>(length)};
}

std::map<std::string, std::string, std::less<>> read_metadata(const Value& value) {
  if (!value.is(Kind::object)) {
    throw FormatError("this safetensors file was not written by onebit; make one with onebit pack");
  }
  std::map<std::string, std::string, std::less<>> metadata;
  for (const auto [key, text] : value.members()) {
    if (!text.is(Kind::string)) {
      throw FormatError("the metadata " + json::show(key) + " must be a text, got " + json::show(text));
    }
    metadata.emplace(key, text.text());
  }
  return metadata;
}

// A number of elements or bytes that a file may have. -0 is none to the safetensors library, and negative numbers are
// far too large without their sign.
bool is_size(const Value& value) {
  return value.is(Kind::integer) && static_cast<uint64_t>(value.integer()) <= kMaxFileBytes;
}

std::string named(std::string_view tensor) { return "tensor " + json::show(tensor); }

FormatError damaged(const std::string& what) {
  return FormatError("the tensors are damaged (" + what + "); copy or export the file again");
}

[[noreturn]] void fail_offsets(std::string_view tensor, const std::string& offsets) {
  throw damaged(named(tensor) + " has impossible data_offsets " + offsets);
}

// The entry of a tensor by itself: dtype and shape, and where it lies.
Tensor read_entry(std::string_view name, const Value& entry, Extent& extent) {
  if (!entry.is(Kind::object)) throw FormatError(named(name) + " must be an object, got " + json::show(entry));
  const std::array<const char*, 3> keys = {"data_offsets", "dtype", "shape"};
  std::array<const Value*, 3> values = {};
  for (const auto [key, value] : entry.members()) {
    const auto known = std::find(keys.begin(), keys.end(), key);
    if (known == keys.end()) {
      throw FormatError(named(name) + " has the unknown key " + json::show(key) +
                        "; write the file with a matching onebit");
    }
    values[known - keys.begin()] = &value;
  }
  const auto missing = std::find(values.begin(), values.end(), nullptr);
  if (missing != values.end()) throw FormatError(named(name) + " lacks " + keys[missing - values.begin()]);

  const auto [offsets, dtype, shape] = values;
  const auto known = std::find_if(kDtypes.begin(), kDtypes.end(), [type = dtype](Dtype candidate) {
    return type->is(Kind::string) && type->text() == dtype_name(candidate);
  });
  if (known == kDtypes.end() || !shape->is(Kind::array)) {
    throw FormatError(named(name) + " must have dtype F32 or U8 or I8 and a shape, got " + json::show(entry));
  }
  Tensor tensor{*known, {}, nullptr, 0};
  tensor.shape.reserve(shape->size());
  for (const Value& size : *shape) {
    if (!is_size(size) || size.integer() == 0)
      throw FormatError(named(name) + " has an impossible shape " + json::show(*shape));
    tensor.shape.push_back(size.integer());
  }
  if (!offsets->is(Kind::array) || offsets->size() != 2 || !is_size((*offsets)[0]) || !is_size((*offsets)[1])) {
    throw FormatError(named(name) + " must have two data_offsets, got " + json::show(*offsets));
  }
  extent.begin = static_cast<uint64_t>((*offsets)[0].integer());
  extent.end = static_cast<uint64_t>((*offsets)[1].integer());
  return tensor;
}

// Whether a tensor takes so many bytes.
bool takes(const Tensor& tensor, uint64_t bytes) {
  uint64_t elements = 1;
  for (const int64_t size : tensor.shape) {
    if (elements > UINT64_MAX / static_cast<uint64_t>(size)) return false;
    elements *= static_cast<uint64_t>(size);
  }
  return elements <= bytes && elements * static_cast<uint64_t>(dtype_bytes(tensor.dtype)) == bytes;
}

// Gives the tensors their bytes of the `size` bytes of data, which they must cover one after the other.
void place(std::vector<Extent>& extents, const uint8_t* data, uint64_t size) {
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  uint64_t at = 0;
  for (const Extent& extent : extents) {
    if (extent.begin != at || extent.end < extent.begin || extent.end > size) {
      fail_offsets(extent.name, "[" + std::to_string(extent.begin) + ", " + std::to_string(extent.end) + "]");
    }
    if (!takes(*extent.tensor, extent.end - extent.begin)) {
      throw damaged(named(extent.name) + " has another size than its data_offsets");
    }
    extent.tensor->data = data + at;
    extent.tensor->bytes = static_cast<size_t>(extent.end - at);
    at = extent.end;
  }
  if (at != size) throw damaged(std::to_string(size - at) + " bytes after the last tensor");
}

}  // namespace

const char* dtype_name(Dtype dtype) { return dtype == Dtype::f32 ? "F32" : dtype == Dtype::u8 ? "U8" : "I8"; }

int64_t dtype_bytes(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 1; }

Safetensors parse_safetensors(const uint8_t* data, size_t size) {
  const std::string_view text = header_text(data, size);
  const json::Document header = json::parse(text, "the header");
  if (!header.root().is(Kind::object) || text[0] != '{') {
    throw FormatError("the header is not a JSON object; this is not a onebit file");
  }
  Safetensors file;
  std::vector<Extent> extents;
  for (const auto [key, value] : header.root().members()) {
    if (key == kMetadata) {
      file.metadata = read_metadata(value);
      continue;
    }
    Extent extent{};
    const auto added = file.tensors.emplace(key, read_entry(key, value, extent)).first;
    extent.name = added->first;
    extent.tensor = &added->second;
    extents.push_back(extent);
  }
  const size_t before = 8 + text.size();
  place(extents, data + before, size - before);
  return file;
}

}  // namespace onebit
