// SPDX-License-Identifier: MIT
// Loads and stores of half and bfloat16: every bit pattern one way; the other way every upper half
// of a float's bits with each kind of remainder, and doubles at which rounding twice would show.
#include "../support/scalars.hpp"
#include "levels.hpp"
#include <tokennorm/kernels/simd/memory.hpp>

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

template <class T, class A>
struct LoadTask {
  const T* from;
  A* to;
  std::size_t count;  // a multiple of every number of lanes

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int lanes = Level::template lanes<A>;
    for (std::size_t i = 0; i < count; i += lanes)
      kernels::store(to + i, kernels::load<A, lanes>(from + i));
  }
};

template <class A, class T>
struct StoreTask {
  const A* from;
  T* to;
  std::size_t count;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int lanes = Level::template lanes<A>;
    for (std::size_t i = 0; i < count; i += lanes)
      kernels::store(to + i, kernels::load<A, lanes>(from + i));
  }
};

constexpr std::size_t most_lanes = 16;

template <class Value>
void pad(std::vector<Value>& values) {
  while (values.size() % most_lanes != 0) values.push_back(Value(0));
}

template <class T>
std::uint16_t bits_of(const T& value) {
  return Eigen::numext::bit_cast<std::uint16_t>(value);
}

/// "A subnormal bfloat16 result may become zero", the only leave: the machine's own conversion
/// takes every float below the normal ones for a zero, even one that would be rounded up to a
/// normal bfloat16. The others keep them all.
template <class T, class A>
bool becomes_zero(A value) {
  return std::is_same_v<T, Eigen::bfloat16> && std::is_same_v<A, float> && isa() == Isa::avx512 &&
         detail::has_bfloat16() && std::fabs(value) < A(0x1p-126f);
}

template <class T_, class A_>
struct DoubleDouble {
  using T = T_;  // in memory
  using A = A_;  // in arithmetic
};

template <class DoubleDouble>
class Conversions;

template <class T, class A>
class Conversions<DoubleDouble<T, A>> : public ::testing::Test {
 protected:
  /// Rounded once, to nearest even; the value is representable in float.
  static T expected(A value) {
    return T(static_cast<float>(rounded_to<T>(static_cast<long double>(value))));
  }

  static bool is_right(T stored, A value, T expected) {
    if (std::isnan(value))
      return std::isnan(static_cast<float>(stored)) &&
             std::signbit(static_cast<float>(stored)) == std::signbit(value);
    if (becomes_zero<T>(value)) expected = T(std::signbit(value) ? -0.0f : 0.0f);
    return bits_of(stored) == bits_of(expected);
  }

  static void expect_rounded_once(std::vector<A> values) {
    pad(values);
    std::vector<T> right(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) right[i] = expected(values[i]);
    with_every_conversion([&] {
      std::vector<T> stored(values.size());
      kernels::dispatch(StoreTask<A, T>{values.data(), stored.data(), values.size()});
      int wrong = 0;
      for (std::size_t i = 0; i < values.size() && wrong < 5; ++i) {
        if (is_right(stored[i], values[i], right[i])) continue;
        ++wrong;
        ADD_FAILURE() << std::hexfloat << values[i] << " became " << static_cast<float>(stored[i])
                      << ", expected " << static_cast<float>(right[i]);
      }
    });
  }
};

using DoubleDoubles =
    ::testing::Types<DoubleDouble<Eigen::half, float>, DoubleDouble<Eigen::half, double>,
                     DoubleDouble<Eigen::bfloat16, float>, DoubleDouble<Eigen::bfloat16, double>>;
struct PairName {
  template <class P>
  static std::string GetName(int) {
    return scalar_name<typename P::T>() + "_and_" + scalar_name<typename P::A>();
  }
};
TYPED_TEST_SUITE(Conversions, DoubleDoubles, PairName);

TYPED_TEST(Conversions, LoadEveryBitPatternAsEigenDoes) {
  using T = typename TypeParam::T;
  using A = typename TypeParam::A;
  std::vector<T> all(65536);
  for (std::size_t bits = 0; bits < all.size(); ++bits)
    all[bits] = Eigen::numext::bit_cast<T>(static_cast<std::uint16_t>(bits));
  at_every_level([&] {
    std::vector<A> loaded(all.size());
    kernels::dispatch(LoadTask<T, A>{all.data(), loaded.data(), all.size()});
    for (std::size_t bits = 0; bits < all.size(); ++bits) {
      const float expected = static_cast<float>(all[bits]);
      ASSERT_EQ(std::signbit(loaded[bits]), std::signbit(expected)) << std::hex << bits;
      if (std::isnan(expected))
        ASSERT_TRUE(std::isnan(loaded[bits])) << std::hex << bits;
      else
        ASSERT_EQ(loaded[bits], static_cast<A>(expected)) << std::hex << bits;
    }
  });
}

TYPED_TEST(Conversions, StoreWhatWasLoadedUnchanged) {
  using T = typename TypeParam::T;
  using A = typename TypeParam::A;
  std::vector<A> values;
  for (std::uint32_t bits = 0; bits < 65536; ++bits)
    values.push_back(static_cast<A>(
        static_cast<float>(Eigen::numext::bit_cast<T>(static_cast<std::uint16_t>(bits)))));
  this->expect_rounded_once(values);
}

