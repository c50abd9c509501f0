// A fixed set of threads that run the same function on disjoint parts: no queue, no stealing, so that which thread
// computes what depends on nothing but the number of threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/window.h"

namespace onebit {

// Part `index` of `parts` nearly equal parts of 0..n.
inline Range part_of(int64_t n, int64_t index, int64_t parts) { return {n * index / parts, n * (index + 1) / parts}; }

class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Calls work(0) .. work(threads - 1), the first on the caller's thread, and waits for all. `work` must not throw.
  void run(const std::function<void(int)>& work);

 private:
  void loop(int index);

  const int threads_;
  std::vector<std::thread> workers_;
  const std::function<void(int)>* work_ = nullptr;
  std::atomic<uint64_t> round_{0};
  std::atomic<int> pending_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace onebit
