// What the readers say to documents, a line each, for tests/test_json_reader.py.
//
//   json_verdicts json|safetensors FILE    the file holds documents, each after its length: 4 bytes, little-endian
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "file/safetensors.h"

namespace {

using onebit::json::Kind;
using onebit::json::Value;

void print_hex(std::string_view bytes) {
  for (const char byte : bytes) std::printf("%02x", static_cast<unsigned>(static_cast<unsigned char>(byte)));
}

// Numbers by their bits and texts by their bytes.
void print(const Value& value) {
  switch (value.kind()) {
    case Kind::null:
      std::printf("null");
      break;
    case Kind::boolean:
      std::printf(value.boolean() ? "true" : "false");
      break;
    case Kind::integer:
      std::printf("%lld", static_cast<long long>(value.integer()));
      break;
    case Kind::number: {
      const double number = value.number();
      uint64_t bits;
      std::memcpy(&bits, &number, 8);
      std::printf("d%016llx", static_cast<unsigned long long>(bits));
      break;
    }
    case Kind::string:
      std::putchar('s');
      print_hex(value.text());
      break;
    case Kind::array:
      std::putchar('[');
      for (const Value& element : value) {
        print(element);
        std::putchar(' ');
      }
      std::putchar(']');
      break;
    case Kind::object:
      std::putchar('{');
      for (const auto [key, member] : value.members()) {
        print_hex(key);
        std::putchar(':');
        print(member);
        std::putchar(' ');
      }
      std::putchar('}');
      break;
  }
}

void print(const onebit::Safetensors& file) {
  for (const auto& [key, text] : file.metadata) {
    print_hex(key);
    std::putchar('=');
    print_hex(text);
    std::putchar(' ');
  }
  for (const auto& [name, tensor] : file.tensors) {
    print_hex(name);
    std::printf(":%s(", onebit::dtype_name(tensor.dtype));
    for (const int64_t size : tensor.shape) std::printf("%lld,", static_cast<long long>(size));
    std::putchar(')');
    print_hex({reinterpret_cast<const char*>(tensor.data), tensor.bytes});
    std::putchar(' ');
  }
}

}  // namespace

int main(int count, char** arguments) {
  std::ifstream input(count == 3 ? arguments[2] : "", std::ios::binary);
  if (!input) {
    std::fprintf(stderr, "usage: %s json|safetensors FILE\n", arguments[0]);
    return 2;
  }
  const bool json = std::string_view(arguments[1]) == "json";
  unsigned char prefix[4];
  std::string document;
  while (input.read(reinterpret_cast<char*>(prefix), 4)) {
    document.resize(prefix[0] | prefix[1] << 8 | prefix[2] << 16 | size_t{prefix[3]} << 24);
    input.read(&document[0], static_cast<std::streamsize>(document.size()));
    try {
      if (json) {
        const auto parsed = onebit::json::parse(document, "the header");
        std::printf("accepted ");
        print(parsed.root());
      } else {
        const auto parsed =
            onebit::parse_safetensors(reinterpret_cast<const uint8_t*>(document.data()), document.size());
        std::printf("accepted ");
        print(parsed);
      }
    } catch (const onebit::FormatError& error) {
      std::printf("refused %s", error.what());
    }
    std::putchar('\n');
  }
  return 0;
}