TYPED_TEST(Conversions, StoreEveryKindOfFloatRoundedOnce) {
  using A = typename TypeParam::A;
  // Of the 13 bits that a normal half drops: none, little, a tie and its neighbours, all. Beside
  // every pattern of the 19 above, this has the ties of bfloat16 and of subnormal halves as well.
  // A sign, and a detour through double, change nothing of this: a few of each will do.
  std::vector<A> values;
  for (std::uint32_t upper = 0; upper < (1u << 19); ++upper) {
    const bool negative = upper >= (1u << 18);
    if ((negative || std::is_same_v<A, double>)&&upper % 11 != 0) continue;
    for (const std::uint32_t rest : {0x0000u, 0x0001u, 0x0fffu, 0x1000u, 0x1001u, 0x1fffu})
      values.push_back(static_cast<A>(std::bit_cast<float>((upper << 13) | rest)));
  }
  this->expect_rounded_once(std::move(values));
}

TYPED_TEST(Conversions, StoreAsEigenDoes) {
  using T = typename TypeParam::T;
  std::vector<float> values;
  for (std::uint32_t i = 0; i < (1u << 20); ++i)
    values.push_back(std::bit_cast<float>(i * 2654435761u));  // spread over all patterns
  std::vector<T> stored(values.size());
  with_every_conversion([&] {
    kernels::dispatch(StoreTask<float, T>{values.data(), stored.data(), values.size()});
    int wrong = 0;
    for (std::size_t i = 0; i < values.size() && wrong < 5; ++i) {
      const T expected(values[i]);
      if (std::isnan(values[i]) ? std::isnan(static_cast<float>(stored[i]))
                                : bits_of(stored[i]) == bits_of(expected))
        continue;
      if (becomes_zero<T>(values[i]) && static_cast<float>(stored[i]) == 0.0f) continue;
      ++wrong;
      ADD_FAILURE() << std::hexfloat << values[i] << " became " << static_cast<float>(stored[i])
                    << ", with Eigen " << static_cast<float>(expected);
    }
  });
}

TYPED_TEST(Conversions, StoreDoublesBesideATieRoundedOnce) {
  using T = typename TypeParam::T;
  using A = typename TypeParam::A;
  if constexpr (std::is_same_v<A, double>) {
    std::vector<double> values;
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
      // The tie between a value and the next of its sign, infinity standing at the power of two.
      const auto value = [](std::uint32_t of) {
        const float v =
            static_cast<float>(Eigen::numext::bit_cast<T>(static_cast<std::uint16_t>(of)));
        return std::isinf(v) ? std::copysign(std::ldexp(1.0, ScalarFacts<T>::largest_exponent + 1),
                                             static_cast<double>(v))
                             : static_cast<double>(v);
      };
      const double low = value(bits), high = (bits & 0x7fff) == 0x7fff ? low : value(bits + 1);
      if (std::isnan(low) || std::isnan(high)) continue;
      const double tie = (low + high) / 2;
      values.insert(values.end(), {tie, std::nextafter(tie, 0.0), std::nextafter(tie, 4 * tie),
                                   tie * (1 + 0x1p-30), tie * (1 - 0x1p-30), tie * (1 + 0x1p-26),
                                   tie * (1 - 0x1p-26)});
    }
    this->expect_rounded_once(std::move(values));
  }
}

TYPED_TEST(Conversions, StoreDoublesOutsideTheRangeOfFloat) {
  using A = typename TypeParam::A;
  if constexpr (std::is_same_v<A, double>) {
    std::vector<double> values;
    using Limits = std::numeric_limits<double>;
    for (const double value :
         {0.0, Limits::denorm_min(), Limits::min(), 1e-300, 0x1p-150, 0x1.8p-150, 0x1p-149,
          0x1.8p-149, 0x1p-140, 0x1.fffffep127, 0x1.fffffefp127, 0x1.ffffffp127, 0x1.ffffff8p127,
          0x1p128, 1e300, Limits::max(), Limits::infinity(), Limits::quiet_NaN()})
      values.insert(values.end(), {value, -value});
    this->expect_rounded_once(std::move(values));
  }
}

TEST(FloatAndDouble, ConvertToEachOtherRoundedToNearest) {
  std::vector<double> values;
  for (std::uint64_t i = 0; i < (1u << 16); ++i) {
    const double value = std::bit_cast<double>(i * 0x9e3779b97f4a7c15u);
    if (!std::isnan(value)) values.push_back(value);
    values.push_back(1 + std::ldexp(static_cast<double>(i), -30));  // ties among them
  }
  pad(values);
  at_every_level([&] {
    std::vector<float> stored(values.size());
    kernels::dispatch(StoreTask<double, float>{values.data(), stored.data(), values.size()});
    for (std::size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(stored[i], static_cast<float>(values[i])) << std::hexfloat << values[i];
    std::vector<double> back(values.size());
    kernels::dispatch(LoadTask<float, double>{stored.data(), back.data(), values.size()});
    std::vector<double> stored_wide(values.size());
    kernels::dispatch(StoreTask<float, double>{stored.data(), stored_wide.data(), values.size()});
    std::vector<float> narrowed(values.size());
    kernels::dispatch(LoadTask<double, float>{values.data(), narrowed.data(), values.size()});
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(back[i], static_cast<double>(stored[i]));
      ASSERT_EQ(stored_wide[i], static_cast<double>(stored[i]));
      ASSERT_EQ(narrowed[i], stored[i]);
    }
  });
}

}  // namespace
}  // namespace tokennorm::test
