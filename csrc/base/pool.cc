#include "base/pool.h"

#include <algorithm>
#include <utility>

namespace onebit {
namespace {

// Waiting by spinning reacts within a microsecond but burns a core; the layers of one inference follow each other
// faster than this many checks take, so a worker sleeps only between inferences.
constexpr int kSpins = 2000;

void pause() {
#if defined(ONEBIT_X86)
  __builtin_ia32_pause();
#endif
}

}  // namespace

Pool::Pool(int threads) : threads_(threads), shares_(threads) {
  try {
    for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { loop(thread); });
  } catch (...) {
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Pool::run(int parts, const Work& work) {
  if (threads_ == 1 || parts <= 1) {
    for (int part = 0; part < parts; ++part) work(part, 0);
    return;
  }
  work_ = &work;
  parts_ = pending_ = parts;
  ++runs_;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (int owner = 0; owner < threads_; ++owner) {
      const auto size = static_cast<uint64_t>(part_of(parts, owner, threads_).size());
      shares_[owner].state = uint64_t{runs_} << 32 | size;
    }
  }
  wake_.notify_all();
  take_parts(0);
  for (int spins = 0; pending_ != 0; ++spins) {
    if (spins < kSpins) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Pool::take_parts(int thread) {
  for (int i = 0; i < threads_; ++i) take_share((thread + i) % threads_, thread);
}

void Pool::take_share(int owner, int thread) {
  std::atomic<uint64_t>& state = shares_[owner].state;
  uint64_t now = state;
  while (const uint32_t left = static_cast<uint32_t>(now)) {
    if (!state.compare_exchange_weak(now, now - 1)) continue;
    try {
      const int64_t begin = part_of(parts_, owner, threads_).begin;
      (*work_)(static_cast<int>(begin + left - 1), thread);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      failure_ = std::current_exception();
    }
    --pending_;
    now = state;
  }
}

bool Pool::idle() const {
  return std::all_of(shares_.begin(), shares_.end(), [](const Share& share) { return share.taken(); });
}

void Pool::loop(int thread) {
  while (!stop_) {
    for (int spins = 0; spins < kSpins && idle() && !stop_; ++spins) pause();
    if (idle()) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return !idle() || stop_; });
    }
    take_parts(thread);
  }
}

}  // namespace onebit
