// SPDX-License-Identifier: MIT
// What x and y may be: every storage order and kind, in place or apart, in any of the scalars.
#include "../support/exact_bits.hpp"
#include "equations.hpp"
#include "sublayers.hpp"
#include <tokennorm/block/blocks.hpp>
#include <tokennorm/core/tokens.hpp>

#include <gtest/gtest.h>

#include <type_traits>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<double>;
using Columns = Eigen::MatrixXd;
constexpr Index channels = 9;

/// Neighbouring channels mixed, token by token.
struct Mixed {
  template <class T>
  TokenMatrix<T> operator()(const TokenMatrix<T>& x) const {
    TokenMatrix<T> y(x.rows(), x.cols());
    for (Index t = 0; t < x.rows(); ++t)
      for (Index c = 0; c < x.cols(); ++c) y(t, c) = x(t, c) - x(t, (c + 1) % x.cols());
    return y;
  }
};

auto pre_block() {
  return PreLN(random_norm<Case<LayerKind, double>>(channels, {1}), Mixed{},
               random_norm<Case<LayerKind, double>>(channels, {2}), Mixed{});
}
auto post_block() {
  return PostLN(Mixed{}, random_norm<Case<LayerKind, double>>(channels, {1}), Mixed{},
                random_norm<Case<LayerKind, double>>(channels, {2}));
}

template <class Block>
class BlockOperands : public ::testing::Test {
 protected:
  static Block make() {
    if constexpr (std::is_same_v<Block, decltype(pre_block())>)
      return pre_block();
    else
      return post_block();
  }
  const Block block_ = make();
  const Tokens x_ = random_normal<Tokens>({6, channels}, Seed{6001});
  const Tokens expected_ = block_(x_);
};

using PreAndPost = ::testing::Types<decltype(pre_block()), decltype(post_block())>;
struct PreOrPost {
  template <class Block>
  static std::string GetName(int) {
    return std::is_same_v<Block, decltype(pre_block())> ? "PreLN" : "PostLN";
  }
};
TYPED_TEST_SUITE(BlockOperands, PreAndPost, PreOrPost);

TYPED_TEST(BlockOperands, XMayBeOfAnyOrderAndKind) {
  const auto& block = this->block_;
  const Columns columns = this->x_;
  EXPECT_TRUE(same_bits(block(columns), this->expected_)) << "column-major";
  const Eigen::Map<const Tokens> map(this->x_.data(), 6, channels);
  EXPECT_TRUE(same_bits(block(map), this->expected_)) << "a map";
  std::vector<double> memory(6 * 16);
  auto strided = tokens(memory.data(), 6, channels, 16);
  strided = this->x_;
  EXPECT_TRUE(same_bits(block(strided), this->expected_)) << "tokens() with a row stride";
  EXPECT_TRUE(same_bits(block(this->x_.middleRows(1, 4)), block(Tokens(this->x_.middleRows(1, 4)))))
      << "a block of rows";
  Tokens wide = Tokens::Zero(6, 20);
  wide.middleCols(3, channels) = this->x_;
  EXPECT_TRUE(same_bits(block(wide.middleCols(3, channels)), this->expected_))
      << "a block of columns";
  const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic> transposed = this->x_.transpose();
  EXPECT_TRUE(same_bits(block(transposed.transpose()), this->expected_)) << "a transpose";
  EXPECT_TRUE(same_bits(block(2 * this->x_), block(Tokens(2 * this->x_)))) << "an expression";
}

TYPED_TEST(BlockOperands, TheResultIsOfTheKindOfX) {
  const auto& block = this->block_;
  const Columns columns = this->x_;
  EXPECT_FALSE(decltype(block(columns))::IsRowMajor);
  const Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> array = this->x_;
  const Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> y = block(array);
  EXPECT_TRUE(same_bits(y, this->expected_.array()));
}

TYPED_TEST(BlockOperands, AVectorIsOneToken) {
  const auto& block = this->block_;
  const Tokens alone = block(Tokens(this->x_.topRows(1)));
  EXPECT_TRUE(same_bits(Tokens(block(this->x_.row(0))), alone)) << "a row";
  const Eigen::VectorXd column = this->x_.row(0).transpose();
  const Eigen::VectorXd y = block(column);
  EXPECT_TRUE(same_bits(Tokens(y.transpose()), alone)) << "a column vector";
  Eigen::VectorXd given(channels);
  block(column, given);
  EXPECT_TRUE(same_bits(given, y));
}

