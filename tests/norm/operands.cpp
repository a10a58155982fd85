// SPDX-License-Identifier: MIT
// Everything that may stand for tokens: matrices and arrays of either order, maps, blocks,
// transposes, strides, vectors, pointers, ranges, expressions; what is returned, what is resized.
#include "../support/exact_bits.hpp"
#include "../support/random_tokens.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <span>
#include <vector>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class Operands : public ::testing::Test {
 protected:
  using Scalar = typename TypedCase::Scalar;
  using RowMajor = typename TypedCase::RowMajor;
  static constexpr Index token_count = 5;
  static constexpr Index channels = 19;

  const typename TypedCase::Norm norm_ = random_norm<TypedCase>(channels);
  const RowMajor x_ = random_normal<RowMajor>({token_count, channels}, Seed{301}, 1, 2);
  const RowMajor expected_ = norm_(x_);  // judged by the accuracy tests

  /// Within one last place of the scalar: other storage orders may round otherwise.
  template <class Y>
  void expect_close(const Eigen::DenseBase<Y>& y) const {
    ASSERT_EQ(y.rows(), token_count);
    ASSERT_EQ(y.cols(), channels);
    const ExactMatrix difference = exact(y) - exact(expected_);
    const long double last_place = std::ldexp(1.0L, 2 - ScalarFacts<Scalar>::significant_bits);
    EXPECT_LE(difference.cwiseAbs().maxCoeff(),
              last_place * (1 + exact(expected_).cwiseAbs().maxCoeff()));
  }
};

TYPED_TEST_SUITE(Operands, TwoCases, CaseName);

TYPED_TEST(Operands, ResultHasShapeScalarAndKindOfTheInput) {
  using Value = typename TypeParam::Scalar;
  const auto& norm = this->norm_;
  static_assert(std::is_same_v<decltype(norm(this->x_)), typename TypeParam::RowMajor>);
  static_assert(
      std::is_same_v<decltype(norm(typename TypeParam::ColMajor())), typename TypeParam::ColMajor>);
  using Array = Eigen::Array<Value, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  static_assert(std::is_same_v<decltype(norm(Array())), Array>);
  static_assert(
      std::is_same_v<decltype(norm(Eigen::Matrix<Value, 3, 19>())), Eigen::Matrix<Value, 3, 19>>);
  static_assert(
      std::is_same_v<decltype(norm(this->x_.row(0))), Eigen::Matrix<Value, 1, Eigen::Dynamic>>);
}

TYPED_TEST(Operands, EitherStorageOrderInAndOut) {
  const auto& norm = this->norm_;
  const typename TypeParam::ColMajor columns = this->x_;
  this->expect_close(norm(columns));
  typename TypeParam::ColMajor y_columns;
  norm(this->x_, y_columns);
  this->expect_close(y_columns);
  typename TypeParam::RowMajor y_rows;
  norm(columns, y_rows);
  this->expect_close(y_rows);
}

TYPED_TEST(Operands, ArraysAreTokensToo) {
  using Value = typename TypeParam::Scalar;
  const Eigen::Array<Value, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> x = this->x_.array();
  EXPECT_TRUE(same_bits(this->norm_(x), this->expected_));
  Eigen::Array<Value, Eigen::Dynamic, Eigen::Dynamic> y;
  this->norm_(x, y);
  this->expect_close(y);
  typename TypeParam::RowMajor matrix;
  this->norm_(x, matrix);
  EXPECT_TRUE(same_bits(matrix, this->expected_));
}

TYPED_TEST(Operands, BlocksReadAndWriteWithinALargerMatrix) {
  using Value = typename TypeParam::Scalar;
  const auto check = [&](auto large) {
    large.setConstant(Value(77));
    auto copy = large;
    large.block(2, 3, 5, 19) = this->x_;
    this->norm_(large.block(2, 3, 5, 19), copy.block(2, 3, 5, 19));
    this->expect_close(copy.block(2, 3, 5, 19));
    copy.block(2, 3, 5, 19).setConstant(Value(77));
    large.setConstant(Value(77));
    EXPECT_TRUE(same_bits(copy, large)) << "written outside of the block";
  };
  check(typename TypeParam::RowMajor(9, 25));
  check(typename TypeParam::ColMajor(9, 25));
}

TYPED_TEST(Operands, TransposesSwapTokensAndChannels) {
  const typename TypeParam::RowMajor turned = this->x_.transpose();
  this->expect_close(this->norm_(turned.transpose()));
  typename TypeParam::RowMajor y(19, 5);
  this->norm_(turned.transpose(), y.transpose());
  this->expect_close(y.transpose());
}

