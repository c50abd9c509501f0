#include "base/pool.h"

namespace onebit {
namespace {

// Waiting by spinning reacts within a microsecond but burns a core; the layers of one inference follow each other
// faster than this many checks take, so a worker sleeps only between inferences.
constexpr int kSpins = 4000;

void pause() {
#if defined(ONEBIT_X86)
  __builtin_ia32_pause();
#endif
}

}  // namespace

Pool::Pool(int threads) : threads_(threads) {
  for (int index = 1; index < threads; ++index) workers_.emplace_back([this, index] { loop(index); });
}

Pool::~Pool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Pool::run(const std::function<void(int)>& work) {
  if (threads_ == 1) return work(0);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    work_ = &work;
    pending_ = threads_ - 1;
    ++round_;
  }
  wake_.notify_all();
  work(0);
  for (int spins = 0; pending_ != 0; ++spins) {
    if (spins < kSpins) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
}

void Pool::loop(int index) {
  uint64_t seen = 0;
  while (true) {
    for (int spins = 0; spins < kSpins && round_ == seen && !stop_; ++spins) pause();
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return round_ != seen || stop_; });
      if (stop_) return;
      seen = round_;
    }
    (*work_)(index);
    --pending_;
  }
}

}  // namespace onebit