TYPED_TEST(BlockOperands, YMayBeOfAnyOrderAndKind) {
  const auto& block = this->block_;
  Tokens matrix(1, 2);
  block(this->x_, matrix);
  EXPECT_TRUE(same_bits(matrix, this->expected_)) << "a matrix, resized";
  Columns columns;
  block(this->x_, columns);
  EXPECT_TRUE(same_bits(columns, this->expected_)) << "column-major, resized";
  std::vector<double> memory(6 * channels);
  block(this->x_, tokens(memory, channels));
  EXPECT_TRUE(same_bits(tokens(memory, channels), this->expected_)) << "a map";
  Tokens wide = Tokens::Constant(8, 20, 7);
  block(this->x_, wide.block(1, 3, 6, channels));
  EXPECT_TRUE(same_bits(wide.block(1, 3, 6, channels), this->expected_)) << "a block";
  wide.block(1, 3, 6, channels).setConstant(7);
  EXPECT_TRUE((wide.array() == 7).all()) << "and nothing around it";
  Eigen::Ref<Eigen::MatrixXd> reference(columns);
  reference.setZero();
  block(this->x_, reference);
  EXPECT_TRUE(same_bits(columns, this->expected_)) << "a Ref";
}

TYPED_TEST(BlockOperands, YMayBeX) {
  const auto& block = this->block_;
  Tokens x = this->x_;
  block(x, x);
  EXPECT_TRUE(same_bits(x, this->expected_)) << "a matrix";
  Columns columns = this->x_;
  block(columns, columns);
  EXPECT_TRUE(same_bits(columns, this->expected_)) << "column-major";
  Tokens wide = Tokens::Constant(6, 20, 7);
  wide.middleCols(3, channels) = this->x_;
  block(wide.middleCols(3, channels), wide.middleCols(3, channels));
  EXPECT_TRUE(same_bits(wide.middleCols(3, channels), this->expected_)) << "a block";
  EXPECT_TRUE((wide.leftCols(3).array() == 7).all() && (wide.rightCols(8).array() == 7).all());
}

TYPED_TEST(BlockOperands, YOfAnotherShapeOrOverlappingXIsRefused) {
  const auto& block = this->block_;
  Tokens memory = Tokens::Constant(8, 20, 7);
  const Tokens before = memory;
  EXPECT_THROW(block(this->x_, memory.topRows(6)), std::invalid_argument);
  EXPECT_THROW(block(this->x_, memory.leftCols(channels)), std::invalid_argument);
  EXPECT_THROW(block(memory.topLeftCorner(6, channels), memory.block(1, 0, 6, channels)),
               std::invalid_argument)
      << "shifted by a token";
  EXPECT_THROW(block(memory.topLeftCorner(6, channels), memory.block(0, 4, 6, channels)),
               std::invalid_argument)
      << "shifted by channels";
  EXPECT_TRUE(same_bits(memory, before)) << "refused before anything is written";
  EXPECT_NO_THROW(block(memory.leftCols(channels), memory.rightCols(channels)))
      << "two column blocks of one buffer share nothing";
}

TYPED_TEST(BlockOperands, YThatOverlapsItselfOrTheParametersIsRefused) {
  auto block = this->block_;
  const Tokens x = this->x_.topRows(1);
  Eigen::VectorXd memory = Eigen::VectorXd::Zero(100);
  Eigen::Map<Tokens, 0, Eigen::OuterStride<>> windows(memory.data(), 6, channels,
                                                      Eigen::OuterStride<>(channels - 1));
  EXPECT_THROW(block(this->x_, windows), std::invalid_argument);
  EXPECT_TRUE(memory.isZero(0));
  for (auto* const norm : {&block.attention_norm(), &block.feed_forward_norm()}) {
    for (auto* const parameter : {&norm->scale(), &norm->shift()}) {
      const Eigen::VectorXd before = *parameter;
      Eigen::Map<Tokens> y(parameter->data(), 1, channels);
      EXPECT_THROW(block(x, y), std::invalid_argument);
      EXPECT_EQ(*parameter, before);
    }
  }
}

TEST(BlockScalars, MixedScalarsRoundTheStreamToThatOfX) {
  // x and y in bfloat16, the parameters in float: the arithmetic is float's.
  using Scalar = Eigen::bfloat16;
  const PreLN block(random_norm<Case<LayerKind, float>>(channels, {1}), Mixed{},
                    random_norm<Case<RMSKind, float>>(channels, {2}), Mixed{});
  const auto x = random_normal<TokenMatrix<Scalar>>({11, channels}, Seed{6011});
  const ExactMatrix expected = equation<Exactly>(block, exact(x));
  const TokenMatrix<Scalar> y = block(x);
  // Five roundings of 2⁻⁹ relative each, the first of them amplified by what follows.
  EXPECT_LE((exact(y) - expected).cwiseAbs().maxCoeff(),
            0x1p-5L * (1 + expected.cwiseAbs().maxCoeff()));
  EXPECT_TRUE(same_bits(y, equation<StepByStep<Scalar>>(block, x)));
}

}  // namespace
}  // namespace tokennorm::test
