// SPDX-License-Identifier: MIT
// Sums of any numbers in any order and division: the same bits, near the sum in long double.
#include "../support/message_of.hpp"
#include "../support/scalars.hpp"
#include <tokennorm/core/reproducible_sum.hpp>
#include <tokennorm/norm/layer_norm.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace tokennorm::test {
namespace {

template <class Scalar>
class ReproducibleSums : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ReproducibleSums, Scalars);

/// Numbers of a range of exponents, from the least subnormal on where it reaches there.
template <class Scalar>
std::vector<Scalar> numbers(unsigned seed, int lowest, int highest) {
  std::mt19937_64 random(seed);
  std::vector<Scalar> all;
  for (int i = 0; i < 1000; ++i) {
    const auto digits = static_cast<Scalar>(static_cast<double>(random()) / 0x1p63 - 1);
    const int span = highest - lowest + 1;
    const int exponent = lowest + static_cast<int>(random() % static_cast<unsigned>(span));
    all.push_back(std::ldexp(digits, exponent));
  }
  return all;
}

template <class Scalar>
Scalar sum_of(const std::vector<Scalar>& all) {
  detail::SumOfDigits<Scalar> sum;
  for (const Scalar number : all) sum.add(number);
  return sum.rounded();
}

TYPED_TEST(ReproducibleSums, HaveTheBitsOfNoOrder) {
  using Limits = std::numeric_limits<TypeParam>;
  const int least = Limits::min_exponent - Limits::digits;
  unsigned seed = 0;
  for (const auto& [lowest, highest] : std::vector<std::pair<int, int>>{{0, 0},
                                                                        {-3, 3},
                                                                        {-30, 30},
                                                                        {-100, 100},
                                                                        {least, least + 9},
                                                                        {least, 0},
                                                                        {90, 110},
                                                                        {31, 33},
                                                                        {-1, 0}}) {
    SCOPED_TRACE(lowest);
    auto all = numbers<TypeParam>(++seed, lowest, highest);
    const TypeParam expected = sum_of(all);
    std::mt19937_64 random(seed);
    for (std::size_t order = 0; order < 10; ++order) {
      std::shuffle(all.begin(), all.end(), random);
      EXPECT_EQ(sum_of(all), expected);
      std::vector<detail::SumOfDigits<TypeParam>> parts(1 + order);
      for (std::size_t i = 0; i < all.size(); ++i) parts[random() % parts.size()].add(all[i]);
      for (std::size_t p = 1; p < parts.size(); ++p) parts[0].merge(parts[p], parts[0]);
      EXPECT_EQ(parts[0].rounded(), expected);
    }
  }
}

/// Against a sum in long double of 64 digits, which the numbers do not use up.
TYPED_TEST(ReproducibleSums, AreRoundedOnce) {
  if (std::numeric_limits<long double>::digits < 64) GTEST_SKIP();
  using Limits = std::numeric_limits<TypeParam>;
  for (unsigned seed = 0; seed < 50; ++seed) {
    const auto all = numbers<TypeParam>(seed, seed % 5 == 0 ? 40 : 0, seed % 5 == 0 ? 44 : 2);
    long double sum = 0, size = 0;
    for (const TypeParam number : all) {
      sum += to_exact(number);
      size = std::max(size, std::fabs(to_exact(number)));
    }
    const long double error = std::fabs(to_exact(sum_of(all)) - sum);
    EXPECT_LE(error, std::fabs(sum) * to_exact(Limits::epsilon()) / 2 + size * 1000 * 0x1p-63L);
  }
}

TYPED_TEST(ReproducibleSums, OfEndsOfTheRange) {
  using Limits = std::numeric_limits<TypeParam>;
  const TypeParam max = Limits::max(), tiny = Limits::denorm_min(), inf = Limits::infinity();
  EXPECT_EQ(sum_of<TypeParam>({}), 0);
  EXPECT_EQ(sum_of<TypeParam>({0, -0.0}), 0);
  EXPECT_EQ(sum_of<TypeParam>({max}), max);
  EXPECT_EQ(sum_of<TypeParam>({max, max, -max}), max);  // also where a sum between is beyond
  EXPECT_EQ(sum_of<TypeParam>({max, max}), inf);
  EXPECT_EQ(sum_of<TypeParam>({tiny, tiny, tiny}), 3 * tiny);
  EXPECT_EQ(sum_of<TypeParam>({-tiny}), -tiny);
  EXPECT_EQ(sum_of<TypeParam>({1, tiny, -1}), 0);  // far below the largest
  EXPECT_EQ(sum_of<TypeParam>({1, -inf, 5}), -inf);
  EXPECT_TRUE(std::isnan(sum_of<TypeParam>({inf, -inf})));
  EXPECT_TRUE(std::isnan(sum_of<TypeParam>({1, Limits::quiet_NaN(), 1})));
}

TYPED_TEST(ReproducibleSums, TakeTheGradientsOfAModule) {
  LayerNorm<TypeParam> norm(2);
  ReproducibleSum<TypeParam> sum;
  for (const int i : {1, 2, 3}) {
    norm.gradients().scale << TypeParam(i), TypeParam(0.5);
    norm.gradients().shift << TypeParam(-i), TypeParam(0);
    sum.add(norm);
    EXPECT_TRUE(norm.gradients().scale.isZero(0));
  }
  sum.move_to(norm);
  EXPECT_EQ(norm.gradients().scale(0), 6);
  EXPECT_EQ(norm.gradients().scale(1), 1.5);
  EXPECT_EQ(norm.gradients().shift(0), -6);
  sum.add(norm);
  LayerNorm<TypeParam> other(3);
  EXPECT_EQ(message_of([&] { sum.add(other); }),
            "tokennorm: ReproducibleSum: there are 6 gradients; expected 4");
}

}  // namespace
}  // namespace tokennorm::test
