// SPDX-License-Identifier: MIT
/// An executor on a thread pool of Eigen's that the program already has; none is made here.
///
///     #include <tokennorm/adapters/thread_pool.hpp>
///
///     Eigen::ThreadPool pool(8);
///     const auto executor = tokennorm::thread_pool(pool);
///     norm(x, y, executor);
///     block(x, y, workspace, executor);
///     auto dx = block.backward(dy, executor);
///
/// Threads    as many as the pool has, the calling one in the place of one of them. It takes every
///            range that no other thread has taken yet, and waits only for those that are being
///            worked on: a pool that is busy, blocked or cancelled costs time, never a deadlock.
///            Small work stays on the calling thread, and so does everything called from a thread
///            of the pool. Several threads may call at the same time
/// Results    the same bits as without an executor, for every number of threads
/// Memory     the pool allocates for each task; the executor allocates once for each call that is
///            not small, and holds a reference to the pool, which must outlive it
/// Throws     what the pool's Schedule throws, when the work is done; nothing of its own
/// Needs      the CMake target tokennorm::thread_pool, or Eigen and -pthread
#pragma once

#include "tokennorm/core/executor.hpp"

#if __has_include(<Eigen/ThreadPool>)  // Eigen 5
#include <Eigen/ThreadPool>
#else
#include <unsupported/Eigen/CXX11/ThreadPool>
#endif

#include <atomic>
#include <memory>
#include <type_traits>

namespace tokennorm {

/// The type of `thread_pool(pool)`.
class ThreadPoolExecutor {
 public:
  /// An executor over the pool, which outlives it.
  explicit ThreadPoolExecutor(Eigen::ThreadPoolInterface& pool) : pool_(&pool) {}
  template <class F>
  void parallel_for(Index count, Index grain, F&& f) const;

 private:
  Eigen::ThreadPoolInterface* pool_;
};

/// The executor whose threads are those of the pool, and the calling one.
inline ThreadPoolExecutor thread_pool(Eigen::ThreadPoolInterface& pool) {
  return ThreadPoolExecutor(pool);
}

namespace detail {

/// The ranges of one call, shared by the caller and the pool's tasks. A task that comes late finds
/// no range left; by then f may be gone, and only the counters are looked at.
template <class F>
class SharedWork {
 public:
  SharedWork(F& f, const Ranges& ranges) : f_(f), ranges_(ranges) {}

  /// Works on ranges as long as there are any that nobody has taken.
  void work() {
    for (int i = next_++; i < ranges_.size(); i = next_++) {
      f_(ranges_.begin(i), ranges_.end(i));
      if (++done_ == ranges_.size()) done_.notify_one();
    }
  }
  /// Returns when all ranges are done.
  void wait() const {
    for (int done = done_; done < ranges_.size(); done = done_) done_.wait(done);
  }

 private:
  F& f_;
  const Ranges ranges_;
  std::atomic<int> next_{0};
  std::atomic<int> done_{0};
};

/// The caller's part, at the end of its scope: also where Schedule throws, the tasks that were
/// scheduled before must be done with the caller's memory.
template <class F>
struct CallersPart {
  SharedWork<F>& shared;
  ~CallersPart() {
    shared.work();
    shared.wait();
  }
};

}  // namespace detail

template <class F>
void ThreadPoolExecutor::parallel_for(Index count, Index grain, F&& f) const {
  using Work = detail::SharedWork<std::remove_reference_t<F>>;
  if (detail::is_small(count, grain) || pool_->CurrentThreadId() >= 0) {
    return serial.parallel_for(count, grain, f);
  }
  const detail::Ranges ranges(count, grain, pool_->NumThreads());
  if (ranges.size() <= 1) return serial.parallel_for(count, grain, f);
  const auto shared = std::make_shared<Work>(f, ranges);
  const detail::CallersPart<std::remove_reference_t<F>> part{*shared};
  for (Index i = 1; i < ranges.size(); ++i) pool_->Schedule([shared] { shared->work(); });
}

}  // namespace tokennorm
