// A fixed set of threads that share the parts of a loop. Each part computes its own outputs, so the result does not
// depend on which thread takes which part. Each thread begins with the parts of its share, so that it finds in its
// caches what it left there in the loop before, and then takes what is left of others': the caller never waits for a
// thread that is asleep or was preempted before it began. A child of a fork has none of the threads: it must neither
// use nor free its copy (base/fork.h).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
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
  using Work = std::function<void(int part, int thread)>;

  explicit Pool(int threads);  // throws std::system_error where the system has no more threads
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Calls work(part, thread) once for each part of 0..parts and returns when all are done. Thread 0 is the caller. If
  // parts throw, one of the exceptions reaches the caller when no thread is at work any more.
  void run(int parts, const Work& work);

 private:
  // Of a thread: the number of the run in the upper half, parts not yet taken in the lower half. A thread that read an
  // old state cannot take a part of a later run, and `work_` stays valid while a part of its run is being computed.
  struct alignas(64) Share {
    std::atomic<uint64_t> state{0};
    bool taken() const { return static_cast<uint32_t>(state) == 0; }
  };

  void loop(int thread);
  void take_parts(int thread);
  void take_share(int owner, int thread);
  void stop();
  bool idle() const;

  const int threads_;
  std::vector<Share> shares_;
  std::vector<std::thread> workers_;
  uint32_t runs_ = 0;
  std::atomic<int> parts_{0};
  std::atomic<const Work*> work_{nullptr};
  std::atomic<int> pending_{0};  // parts not yet done
  std::atomic<bool> stop_{false};
  std::exception_ptr failure_;  // of the run, under mutex_ until all parts are done
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace onebit