TYPED_TEST(Operands, MapsOfAnyStride) {
  using Value = typename TypeParam::Scalar;
  using Tokens = typename TypeParam::RowMajor;
  using ColMajor = typename TypeParam::ColMajor;
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  std::vector<Value> from(5 * 19 * 3 + 64, Value(0)), to(from);
  const auto check = [&](auto type, Index outer, Index inner) {
    using Matrix = decltype(type);
    Eigen::Map<Matrix, 0, Strides> x(from.data(), 5, 19, Strides(outer, inner));
    Eigen::Map<Matrix, 0, Strides> y(to.data(), 5, 19, Strides(outer, inner));
    std::fill(to.begin(), to.end(), Value(77));
    x = this->x_;
    this->norm_(x, y);
    this->expect_close(y);
    y.setConstant(Value(77));
    EXPECT_EQ(std::count(to.begin(), to.end(), Value(77)), static_cast<std::ptrdiff_t>(to.size()));
  };
  check(Tokens(), 19, 1);
  check(Tokens(), 40, 2);
  check(Tokens(), 1, 5);  // row-major type, columns contiguous
  check(ColMajor(), 5, 1);
  check(ColMajor(), 13, 2);
  check(ColMajor(), 1, 19);

  Eigen::Map<Tokens, 0, Eigen::InnerStride<2>> x(from.data(), 5, 19);
  x = this->x_;
  this->expect_close(this->norm_(x));
}

TYPED_TEST(Operands, VectorsAreOneToken) {
  using Value = typename TypeParam::Scalar;
  using Vector = typename TypeParam::Vector;
  using RowVector = Eigen::Matrix<Value, 1, Eigen::Dynamic>;
  const Vector column = this->x_.row(2).transpose();
  const RowVector row = this->x_.row(2);
  EXPECT_TRUE(same_bits(this->norm_(row), this->expected_.row(2)));
  EXPECT_TRUE(same_bits(this->norm_(column), this->expected_.row(2).transpose()));
  RowVector y;
  this->norm_(column, y);  // a vector of either direction into the other
  EXPECT_TRUE(same_bits(y, this->expected_.row(2)));
  typename TypeParam::RowMajor into = this->x_;
  this->norm_(into.row(2), into.row(2));
  EXPECT_TRUE(same_bits(into.row(2), this->expected_.row(2)));
  EXPECT_TRUE(same_bits(into.topRows(2), this->x_.topRows(2)));
}

TYPED_TEST(Operands, RowsAndColumnsOfMatricesAreOneToken) {
  const typename TypeParam::ColMajor columns = this->x_;
  const typename TypeParam::RowMajor turned = this->x_.transpose();
  const auto near = [&](const auto& y) {
    typename TypeParam::RowMajor all = this->expected_;
    all.row(3) = y.reshaped().transpose();
    this->expect_close(all);
  };
  near(this->norm_(columns.row(3)));  // strided
  near(this->norm_(turned.col(3)));   // strided
  near(this->norm_(columns.transpose().col(3)));
  typename TypeParam::RowMajor written = turned;
  this->norm_(turned.col(3), written.col(3));
  near(written.col(3));
  written.col(3) = turned.col(3);
  EXPECT_TRUE(same_bits(written, turned));
}

TYPED_TEST(Operands, RawPointersAndContiguousRanges) {
  using Value = typename TypeParam::Scalar;
  const auto& norm = this->norm_;
  const std::vector<Value> x(this->x_.data(), this->x_.data() + this->x_.size());
  std::vector<Value> y(x.size());
  norm(tokens(x, 19), tokens(y, 19));
  EXPECT_TRUE(same_bits(tokens(y, 19), this->expected_));

  std::fill(y.begin(), y.end(), Value(0));
  norm(tokens(x.data(), 5, 19), tokens(y.data(), 5, 19));
  EXPECT_TRUE(same_bits(tokens(y, 19), this->expected_));

  std::fill(y.begin(), y.end(), Value(0));
  norm(tokens(std::span<const Value>(x), 19), tokens(std::span<Value>(y), 19));
  EXPECT_TRUE(same_bits(tokens(y, 19), this->expected_));

  std::array<Value, 5 * 19> fixed;
  std::copy(x.begin(), x.end(), fixed.begin());
  EXPECT_TRUE(same_bits(norm(tokens(std::as_const(fixed), 19)), this->expected_));
  norm(tokens(fixed, 19), tokens(fixed, 19));  // in place
  EXPECT_TRUE(same_bits(tokens(fixed, 19), this->expected_));

  std::vector<Value> padded(5 * 23, Value(77));
  norm(tokens(x, 19), tokens(padded.data(), 5, 19, 23));
  EXPECT_TRUE(same_bits(tokens(padded.data(), 5, 19, 23), this->expected_));
  EXPECT_EQ(padded[19], Value(77));
}

