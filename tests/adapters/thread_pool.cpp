// SPDX-License-Identifier: MIT
// The executor on a thread pool of Eigen's.
#include "division.hpp"
#include "every_call.hpp"
#include <tokennorm/adapters/thread_pool.hpp>
#include <tokennorm/norm/layer_norm.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <new>
#include <thread>
#include <vector>

namespace tokennorm::test {
namespace {

static_assert(Executor<ThreadPoolExecutor> && Executor<const ThreadPoolExecutor&>);

/// Runs f on a thread of the pool and waits for it.
template <class F>
void run_in(Eigen::ThreadPool& pool, const F& f) {
  Eigen::Notification finished;
  pool.Schedule([&] {
    f();
    finished.Notify();
  });
  finished.Wait();
}

TEST(ThreadPool, EveryCallHasTheBitsOfSerial) {
  for (const int threads : {1, 2, 3, 8}) {
    SCOPED_TRACE(threads);
    Eigen::ThreadPool pool(threads);
    expect_results_of_serial(AnyExecutor(thread_pool(pool)));
  }
}

TEST(ThreadPool, IsGivenLast) {
  const LayerNorm<long double> norm(7);
  const TokenMatrix<long double> x = TokenMatrix<long double>::Random(20000, 7);
  TokenMatrix<long double> y;
  Eigen::ThreadPool pool(3);
  norm(x, y, thread_pool(pool));
  EXPECT_TRUE(y == norm(x));
}

TEST(ThreadPool, DividesEvenly) {
  for (const int threads : {1, 2, 3, 8}) {
    SCOPED_TRACE(threads);
    Eigen::ThreadPool pool(threads);
    expect_division(thread_pool(pool), threads);
  }
}

TEST(ThreadPool, CallerAndPoolWorkTogether) {
  Eigen::ThreadPool pool(3);
  std::atomic<int> there{0};
  std::atomic<bool> all_met{true};
  const auto meet = [&](Index, Index) {
    ++there;  // and wait for the others, which can only come on threads of their own
    for (int i = 0; i < 100000 && there < 3; ++i) std::this_thread::yield();
    if (there < 3) all_met = false;
  };
  thread_pool(pool).parallel_for(3, 1, meet);
  EXPECT_TRUE(all_met);
}

TEST(ThreadPool, StaysOnAThreadOfThePoolThatCalls) {
  for (const int threads : {1, 2}) {
    SCOPED_TRACE(threads);
    Eigen::ThreadPool pool(threads);
    const auto executor = thread_pool(pool);
    run_in(pool, [&] {
      const auto ranges = ranges_of(executor, 1000, 1);
      EXPECT_EQ(ranges.size(), 1u);
      EXPECT_TRUE(all_on_this_thread(ranges));
      const Shape shape{37, 5};
      expect_same(long_double_results(shape, AnyExecutor(executor)),
                  long_double_results(shape, AnyExecutor(serial)));
    });
  }
}

TEST(ThreadPool, WaitsForNoTaskThatHasNotBegun) {
  Eigen::Barrier blocked(2);
  Eigen::Notification release;
  Eigen::ThreadPool pool(2);  // last: its threads use the others until they end
  for (int i = 0; i < 2; ++i)
    pool.Schedule([&] {
      blocked.Notify();
      release.Wait();
    });
  blocked.Wait();
  const auto ranges = ranges_of(thread_pool(pool), 1000, 1);  // would not return if it waited
  EXPECT_EQ(ranges.size(), 2u);
  EXPECT_TRUE(all_on_this_thread(ranges));
  release.Notify();
}

TEST(ThreadPool, DoesTheWorkOfACancelledPool) {
  Eigen::ThreadPool pool(3);
  pool.Cancel();
  EXPECT_EQ(ranges_of(thread_pool(pool), 1000, 1).size(), 3u);
}

TEST(ThreadPool, ServesSeveralCallersAtATime) {
  Eigen::ThreadPool pool(3);
  const auto executor = thread_pool(pool);
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      std::vector<int> hits(1000);
      for (int round = 1; round <= 200; ++round) {
        executor.parallel_for(1000, 1, [&](Index begin, Index end) {
          for (Index i = begin; i < end; ++i) ++hits[static_cast<std::size_t>(i)];
        });
        for (const int hit : hits)
          if (hit != round) ++wrong;
      }
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

/// Eigen's pool, which after some tasks has no memory for more.
class FailingPool : public Eigen::ThreadPoolInterface {
 public:
  FailingPool(int threads, int tasks) : pool_(threads), tasks_(tasks) {}
  void Schedule(std::function<void()> task) override {
    if (tasks_-- == 0) throw std::bad_alloc();
    pool_.Schedule(std::move(task));
  }
  int NumThreads() const override { return pool_.NumThreads(); }
  int CurrentThreadId() const override { return pool_.CurrentThreadId(); }

 private:
  Eigen::ThreadPool pool_;
  int tasks_;
};

TEST(ThreadPool, FinishesTheWorkBeforeAnErrorOfThePoolIsPassedOn) {
  for (const int tasks : {0, 1, 2}) {
    SCOPED_TRACE(tasks);
    FailingPool pool(4, tasks);
    std::atomic<Index> sum{0};
    const auto add = [&](Index begin, Index end) { sum += end - begin; };
    EXPECT_THROW(thread_pool(pool).parallel_for(1000, 1, add), std::bad_alloc);
    EXPECT_EQ(sum, 1000);
  }
}

}  // namespace
}  // namespace tokennorm::test
