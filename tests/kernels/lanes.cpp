// SPDX-License-Identifier: MIT
// The first n lanes of a register, sums over its lanes, and rounding to what is stored.
#include "../support/scalars.hpp"
#include "levels.hpp"
#include <tokennorm/kernels/simd/memory.hpp>

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

constexpr int most_lanes = 16;

template <class P>
class FirstLanes : public ::testing::Test {};

template <class A_, class T_>
struct Memory {
  using A = A_;
  using T = T_;
};
using Memories =
    ::testing::Types<Memory<float, float>, Memory<float, double>, Memory<float, Eigen::half>,
                     Memory<float, Eigen::bfloat16>, Memory<double, double>, Memory<double, float>,
                     Memory<double, Eigen::half>, Memory<double, Eigen::bfloat16>>;
struct MemoryName {
  template <class P>
  static std::string GetName(int) {
    return scalar_name<typename P::A>() + "_from_" + scalar_name<typename P::T>();
  }
};
TYPED_TEST_SUITE(FirstLanes, Memories, MemoryName);

/// Loads the first n of memory that ends behind them, keeps the first n, and stores n.
template <class A, class T>
struct FirstTask {
  const std::vector<T>& from;  // n values, no more: reading behind them is an error to a sanitizer
  A* loaded;                   // all the lanes of a load of n
  A* kept;                     // all the lanes of the first n of a whole register
  T* stored;                   // at most n of these are written
  int* lanes;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int W = Level::template lanes<A>;
    *lanes = W;
    const auto n = static_cast<Index>(from.size());
    if (n >= W) return;
    const auto values = kernels::load_first<A, W>(from.data(), n);
    kernels::store(loaded, values);
    const kernels::Lanes<A, W> ones(A(1));
    kernels::store(kept, kernels::first_lanes(values + ones, n));
    kernels::store_first(stored, values + ones, n);
  }
};

TYPED_TEST(FirstLanes, AreLoadedAndStoredAndNothingBehindThem) {
  using A = typename TypeParam::A;
  using T = typename TypeParam::T;
  at_every_level([&] {
    for (int n = 0; n < most_lanes; ++n) {
      SCOPED_TRACE(n);
      std::vector<T> from;
      for (int i = 0; i < n; ++i) from.push_back(T(static_cast<float>(i) + 0.5f));
      from.shrink_to_fit();
      std::vector<A> loaded(most_lanes, A(-7)), kept(most_lanes, A(-7));
      std::vector<T> stored(most_lanes, T(-7.0f));
      int lanes = 0;
      kernels::dispatch(FirstTask<A, T>{from, loaded.data(), kept.data(), stored.data(), &lanes});
      if (n >= lanes) break;
      for (int i = 0; i < most_lanes; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const A value = static_cast<A>(i) + A(0.5);
        EXPECT_EQ(loaded[at], i < n ? value : A(i < lanes ? 0 : -7)) << i;
        EXPECT_EQ(kept[at], i < n ? value + 1 : A(i < lanes ? 0 : -7)) << i;
        EXPECT_EQ(static_cast<A>(stored[at]), i < n ? value + 1 : A(-7)) << i;
      }
    }
  });
}

template <class A>
struct SumTask {
  A* sum;
  A* fused;
  int* lanes;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int W = Level::template lanes<A>;
    *lanes = W;
    kernels::Array<A, W> counting;
    for (int i = 0; i < W; ++i) counting[i] = A(i + 1);
    const auto v = kernels::load<A, W>(&counting[0]);
    *sum = kernels::horizontal_sum(v);
    const kernels::Lanes<A, W> two(A(2)), three(A(3));
    *fused = kernels::horizontal_sum(kernels::multiply_add(v, two, three));
  }
};

template <class A>
class LaneArithmetic : public ::testing::Test {};
using Accumulators = ::testing::Types<float, double>;
struct AccumulatorName {
  template <class A>
  static std::string GetName(int) {
    return scalar_name<A>();
  }
};
TYPED_TEST_SUITE(LaneArithmetic, Accumulators, AccumulatorName);

TYPED_TEST(LaneArithmetic, SumsEveryLaneOnce) {
  at_every_level([&] {
    TypeParam sum = 0, fused = 0;
    int lanes = 0;
    kernels::dispatch(SumTask<TypeParam>{&sum, &fused, &lanes});
    const TypeParam expected = static_cast<TypeParam>(lanes * (lanes + 1) / 2);
    EXPECT_EQ(sum, expected);
    EXPECT_EQ(fused, 2 * expected + static_cast<TypeParam>(3 * lanes));
  });
}

/// The value as it is read back, and what is really read back.
template <class A, class T>
struct RoundedTask {
  const A* values;
  A* rounded;
  T* stored;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int W = Level::template lanes<A>;
    for (int i = 0; i < most_lanes; i += W) {
      const auto v = kernels::load<A, W>(values + i);
      kernels::store(rounded + i, kernels::rounded_to<T>(v));
      kernels::store(stored + i, v);
    }
  }
};

TYPED_TEST(FirstLanes, RoundedToWhatIsStoredIsWhatIsReadBack) {
  using A = typename TypeParam::A;
  using T = typename TypeParam::T;
  std::vector<A> values;
  for (int i = 0; i < most_lanes; ++i)
    values.push_back(std::ldexp(A(1) / A(3), 2 * i - 20) * A(i % 2 == 0 ? 1 : -1));
  at_every_level([&] {
    std::vector<A> rounded(most_lanes);
    std::vector<T> stored(most_lanes);
    kernels::dispatch(RoundedTask<A, T>{values.data(), rounded.data(), stored.data()});
    for (std::size_t i = 0; i < most_lanes; ++i) EXPECT_EQ(rounded[i], static_cast<A>(stored[i]));
  });
}

}  // namespace
}  // namespace tokennorm::test