TYPED_TEST(Operands, ExpressionsAreEvaluated) {
  using Value = typename TypeParam::Scalar;
  const typename TypeParam::RowMajor half_x = this->x_ * Value(0.5);
  EXPECT_TRUE(same_bits(this->norm_(half_x + half_x), this->expected_));
  typename TypeParam::RowMajor y;
  this->norm_(half_x + half_x, y);
  EXPECT_TRUE(same_bits(y, this->expected_));
  this->norm_(half_x.array() * Value(2), y);
  EXPECT_TRUE(same_bits(y, this->expected_));
  EXPECT_TRUE(
      same_bits(this->norm_(this->x_.colwise().reverse()), this->expected_.colwise().reverse()));
}

TYPED_TEST(Operands, ListsOfRowsAndChannelsAreEvaluated) {
  using namespace Eigen;
  using Tokens = typename TypeParam::RowMajor;
  const auto& norm = this->norm_;
  const Tokens& x = this->x_;
  const auto expect_rows = [&](const char* what, const auto& view, std::vector<int> rows) {
    SCOPED_TRACE(what);
    const Tokens y = norm(view);
    ASSERT_EQ(y.rows(), static_cast<Index>(rows.size()));
    for (Index t = 0; t < y.rows(); ++t) {
      EXPECT_TRUE(same_bits(y.row(t), this->expected_.row(rows[static_cast<std::size_t>(t)])));
    }
  };
  expect_rows("every other row", x(seq(0, last, 2), all), {0, 2, 4});
  expect_rows("every other row, known at compile time", x(seq(0, last, fix<2>), all), {0, 2, 4});
  expect_rows("backwards", x(seq(last, 0, fix<-1>), all), {4, 3, 2, 1, 0});
  expect_rows("listed", x(std::vector<int>{3, 1, 1}, all), {3, 1, 1});
  expect_rows("reversed", x.colwise().reverse(), {4, 3, 2, 1, 0});
  Tokens twice(2 * Operands<TypeParam>::token_count, Operands<TypeParam>::channels * 2);
  twice.setZero();
  twice(seq(0, last, 2), seq(0, last, 2)) = x;
  expect_rows("both", twice(seq(0, last, 2), seq(0, last, fix<2>)), {0, 1, 2, 3, 4});

  Tokens y = Tokens::Zero(10, Operands<TypeParam>::channels);
  norm(x, y(seq(2, 6), all));  // without steps it is a block, which can be written
  EXPECT_TRUE(same_bits(Tokens(y.middleRows(2, 5)), this->expected_));
}

TYPED_TEST(Operands, RefsAreTokensToo) {
  using Tokens = typename TypeParam::RowMajor;
  Tokens x = this->x_;
  const Eigen::Ref<const Tokens> read = x;
  EXPECT_TRUE(same_bits(this->norm_(read), this->expected_));
  Eigen::Ref<Tokens> write = x;
  this->norm_(read, write);
  EXPECT_TRUE(same_bits(x, this->expected_));
}

TYPED_TEST(Operands, FixedChannelsAndFixedSizeMatrices) {
  using Value = typename TypeParam::Scalar;
  typename TypeParam::Kind::template Norm<Value, 19> fixed(
      19, affine_options<typename TypeParam::Kind>());
  EXPECT_EQ(fixed.channels(), 19);
  fixed.scale() = this->norm_.scale();
  fixed.shift() = this->norm_.shift();
  this->expect_close(fixed(this->x_));
  const Eigen::Matrix<Value, 5, 19, Eigen::RowMajor> x = this->x_;
  const Eigen::Matrix<Value, 5, 19> x_columns = this->x_;
  this->expect_close(fixed(x));
  this->expect_close(fixed(x_columns));
  EXPECT_TRUE(same_bits(this->norm_(x), this->expected_));
  Eigen::Matrix<Value, 5, 19> y;
  fixed(x, y);
  this->expect_close(y);
  const Eigen::Matrix<Value, 19, 1> token = this->x_.row(0).transpose();
  const Eigen::Matrix<Value, 19, 1> result = fixed(token);
  typename TypeParam::RowMajor all = this->expected_;
  all.row(0) = result.transpose();
  this->expect_close(all);
}

TYPED_TEST(Operands, FixedChannelsGiveATokenTheSameBitsInAnyBatch) {
  using Value = typename TypeParam::Scalar;
  const typename TypeParam::Kind::template Norm<Value, 19> fixed(
      19, affine_options<typename TypeParam::Kind>());
  const auto check = [&](const auto& x) {
    const auto all = fixed(x);
    for (const Index size : {1, 2, 3, 4})
      EXPECT_TRUE(same_bits(fixed(x.middleRows(1, size)), all.middleRows(1, size)));
  };
  check(this->x_);
  check(typename TypeParam::ColMajor(this->x_));
}

