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

#ifdef TOKENNORM_TEST_SANITIZER
// LLVM's runtime loses some of its own memory when the number of threads changes.
extern "C" const char* __lsan_default_suppressions() { return "leak:libomp"; }
#endif

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

/// By one call, once the threads are there.
template <class F>
std::size_t allocations_of(const F& f) {
  f();
  const AllocationCounter counter;
  f();
  return counter.count();
}

TEST(OpenMP, AllocatesNothingOfItsOwn) {
  if (!allocations_are_counted) GTEST_SKIP() << "allocations are not counted here";
  const ThreadCount thread_count(3);
  std::atomic<Index> sum{0};
  const std::size_t by_openmp = allocations_of([&] {
#pragma omp parallel for schedule(static) num_threads(3)
    for (int i = 0; i < 3; ++i) sum += i;
  });  // none with GCC's runtime, a few with LLVM's
  const std::size_t by_executor =
      allocations_of([&] { openmp.parallel_for(3, 1, [&](Index begin, Index) { sum += begin; }); });
  EXPECT_LE(by_executor, by_openmp);
  EXPECT_EQ(sum, 12);
}

}  // namespace
}  // namespace tokennorm::test
