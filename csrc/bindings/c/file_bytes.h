// The bytes of a file on disk.
#pragma once

#include <cstdint>
#include <vector>

namespace onebit {

// Throws a Failure that names the path: of what is no regular file or cannot be read, and of what is too large.
std::vector<uint8_t> file_bytes(const char* path);

}  // namespace onebit