TYPED_TEST(Operands, OutputsAreResized) {
  using Tokens = typename TypeParam::RowMajor;
  Tokens y(1, 1), sum(2, 40), dx(0, 0);
  typename TypeParam::Statistics stats;
  typename TypeParam::Gradients g;
  this->norm_(this->x_, y);
  EXPECT_TRUE(same_bits(y, this->expected_));
  y.resize(7, 3);
  this->norm_.normalize_sum(this->x_, this->x_, sum, y, stats);
  EXPECT_EQ(sum.rows(), 5);
  EXPECT_EQ(y.cols(), 19);
  EXPECT_EQ(stats.rstd.size(), 5);
  this->norm_.backpropagate(sum, stats, y, dx, g);
  EXPECT_EQ(dx.rows(), 5);
  EXPECT_EQ(dx.cols(), 19);
  this->norm_.normalize(this->x_.topRows(2), y, stats);
  EXPECT_EQ(y.rows(), 2);
  EXPECT_EQ(stats.rstd.size(), 2);
}

TYPED_TEST(Operands, ZeroTokensDoNothing) {
  using Tokens = typename TypeParam::RowMajor;
  const Tokens none(0, 19);
  EXPECT_EQ(this->norm_(none).rows(), 0);
  EXPECT_EQ(this->norm_(none).cols(), 19);
  EXPECT_EQ(this->norm_(typename TypeParam::ColMajor(none)).rows(), 0);
  Tokens y(3, 19), sum, dx;
  typename TypeParam::Statistics stats;
  typename TypeParam::Gradients g;
  this->norm_(none, y);
  EXPECT_EQ(y.rows(), 0);
  this->norm_.normalize(none, y, stats);
  EXPECT_EQ(stats.rstd.size(), 0);
  this->norm_.backpropagate(none, stats, none, dx, g);
  EXPECT_EQ(dx.rows(), 0);
  EXPECT_EQ(g.scale, (decltype(g.scale)::Zero(19)));
  this->norm_.normalize_sum(none, none, sum, y);
  EXPECT_EQ(sum.rows(), 0);
  typename TypeParam::Scalar* nowhere = nullptr;
  this->norm_(tokens(nowhere, 0, 19), tokens(nowhere, 0, 19));
}

TYPED_TEST(Operands, BackpropagateTakesThemToo) {
  using Value = typename TypeParam::Scalar;
  using Tokens = typename TypeParam::RowMajor;
  const auto dy = random_normal<Tokens>({5, 19}, Seed{302});
  Tokens y, expected;
  typename TypeParam::Statistics stats;
  typename TypeParam::Gradients g, g_rows;
  this->norm_.normalize(this->x_, y, stats);
  this->norm_.backpropagate(this->x_, stats, dy, expected, g_rows);
  const long double tolerance = std::ldexp(1.0L, 3 - ScalarFacts<Value>::significant_bits) *
                                (1 + exact(expected).cwiseAbs().maxCoeff());
  const auto check = [&](const char* what, const auto& x, const auto& gradient, auto&& dx) {
    SCOPED_TRACE(what);
    typename TypeParam::Gradients own;
    this->norm_.backpropagate(x, stats, gradient, dx, own);
    EXPECT_LE((exact(dx) - exact(expected)).cwiseAbs().maxCoeff(), tolerance);
    EXPECT_TRUE(own.scale.isApprox(g_rows.scale, typename TypeParam::Accum(1e-5)));
    EXPECT_TRUE(own.shift.isApprox(g_rows.shift, typename TypeParam::Accum(1e-5)));
  };
  const typename TypeParam::ColMajor x_columns = this->x_, dy_columns = dy;
  Tokens dx(5, 19), large(9, 40);
  typename TypeParam::ColMajor dx_columns(5, 19);
  std::vector<Value> raw(5 * 19);
  check("column-major", x_columns, dy_columns, dx_columns);
  check("x column-major", x_columns, dy, dx);
  check("dy column-major", this->x_, dy_columns, dx);
  check("dx column-major", this->x_, dy, dx_columns);
  check("dx a block", this->x_, dy, large.block(1, 2, 5, 19));
  check("dx a map", this->x_, dy, tokens(raw, 19));
  check("dy an expression", this->x_, dy * Value(1), dx);
  check("x an array", this->x_.array(), dy, dx);
}

}  // namespace
}  // namespace tokennorm::test
