// SPDX-License-Identifier: MIT
/// An executor over the calling thread and one more, which sleeps between the calls.
#pragma once

#include <tokennorm/core/executor.hpp>

#include <atomic>
#include <thread>

namespace tokennorm::bench {

class TwoThreads {
 public:
  TwoThreads() : worker_([this] { serve(); }) {}
  TwoThreads(const TwoThreads&) = delete;
  TwoThreads& operator=(const TwoThreads&) = delete;
  ~TwoThreads() {
    hand_over(nullptr, nullptr);
    worker_.join();
  }

  template <class F>
  void parallel_for(Index count, Index grain, F&& f) {
    if (count <= grain) {
      if (count > 0) f(Index{0}, count);
      return;
    }
    auto second_half = [&f, count] { f(count / 2, count); };
    hand_over(&second_half, [](void* task) { (*static_cast<decltype(second_half)*>(task))(); });
    f(Index{0}, count / 2);
    for (int spins = 0; done_.load(std::memory_order_acquire) != handed_over_; ++spins) {
      if (spins > 10000) std::this_thread::yield();
    }
  }

 private:
  void hand_over(void* task, void (*run)(void*)) {
    task_ = task;
    run_ = run;
    requested_.store(++handed_over_, std::memory_order_release);
    requested_.notify_one();
  }

  void serve() {
    for (unsigned turn = 1;; ++turn) {
      // Awake between calls that follow each other closely, asleep after them.
      for (int spins = 0; spins < 10000 && requested_.load(std::memory_order_acquire) < turn;) {
        ++spins;
      }
      requested_.wait(turn - 1, std::memory_order_acquire);
      if (run_ == nullptr) return;
      run_(task_);
      done_.store(turn, std::memory_order_release);
    }
  }

  void* task_ = nullptr;
  void (*run_)(void*) = nullptr;
  unsigned handed_over_ = 0;
  std::atomic<unsigned> requested_{0}, done_{0};
  std::thread worker_;  // last: it uses the others
};

}  // namespace tokennorm::bench
