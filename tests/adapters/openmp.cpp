// SPDX-License-Identifier: MIT
// The executor on OpenMP's threads.
#include "../support/allocation_counter.hpp"
#include "division.hpp"
#include "every_call.hpp"
#include <tokennorm/adapters/openmp.hpp>
#include <tokennorm/norm/layer_norm.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <type_traits>

namespace tokennorm::test {
namespace {

static_assert(Executor<OpenMP> && Executor<const OpenMP&>);
static_assert(std::is_empty_v<OpenMP>);

/// So many threads until the end of its scope.
class ThreadCount {
 public:
  explicit ThreadCount(int count) : before_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;
  ~ThreadCount() { omp_set_num_threads(before_); }

 private:
  int before_;
};

TEST(OpenMP, EveryCallHasTheBitsOfSerial) {
  for (const int threads : {1, 2, 3, 8}) {
    SCOPED_TRACE(threads);
    const ThreadCount thread_count(threads);
    expect_results_of_serial(AnyExecutor(openmp));
  }
}

TEST(OpenMP, IsGivenLast) {
  const LayerNorm<long double> norm(7);
  const TokenMatrix<long double> x = TokenMatrix<long double>::Random(20000, 7);
  TokenMatrix<long double> y;
  const ThreadCount thread_count(3);
  norm(x, y, openmp);
  EXPECT_TRUE(y == norm(x));
}

TEST(OpenMP, DividesEvenly) {
  for (const int threads : {1, 2, 3, 8}) {
    SCOPED_TRACE(threads);
    const ThreadCount thread_count(threads);
    expect_division(openmp, threads);
  }
}

TEST(OpenMP, TakesAThreadForEachRange) {
  const ThreadCount thread_count(3);
  std::atomic<int> there{0};
  std::atomic<bool> all_met{true};
  openmp.parallel_for(3, 1, [&](Index, Index) {
    ++there;  // and wait for the others, which can only come on threads of their own
    for (int i = 0; i < 100000 && there < 3; ++i) std::this_thread::yield();
    if (there < 3) all_met = false;
  });
  EXPECT_TRUE(all_met);
}

TEST(OpenMP, StaysOnItsThreadInsideAParallelRegion) {
  const ThreadCount thread_count(4);
  std::atomic<int> wrong{0}, team{0};
#pragma omp parallel num_threads(2)
  {
    ++team;
    const auto ranges = ranges_of(openmp, 1000, 1);
    if (ranges.size() != 1 || !all_on_this_thread(ranges)) ++wrong;
    const AnyExecutor nested(openmp);
    const Shape shape{37, 5};
    const Results expected = long_double_results(shape, AnyExecutor(serial));
    if (long_double_results(shape, nested) != expected) ++wrong;
  }
  EXPECT_EQ(team, 2);
  EXPECT_EQ(wrong, 0);
}

TEST(OpenMP, AllocatesNothingOnceItsThreadsAreThere) {
  if (!allocations_are_counted) GTEST_SKIP() << "allocations are not counted here";
  const ThreadCount thread_count(3);
  std::atomic<Index> sum{0};
  const auto add = [&](Index begin, Index end) { sum += end - begin; };
  openmp.parallel_for(1000, 1, add);
  const AllocationCounter counter;
  for (int i = 0; i < 10; ++i) openmp.parallel_for(1000, 1, add);
  EXPECT_EQ(counter.count(), 0u);
  EXPECT_EQ(sum, 11000);
}

}  // namespace
}  // namespace tokennorm::test
