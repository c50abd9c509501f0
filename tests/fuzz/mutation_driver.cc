// Runs a fuzz target without libFuzzer: changes seeds at random and keeps no record of coverage.
//
//   json_fuzz SECONDS SEED FINDING FILE...
//
// The files are run as they are and then changed for so many seconds. An input that ends in abort(), as sanitizers do
// with abort_on_error=1, is left as FINDING.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Random = std::mt19937_64;

constexpr size_t kMaxSize = 1 << 16;  // bytes: larger seeds are cut
const char* const kTokens[] = {"{",
                               "}",
                               "[",
                               "]",
                               ",",
                               ":",
                               "\"",
                               "\\",
                               "0",
                               "-",
                               "1e9",
                               "1e-400",
                               "1e400",
                               ".5",
                               "-0",
                               "null",
                               "true",
                               "false",
                               "NaN",
                               "-Infinity",
                               "\\u0000",
                               "\\ud83d",
                               "\\ude00",
                               "\xc3",
                               "\xed\xa0\x80",
                               " ",
                               "\n",
                               "[0,0]",
                               "\"F32\"",
                               "\"U8\"",
                               "\"shape\"",
                               "{\"a\":",
                               "4294967296",
                               "9223372036854775807",
                               "9223372036854775808",
                               "1e9223372036854775807",
                               "1e-9223372036854775808",
                               "\"data_offsets\"",
                               "\"__metadata__\":{}",
                               "\xf4\x8f\xbf\xbf",
                               "\xf4\x90\x80\x80",
                               "\x7f",
                               "[[[[[[[[[[[[[[[["};

size_t below(Random& random, size_t n) { return n == 0 ? 0 : random() % n; }

// Puts `with` in the place of `size` bytes from `at` on. The length of the header mostly changes as much.
void replace(std::string& data, size_t at, size_t size, const std::string& with, Random& random) {
  uint64_t length = 0;
  if (data.size() >= 8) std::memcpy(&length, data.data(), 8);
  const bool in_header = at >= 8 && at - 8 < length && random() % 8 != 0;
  data.replace(at, size, with);
  length += with.size() - size;
  if (in_header && data.size() >= 8) std::memcpy(&data[0], &length, 8);
}

void mutate(std::string& data, const std::vector<std::string>& seeds, Random& random) {
  const size_t at = below(random, data.size() + 1), rest = data.size() - at;
  const std::string& other = seeds[below(random, seeds.size())];
  switch (random() % 6) {
    case 0:
      if (rest) data[at] = static_cast<char>(data[at] ^ (1 << random() % 8));
      break;
    case 1:
      replace(data, at, 0, kTokens[below(random, std::size(kTokens))], random);
      break;
    case 2:
      replace(data, at, std::min<size_t>(rest, 1 + random() % 4), kTokens[below(random, std::size(kTokens))], random);
      break;
    case 3:
      replace(data, at, std::min<size_t>(rest, 1 + random() % 16), "", random);
      break;
    case 4:
      replace(data, at, 0, other.substr(below(random, other.size()), 1 + random() % 64), random);
      break;
    default:
      replace(data, at, 0, data.substr(below(random, data.size()), 1 + random() % 64), random);
  }
  if (random() % 64 == 0) data.resize(below(random, data.size()));
}

const char* finding;         // where to leave the input that is run,
const std::string* running;  // and it

void leave_finding(int) {
  std::ofstream(finding, std::ios::binary) << *running;
  std::fprintf(stderr, "the input is %s\n", finding);
  std::_Exit(1);
}

// In memory of exactly its size, so that AddressSanitizer sees every byte past the end.
void run(const std::string& data) {
  running = &data;
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[data.size()]);
  std::memcpy(exact.get(), data.data(), data.size());
  LLVMFuzzerTestOneInput(exact.get(), data.size());
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 5) {
    std::fprintf(stderr, "usage: %s SECONDS SEED FINDING FILE...\n", arguments[0]);
    return 2;
  }
  finding = arguments[3];
  std::signal(SIGABRT, leave_finding);
  const std::chrono::seconds seconds(std::atoi(arguments[1]));
  Random random(std::strtoull(arguments[2], nullptr, 10));
  std::vector<std::string> seeds;
  for (int i = 4; i < count; ++i) {
    std::ifstream file(arguments[i], std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "cannot read %s\n", arguments[i]);
      return 2;
    }
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    run(seeds.back());
    seeds.back().resize(std::min(seeds.back().size(), kMaxSize));
  }
  int64_t inputs = static_cast<int64_t>(seeds.size());
  for (const auto start = std::chrono::steady_clock::now(); std::chrono::steady_clock::now() - start < seconds;
       ++inputs) {
    std::string data = seeds[below(random, seeds.size())];
    for (size_t changes = 1 + random() % 4; changes > 0; --changes) mutate(data, seeds, random);
    run(data);
  }
  std::printf("ran %lld inputs from %zu seeds\n", static_cast<long long>(inputs), seeds.size());
  return 0;
}
