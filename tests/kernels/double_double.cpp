// SPDX-License-Identifier: MIT
// DoubleDoubles of doubles, against integers and numbers of more digits: sums and products of
// doubles are exact, of pairs within their bound, and a root is rounded once.
#include "levels.hpp"
#include <tokennorm/kernels/simd/double_double.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>

namespace tokennorm::kernels {
namespace {

constexpr int width = 2;  // which every level has
using V = Lanes<double, width>;
using P = DoubleDoubles<width>;

#if defined(__x86_64__)
__extension__ typedef __float128 Wide;
#else
typedef long double Wide;
#endif
__extension__ typedef __int128 WideInteger;

Wide wide(const P& pairs) {
  return static_cast<Wide>(pairs.high[0]) + static_cast<Wide>(pairs.low[0]);
}
void expect_near(const P& pairs, Wide exact, Wide bound, const char* what) {
  const Wide error = wide(pairs) - exact;
  EXPECT_LE(static_cast<double>(error < 0 ? -error : error), static_cast<double>(bound)) << what;
}

/// An integer of 53 bits or a few less, with a sign.
double random_integer(std::mt19937_64& random) {
  const auto value = static_cast<std::int64_t>(random() >> (11 + random() % 8));
  return static_cast<double>(random() % 2 == 0 ? value : -value);
}
P random_pairs(std::mt19937_64& random) {
  const double high = random_integer(random);
  return {V(high), V(high * 0x1p-53 * std::ldexp(random_integer(random), -53))};
}

struct CompareTask {
  std::mt19937_64& random;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const double a = random_integer(random), b = random_integer(random);
    const auto integer = [](double value) { return static_cast<WideInteger>(value); };

    const P product_of_doubles = two_product<Level>(V(a), V(b));
    EXPECT_TRUE(integer(product_of_doubles.high[0]) + integer(product_of_doubles.low[0]) ==
                integer(a) * integer(b))
        << a << " * " << b;

    const double far = std::ldexp(b, static_cast<int>(random() % 40));
    const P sum_of_doubles = two_sum(V(a), V(far));
    EXPECT_TRUE(integer(sum_of_doubles.high[0]) + integer(sum_of_doubles.low[0]) ==
                integer(a) + integer(far))
        << a << " + " << far;

    const P p = random_pairs(random), q = random_pairs(random);
    const Wide unit = static_cast<Wide>(0x1p-104), exact = wide(p) * wide(q);
    expect_near(product<Level>(p, q), exact, 4 * unit * (exact < 0 ? -exact : exact), "p * q");
    const auto larger = static_cast<Wide>(std::fmax(std::fabs(p.high[0]), std::fabs(q.high[0])));
    expect_near(p + q, wide(p) + wide(q), 4 * unit * larger, "p + q");
    const DoubleDouble scalar = p[0] + q[0];
    expect_near({V(scalar.high), V(scalar.low)}, wide(p) + wide(q), 4 * unit * larger, "p + q");

    const double n = 1 + std::fabs(a);
    expect_near(reciprocal<Level, width>(n), 1 / static_cast<Wide>(n),
                4 * unit / static_cast<Wide>(n), "1 / n");
  }
};

struct RootTask {
  std::mt19937_64& random;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const double high =
        std::ldexp(1 + std::fabs(random_integer(random)), static_cast<int>(random() % 1600) - 850);
    const P p{V(high), V(high * 0x1p-53 * std::ldexp(random_integer(random), -53))};
    const double root = reciprocal_root<Level>(p)[0];
    const long double exact =
        1 / std::sqrt(static_cast<long double>(p.high[0]) + static_cast<long double>(p.low[0]));
    const long double unit = std::ldexp(1.0L, std::ilogb(root) - 52);
    EXPECT_LE(std::fabs(static_cast<long double>(root) - exact) / unit, 0.501L) << high;
  }
};

TEST(DoubleDoubles, KeepWhatDoublesLose) {
  test::at_every_level([] {
    std::mt19937_64 random(7);
    for (int i = 0; i < 20000 && !testing::Test::HasFailure(); ++i) dispatch(CompareTask{random});
  });
}

TEST(DoubleDoubles, RoundARootOnce) {
  test::at_every_level([] {
    std::mt19937_64 random(11);
    for (int i = 0; i < 20000 && !testing::Test::HasFailure(); ++i) dispatch(RootTask{random});
  });
}

struct MemoryTask {
  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int lanes = Level::template lanes<double>;
    alignas(64) Array<DoubleDouble, lanes> from, to;
    for (int i = 0; i < lanes; ++i) from[i] = {static_cast<double>(i), -0.5 * i};
    const auto pairs = load<lanes>(static_cast<const DoubleDouble*>(from));
    store(to, pairs);
    for (int i = 0; i < lanes; ++i) {
      EXPECT_EQ(pairs[i].high, i);
      EXPECT_EQ(pairs[i].low, -0.5 * i);
      EXPECT_EQ(to[i].high, from[i].high);
      EXPECT_EQ(to[i].low, from[i].low);
    }
  }
};

TEST(DoubleDoubles, StandSideBySideInMemory) {
  test::at_every_level([] { dispatch(MemoryTask{}); });
}

}  // namespace
}  // namespace tokennorm::kernels
