// SPDX-License-Identifier: MIT
// WideDouble against numbers of more digits, and where no double would hold the result.
#include <tokennorm/kernels/simd/wide_double.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace tokennorm::kernels {
namespace {

#if defined(__x86_64__)
__extension__ typedef __float128 Wide;
#else
typedef long double Wide;
#endif

Wide wide(const WideDouble& number) {
  const auto high = static_cast<double>(number);
  return static_cast<Wide>(high) + static_cast<Wide>(static_cast<double>(number - high));
}

double random_double(std::mt19937_64& random, int largest_exponent) {
  const double fraction = std::ldexp(static_cast<double>(random() >> 11) + 1, -53);
  const int exponent = static_cast<int>(random() % static_cast<unsigned>(2 * largest_exponent));
  return std::ldexp(random() % 2 == 0 ? fraction : -fraction, exponent - largest_exponent);
}

void expect_near(const WideDouble& actual, Wide exact, Wide size, const char* what) {
  const Wide error = wide(actual) - exact, magnitude = size < 0 ? -size : size;
  // Two doubles do not tell more, and neither does Wide where it has no more digits than they.
  const double unit = sizeof(Wide) > 8 ? 0x1p-102 : 0x1p-52;
  EXPECT_LE(static_cast<double>(error < 0 ? -error : error), unit * static_cast<double>(magnitude))
      << what;
}

TEST(WideDouble, OperationsAreRightToTwoDoubles) {
  std::mt19937_64 random(951);
  for (int round = 0; round < 10000; ++round) {
    const double a = random_double(random, 200);
    // Of about the same size, or the opposite but for a few bits.
    const double b = round % 2 == 0 ? a * random_double(random, 60)
                                    : -a * (1 + 0x1p-50 * static_cast<double>(random() % 1000));
    const auto wide_a = static_cast<Wide>(a), wide_b = static_cast<Wide>(b);
    SCOPED_TRACE(::testing::Message() << std::hexfloat << a << ", " << b);
    const WideDouble x = a, y = b;
    expect_near(x + y, wide_a + wide_b, static_cast<Wide>(std::max(std::fabs(a), std::fabs(b))),
                "sum");
    expect_near(x * y, wide_a * wide_b, wide_a * wide_b, "product");
    expect_near(x / y, wide_a / wide_b, wide_a / wide_b, "quotient");
    const WideDouble root = sqrt(fabs(x));
    expect_near(root * root, wide_a < 0 ? -wide_a : wide_a, wide_a, "square of the root");
    EXPECT_EQ(x < y, a < b);
    EXPECT_EQ(static_cast<float>(x), static_cast<float>(a));
  }
}

TEST(WideDouble, NothingOverflowsOrUnderflows) {
  std::mt19937_64 random(952);
  for (int round = 0; round < 1000; ++round) {
    const double a = random_double(random, 1000), b = random_double(random, 1000);
    SCOPED_TRACE(::testing::Message() << std::hexfloat << a << ", " << b);
    const WideDouble x = a, y = b;
    EXPECT_EQ(static_cast<double>(sqrt(x * x)), std::fabs(a));
    EXPECT_EQ(static_cast<double>(x * y * x / y / x), a);
  }
  const double least = std::numeric_limits<double>::denorm_min();
  EXPECT_EQ(static_cast<double>(sqrt(WideDouble(least) * least)), least);
  EXPECT_EQ(static_cast<double>(WideDouble(1e308) + 1e308),
            std::numeric_limits<double>::infinity());
}

TEST(WideDouble, ZeroInfinityAndNaNAreThoseOfDouble) {
  const double infinity = std::numeric_limits<double>::infinity();
  const auto is_nan = [](const WideDouble& x) { return std::isnan(static_cast<double>(x)); };
  EXPECT_TRUE(WideDouble(0) == WideDouble(-0.0));
  EXPECT_FALSE(WideDouble(std::numeric_limits<double>::denorm_min()) == WideDouble(0));
  EXPECT_EQ(static_cast<double>(sqrt(WideDouble(0))), 0);
  EXPECT_EQ(static_cast<double>(WideDouble(1) / infinity), 0);
  EXPECT_EQ(static_cast<double>(WideDouble(1) / 0), infinity);
  EXPECT_EQ(static_cast<double>(WideDouble(1e300) - infinity), -infinity);
  EXPECT_TRUE(is_nan(WideDouble(infinity) - infinity));
  EXPECT_TRUE(is_nan(WideDouble(infinity) * 0));
  EXPECT_TRUE(is_nan(sqrt(WideDouble(-1))));
  EXPECT_FALSE(WideDouble(std::nan("")) <= WideDouble(1));
}

}  // namespace
}  // namespace tokennorm::kernels
