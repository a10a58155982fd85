// SPDX-License-Identifier: MIT
// Inference of every placement: its equation in long double, and the bits of its parts run one by
// one; causal stays causal, and a token's bits and its NaN are its own.
#include "../support/exact_bits.hpp"
#include "placements.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace tokennorm::test {
namespace {

class Inference : public Placements {
 protected:
  /// Several norms and products of up to 65 terms in a row.
  template <class Scalar>
  static void expect_near_equation(Shape shape, Seed seed) {
    SCOPED_TRACE(::testing::Message() << scalar_name<Scalar>() << ", " << shape << ", " << seed);
    const auto block = make<Scalar>(shape.channels);
    const auto x = random_normal<TokenMatrix<Scalar>>(shape, seed, 0.5, 2);
    const ExactMatrix expected = block->exact(exact(x));
    const TokenMatrix<Scalar> y = (*block)(x);
    ASSERT_EQ(y.rows(), shape.tokens);
    ASSERT_EQ(y.cols(), shape.channels);
    const long double error = (exact(y) - expected).cwiseAbs().maxCoeff();
    EXPECT_LE(error, 256 * unit<Scalar>() * (1 + expected.cwiseAbs().maxCoeff()));
  }
};

TOKENNORM_TEST_EVERY_PLACEMENT(Inference);

TEST_P(Inference, EqualsTheEquation) {
  for (const Shape shape : {Shape{1, 8}, Shape{5, 17}, Shape{4, 33}, Shape{19, 65}}) {
    expect_near_equation<double>(shape, Seed{3001});
    expect_near_equation<float>(shape, Seed{3002});
  }
}

TEST_P(Inference, HasTheBitsOfItsPartsRunOneByOne) {
  for (const Shape shape : {Shape{1, 3}, Shape{2, 16}, Shape{5, 31}, Shape{9, 64}, Shape{3, 129}}) {
    SCOPED_TRACE(shape);
    const auto in_double = make<double>(shape.channels);
    const auto x = random_normal<TokenMatrix<double>>(shape, Seed{3011}, -1, 3);
    EXPECT_TRUE(same_bits((*in_double)(x), in_double->step_by_step(x)));
    const auto in_float = make<float>(shape.channels);
    const auto z = random_normal<TokenMatrix<float>>(shape, Seed{3012}, -1, 3);
    EXPECT_TRUE(same_bits((*in_float)(z), in_float->step_by_step(z)));
  }
}

TEST_P(Inference, OutputsBeforeAChangedTokenKeepTheirBits) {
  const Shape shape{23, 19};
  const auto block = make(shape.channels);
  const auto x = random_normal<TokenMatrix<double>>(shape, Seed{3021});
  const TokenMatrix<double> y = (*block)(x);
  for (const Index t : {Index{1}, Index{4}, Index{16}, Index{22}}) {
    SCOPED_TRACE(t);
    TokenMatrix<double> changed = x;
    changed.row(t).setConstant(std::numeric_limits<double>::infinity());
    EXPECT_TRUE(same_bits((*block)(changed).topRows(t), y.topRows(t)));
    changed.row(t) = -x.row(t);
    const TokenMatrix<double> z = (*block)(changed);
    EXPECT_TRUE(same_bits(z.topRows(t), y.topRows(t)));
    EXPECT_FALSE(same_bits(z.row(t), y.row(t))) << "the change must be seen at all";
    EXPECT_FALSE(same_bits(z.bottomRows(1), y.bottomRows(1))) << "and by the tokens after it";
  }
}

TEST_P(Inference, APrefixHasTheBitsItHasInTheWholeBatch) {
  const Shape shape{37, 21};
  const auto block = make<float>(shape.channels);
  const auto x = random_normal<TokenMatrix<float>>(shape, Seed{3031});
  const TokenMatrix<float> y = (*block)(x);
  for (const Index t : {Index{1}, Index{2}, Index{7}, Index{32}}) {
    SCOPED_TRACE(t);
    EXPECT_TRUE(same_bits((*block)(TokenMatrix<float>(x.topRows(t))), y.topRows(t)));
  }
}

TEST_P(Inference, NaNStaysBehindTheTokenThatHasIt) {
  const auto block = make(9);
  auto x = random_normal<TokenMatrix<double>>({6, 9}, Seed{3041});
  const TokenMatrix<double> y = (*block)(x);
  x(4, 3) = std::numeric_limits<double>::quiet_NaN();
  const TokenMatrix<double> z = (*block)(x);
  EXPECT_TRUE(same_bits(z.topRows(4), y.topRows(4)));
  EXPECT_TRUE(z.row(4).array().isNaN().all());
}

TEST_P(Inference, ZeroTokensAreFine) {
  const auto block = make(9);
  const TokenMatrix<double> y = (*block)(TokenMatrix<double>(0, 9));
  EXPECT_EQ(y.rows(), 0);
  EXPECT_EQ(y.cols(), 9);
}

TEST_P(Inference, TakesAGivenOutputAndWorkspaceOfAnyShape) {
  const auto block = make(12);
  Workspace<double> workspace;
  TokenMatrix<double> y(100, 1);
  for (const Index tokens : {5, 2, 0, 33, 1}) {  // a workspace serves calls of other shapes
    SCOPED_TRACE(tokens);
    const auto x = random_normal<TokenMatrix<double>>({tokens, 12}, Seed{3051});
    const TokenMatrix<double> expected = (*block)(x);
    (*block)(x, y, workspace);
    EXPECT_TRUE(same_bits(y, expected));
    TokenMatrix<double> in_place = x;
    (*block)(in_place, in_place, workspace);
    EXPECT_TRUE(same_bits(in_place, expected)) << "in place";
  }
}

TEST_P(Inference, HasTheSameBitsUnderEveryExecutor) {
  const auto block = make(13);
  Workspace<double> workspace;
  const auto x = random_normal<TokenMatrix<double>>({29, 13}, Seed{3061});
  const TokenMatrix<double> expected = (*block)(x);
  for (const Division division : {Division::whole, Division::odd_pieces_backwards,
                                  Division::one_by_one, Division::on_threads}) {
    SCOPED_TRACE(division);
    TokenMatrix<double> y;
    (*block)(x, y, workspace, TestExecutor{division});
    EXPECT_TRUE(same_bits(y, expected));
    TokenMatrix<double> in_place = x;
    (*block)(in_place, in_place, workspace, TestExecutor{division});
    EXPECT_TRUE(same_bits(in_place, expected)) << "in place";
  }
}

}  // namespace
}  // namespace tokennorm::test
