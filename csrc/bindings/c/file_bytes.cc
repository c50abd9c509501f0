#include "bindings/c/file_bytes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <system_error>

#include "bindings/c/failure.h"

namespace onebit {
namespace {

constexpr int64_t kMaxFile = int64_t{1} << 32;

[[noreturn]] void refuse(const char* path, int error) {
  throw Failure(ONEBIT_CANNOT_READ, "cannot read " + std::string(path) + ": " + std::generic_category().message(error));
}

struct Descriptor {
  explicit Descriptor(int number) : number(number) {}
  ~Descriptor() {
    if (number >= 0) close(number);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int number;
};

}  // namespace

std::vector<uint8_t> file_bytes(const char* path) {
  const Descriptor file(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));  // to open a pipe does not wait for its writer
  struct stat status;
  if (file.number < 0 || fstat(file.number, &status) != 0) refuse(path, errno);
  if (!S_ISREG(status.st_mode)) {
    throw Failure(ONEBIT_CANNOT_READ, std::string(path) + " is not a regular file; give a file made by onebit pack");
  }
  if (status.st_size > kMaxFile) {
    throw Failure(ONEBIT_BAD_FILE, std::string(path) + " has " + std::to_string(status.st_size) + " bytes, at most " +
                                       std::to_string(kMaxFile) + " are supported");
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(status.st_size));
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = read(file.number, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) refuse(path, errno);
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  bytes.resize(done);  // one that shrank is damaged, and refused as such
  return bytes;
}

}  // namespace onebit
