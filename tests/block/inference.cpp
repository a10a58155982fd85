// SPDX-License-Identifier: MIT
// Inference of every placement: its equation in long double, and the bits of its parts run one by
// one; causal stays causal, and a token's bits and its NaN are its own.
#include "../support/exact_bits.hpp"
#include "equations.hpp"
#include "executors.hpp"
#include "placements.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace tokennorm::test {
namespace {

template <class Placement>
class Inference : public ::testing::Test {
 protected:
  /// Several norms and products of up to 65 terms in a row.
  template <class Scalar>
  static void expect_near_equation(Shape shape, Seed seed) {
    SCOPED_TRACE(::testing::Message() << scalar_name<Scalar>() << ", " << shape << ", " << seed);
    const auto block = Placement::template make<Scalar>(shape.channels);
    const auto x = random_normal<TokenMatrix<Scalar>>(shape, seed, 0.5, 2);
    const ExactMatrix expected = equation<Exactly>(block, exact(x));
    const TokenMatrix<Scalar> y = block(x);
    ASSERT_EQ(y.rows(), shape.tokens);
    ASSERT_EQ(y.cols(), shape.channels);
    const long double error = (exact(y) - expected).cwiseAbs().maxCoeff();
    EXPECT_LE(error, 256 * unit<Scalar>() * (1 + expected.cwiseAbs().maxCoeff()));
  }
};

TYPED_TEST_SUITE(Inference, AllPlacements, PlacementName);

TYPED_TEST(Inference, EqualsTheEquation) {
  for (const Shape shape : {Shape{1, 8}, Shape{5, 17}, Shape{4, 33}, Shape{19, 65}}) {
    this->template expect_near_equation<double>(shape, Seed{3001});
    this->template expect_near_equation<float>(shape, Seed{3002});
  }
}

TYPED_TEST(Inference, HasTheBitsOfItsPartsRunOneByOne) {
  for (const Shape shape :
       {Shape{4, 1}, Shape{1, 3}, Shape{2, 16}, Shape{5, 31}, Shape{9, 64}, Shape{3, 129}}) {
    SCOPED_TRACE(shape);
    const auto in_double = TypeParam::template make<double>(shape.channels);
    const auto x = random_normal<TokenMatrix<double>>(shape, Seed{3011}, -1, 3);
    EXPECT_TRUE(same_bits(in_double(x), equation<StepByStep<double>>(in_double, x)));
    const auto in_float = TypeParam::template make<float>(shape.channels);
    const auto z = random_normal<TokenMatrix<float>>(shape, Seed{3012}, -1, 3);
    EXPECT_TRUE(same_bits(in_float(z), equation<StepByStep<float>>(in_float, z)));
  }
}

TYPED_TEST(Inference, OutputsBeforeAChangedTokenKeepTheirBits) {
  const Shape shape{23, 19};
  const auto block = TypeParam::template make<double>(shape.channels);
  const auto x = random_normal<TokenMatrix<double>>(shape, Seed{3021});
  const TokenMatrix<double> y = block(x);
  for (const Index t : {Index{1}, Index{4}, Index{16}, Index{22}}) {
    SCOPED_TRACE(t);
    TokenMatrix<double> changed = x;
    changed.row(t).setConstant(std::numeric_limits<double>::infinity());
    EXPECT_TRUE(same_bits(block(changed).topRows(t), y.topRows(t)));
    changed.row(t) = -x.row(t);
    const TokenMatrix<double> z = block(changed);
    EXPECT_TRUE(same_bits(z.topRows(t), y.topRows(t)));
    EXPECT_FALSE(same_bits(z.row(t), y.row(t))) << "the change must be seen at all";
    EXPECT_FALSE(same_bits(z.bottomRows(1), y.bottomRows(1))) << "and by the tokens after it";
  }
}

TYPED_TEST(Inference, APrefixHasTheBitsItHasInTheWholeBatch) {
  const Shape shape{37, 21};
  const auto block = TypeParam::template make<float>(shape.channels);
  const auto x = random_normal<TokenMatrix<float>>(shape, Seed{3031});
  const TokenMatrix<float> y = block(x);
  for (const Index t : {Index{1}, Index{2}, Index{7}, Index{32}}) {
    SCOPED_TRACE(t);
    EXPECT_TRUE(same_bits(block(TokenMatrix<float>(x.topRows(t))), y.topRows(t)));
  }
}

TYPED_TEST(Inference, NaNStaysBehindTheTokenThatHasIt) {
  const auto block = TypeParam::template make<double>(9);
  auto x = random_normal<TokenMatrix<double>>({6, 9}, Seed{3041});
  const TokenMatrix<double> y = block(x);
  x(4, 3) = std::numeric_limits<double>::quiet_NaN();
  const TokenMatrix<double> z = block(x);
  EXPECT_TRUE(same_bits(z.topRows(4), y.topRows(4)));
  EXPECT_TRUE(z.row(4).array().isNaN().all());
}

TYPED_TEST(Inference, ZeroTokensAreFine) {
  const auto block = TypeParam::template make<double>(9);
  const TokenMatrix<double> y = block(TokenMatrix<double>(0, 9));
  EXPECT_EQ(y.rows(), 0);
  EXPECT_EQ(y.cols(), 9);
}

TYPED_TEST(Inference, TakesAGivenOutputAndWorkspaceOfAnyShape) {
  const auto block = TypeParam::template make<double>(12);
  Workspace<double> workspace;
  TokenMatrix<double> y(100, 1);
  for (const Index tokens : {5, 2, 0, 33, 1}) {  // a workspace serves calls of other shapes
    SCOPED_TRACE(tokens);
    const auto x = random_normal<TokenMatrix<double>>({tokens, 12}, Seed{3051});
    const TokenMatrix<double> expected = block(x);
    block(x, y, workspace);
    EXPECT_TRUE(same_bits(y, expected));
    TokenMatrix<double> in_place = x;
    block(in_place, in_place, workspace);
    EXPECT_TRUE(same_bits(in_place, expected)) << "in place";
  }
}

TYPED_TEST(Inference, HasTheSameBitsUnderEveryExecutor) {
  const auto block = TypeParam::template make<double>(13);
  Workspace<double> workspace;
  const auto x = random_normal<TokenMatrix<double>>({29, 13}, Seed{3061});
  const TokenMatrix<double> expected = block(x);
  for (const Division division : {Division::whole, Division::odd_pieces_backwards,
                                  Division::one_by_one, Division::on_threads}) {
    SCOPED_TRACE(division);
    TokenMatrix<double> y;
    block(x, y, workspace, TestExecutor{division});
    EXPECT_TRUE(same_bits(y, expected));
    TokenMatrix<double> in_place = x;
    block(in_place, in_place, workspace, TestExecutor{division});
    EXPECT_TRUE(same_bits(in_place, expected)) << "in place";
  }
}

TYPED_TEST(Inference, LeavesBlockAndWorkspaceUsableWhereAnExecutorOrASublayerThrows) {
  const auto block = TypeParam::template make<double>(13);
  Workspace<double> workspace;
  const auto x = random_normal<TokenMatrix<double>>({11, 13}, Seed{3071});
  const TokenMatrix<double> expected = block(x);
  TokenMatrix<double> y;
  const TestExecutor executor{Division::odd_pieces_backwards};
  EXPECT_GE(throw_at_each_point([&] { block(x, y, workspace, executor); },
                                [&] {
                                  block(x, y, workspace);
                                  EXPECT_TRUE(same_bits(y, expected));
                                }),
            6);
  EXPECT_TRUE(same_bits(y, expected));
}

}  // namespace
}  // namespace tokennorm::test
