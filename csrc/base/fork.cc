#include "base/fork.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include <atomic>

namespace onebit {
namespace {

std::atomic<uint64_t> count{0};

#if defined(__unix__) || defined(__APPLE__)
// When the library is loaded: a child is counted whatever it forked from, and without a lock of ours.
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { ++count; });
#endif

}  // namespace

uint64_t forks() { return count; }

}  // namespace onebit
