// SPDX-License-Identifier: MIT
// What is refused, in which words, and that nothing has been written by then.
#include "../support/exact_bits.hpp"
#include "../support/message_of.hpp"
#include "../support/random_tokens.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>
#include <string>

namespace tokennorm::test {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(ErrorMessages, QuoteTheShapeAndWhatWasExpected) {
  const Eigen::MatrixXf x = Eigen::MatrixXf::Zero(4, 512);
  EXPECT_EQ(message_of([&] { LayerNorm<float>(768)(x); }),
            "tokennorm: LayerNorm(768): x is 4 x 512 (tokens x channels); expected 768 channels");
  EXPECT_EQ(message_of([&] { RMSNorm<float>(768)(x); }),
            "tokennorm: RMSNorm(768): x is 4 x 512 (tokens x channels); expected 768 channels");
  EXPECT_EQ(message_of([&] { LayerNorm<float>(768)(Eigen::VectorXf(Eigen::VectorXf::Zero(512))); }),
            "tokennorm: LayerNorm(768): x is 1 x 512 (tokens x channels); expected 768 channels");
}

using Kinds = ::testing::Types<Case<LayerKind, float>, Case<RMSKind, float>>;

template <class TypedCase>
class Errors : public ::testing::Test {
 protected:
  using Matrix = typename TypedCase::RowMajor;
  using Map = Eigen::Map<Matrix>;
  static constexpr Index channels = 18;
  const typename TypedCase::Norm norm_{channels};
  const Matrix x_ = random_normal<Matrix>({4, channels}, Seed{801});
  const std::string who_ = std::string("tokennorm: ") + TypedCase::Kind::name + "(18): ";

  /// A shape error: who it was, which operand, both shapes.
  template <class Call>
  void expect_shape_error(const std::string& operand, const std::string& shape, const Call& call) {
    const std::string message = message_of(call);
    EXPECT_EQ(message.substr(0, who_.size()), who_);
    EXPECT_TRUE(contains(message, operand + " is " + shape)) << message;
    EXPECT_TRUE(contains(message, "expected")) << message;
  }
};

TYPED_TEST_SUITE(Errors, Kinds, CaseName);

TYPED_TEST(Errors, WrongChannelsOfTheInput) {
  using Tokens = typename TypeParam::RowMajor;
  const Tokens wrong = Tokens::Zero(4, 17);
  Tokens y = Tokens::Constant(2, 3, 5);
  const Tokens before = y;
  this->expect_shape_error("x", "4 x 17", [&] { this->norm_(wrong, y); });
  typename TypeParam::Statistics stats;
  this->expect_shape_error("x", "4 x 17", [&] { this->norm_.normalize(wrong, y, stats); });
  EXPECT_TRUE(same_bits(y, before)) << "resized or written before it was refused";
  EXPECT_EQ(stats.rstd.size(), 0);
  this->expect_shape_error("x", "4 x 17",
                           [&] { this->norm_(typename TypeParam::ColMajor(wrong)); });
  this->expect_shape_error("x", "0 x 17", [&] { this->norm_(Tokens(0, 17)); });
}

TYPED_TEST(Errors, WrongShapeOfAnOutputThatCannotBeResized) {
  using Tokens = typename TypeParam::RowMajor;
  using Scalar = typename TypeParam::Scalar;
  Tokens memory = Tokens::Constant(10, 30, Scalar(7));
  const Tokens before = memory;
  const Tokens& x = this->x_;
  Eigen::Map<Tokens> narrow(memory.data(), 4, 17), long_one(memory.data(), 5, 18);
  Eigen::Ref<Tokens> ref = memory;
  Eigen::Matrix<Scalar, 1, Eigen::Dynamic> one_token(18);
  this->expect_shape_error("y", "4 x 17", [&] { this->norm_(x, narrow); });
  this->expect_shape_error("y", "5 x 18", [&] { this->norm_(x, long_one); });
  this->expect_shape_error("y", "3 x 18", [&] { this->norm_(x, memory.topLeftCorner(3, 18)); });
  this->expect_shape_error("y", "10 x 30", [&] { this->norm_(x, ref); });
  this->expect_shape_error("y", "1 x 30", [&] { this->norm_(x.row(0), memory.row(0)); });
  typename TypeParam::Statistics stats;
  this->expect_shape_error("y", "4 x 17", [&] { this->norm_.normalize(x, narrow, stats); });
  EXPECT_EQ(stats.rstd.size(), 0);
  EXPECT_THROW(this->norm_(x, one_token), std::invalid_argument);
  EXPECT_TRUE(same_bits(memory, before));
}

TYPED_TEST(Errors, WrongShapesOfNormalizeSum) {
  using Tokens = typename TypeParam::RowMajor;
  const Tokens& x = this->x_;
  Tokens memory = Tokens::Constant(10, 30, 7);
  const Tokens memory_before = memory;
  Eigen::Map<Tokens> narrow(memory.data(), 4, 17);
  Tokens sum, y;
  const Tokens fewer = x.topRows(3), wider = Tokens::Zero(4, 19);
  const auto untouched = [&] {
    EXPECT_EQ(sum.size(), 0);
    EXPECT_EQ(y.size(), 0);
    EXPECT_TRUE(same_bits(memory, memory_before));
  };
  this->expect_shape_error("update", "3 x 18",
                           [&] { this->norm_.normalize_sum(x, fewer, sum, y); });
  untouched();
  this->expect_shape_error("residual", "4 x 19",
                           [&] { this->norm_.normalize_sum(wider, x, sum, y); });
  this->expect_shape_error("sum", "4 x 17", [&] { this->norm_.normalize_sum(x, x, narrow, y); });
  untouched();
  this->expect_shape_error("y", "4 x 17", [&] { this->norm_.normalize_sum(x, x, sum, narrow); });
  this->expect_shape_error("y", "4 x 17", [&] { this->norm_.normalize_sum(x, x, narrow); });
  untouched();
}

TYPED_TEST(Errors, AnOutputInTheMemoryOfOneThatWouldBeResized) {
  const auto& x = this->x_;
  typename TypeParam::RowMajor resized = TypeParam::RowMajor::Zero(10, 18);
  Eigen::Map<typename TypeParam::RowMajor> inside(resized.data(), 4, 18);
  EXPECT_TRUE(contains(message_of([&] { this->norm_.normalize_sum(x, x, inside, resized); }),
                       "y shares memory with sum"));
  EXPECT_TRUE(contains(message_of([&] { this->norm_.normalize_sum(x, x, resized, inside); }),
                       "y shares memory with sum"));
  EXPECT_EQ(resized, TypeParam::RowMajor::Zero(10, 18));
}

TYPED_TEST(Errors, NothingIsResizedBeforeEveryOperandIsAccepted) {
  using Tokens = typename TypeParam::RowMajor;
  const auto& norm = this->norm_;
  Tokens memory = Tokens::Constant(5, 18, 3);
  Tokens resizable = Tokens::Constant(2, 3, 7);
  const Tokens before = resizable, memory_before = memory;
  const auto x = memory.topRows(4);
  auto shifted = memory.bottomRows(4);
  const auto refused = [&](const std::string& message, const auto& call) {
    EXPECT_TRUE(contains(message_of(call), message)) << message_of(call);
    EXPECT_TRUE(same_bits(resizable, before)) << message;
    EXPECT_TRUE(same_bits(memory, memory_before)) << message;
  };
  refused("y shares memory with residual",
          [&] { norm.normalize_sum(x, this->x_, resizable, shifted); });
  refused("y shares memory with update",
          [&] { norm.normalize_sum(this->x_, x, resizable, shifted); });
  refused("sum shares memory with residual",
          [&] { norm.normalize_sum(x, this->x_, shifted, resizable); });
  refused("y shares memory with sum",
          [&] { norm.normalize_sum(this->x_, this->x_, resizable, resizable); });

  typename TypeParam::Statistics stats, of_fewer;
  typename TypeParam::Gradients g;
  Tokens y;
  norm.normalize(this->x_, y, stats);
  norm.normalize(this->x_.topRows(2), y, of_fewer);
  refused("stats.rstd has 2 values",
          [&] { norm.backpropagate(this->x_, of_fewer, this->x_, resizable, g); });
  refused("dx shares memory with dy", [&] { norm.backpropagate(this->x_, stats, x, shifted, g); });
  EXPECT_EQ(g.scale.size(), 0);
  Eigen::Map<Tokens> narrow(memory.data(), 4, 17);
  refused("dx is 4 x 17", [&] { norm.backpropagate(this->x_, stats, this->x_, narrow, g); });
  EXPECT_EQ(g.scale.size(), 0);
  typename TypeParam::Gradients of_others;
  of_others.scale.setZero(5);
  refused("the gradient of scale has 5 values",
          [&] { norm.backpropagate(this->x_, stats, this->x_, resizable, of_others); });
  EXPECT_EQ(of_others.shift.size(), 0);
}

TYPED_TEST(Errors, WrongShapesOfBackpropagate) {
  using Tokens = typename TypeParam::RowMajor;
  const Tokens& x = this->x_;
  Tokens y, dx;
  typename TypeParam::Statistics stats, fewer_stats, none;
  typename TypeParam::Gradients g;
  this->norm_.normalize(x, y, stats);
  this->norm_.normalize(x.topRows(3), y, fewer_stats);
  const Tokens fewer = x.topRows(3), wider = Tokens::Zero(4, 19);
  Tokens memory = Tokens::Constant(10, 30, 7);
  Eigen::Map<Tokens> narrow(memory.data(), 4, 17);
  this->expect_shape_error("dy", "3 x 18",
                           [&] { this->norm_.backpropagate(x, stats, fewer, dx, g); });
  this->expect_shape_error("x", "4 x 19",
                           [&] { this->norm_.backpropagate(wider, stats, x, dx, g); });
  this->expect_shape_error("dx", "4 x 17",
                           [&] { this->norm_.backpropagate(x, stats, x, narrow, g); });
  this->expect_shape_error("dsum", "3 x 18",
                           [&] { this->norm_.backpropagate_sum(x, stats, x, fewer, dx, g); });
  EXPECT_EQ(dx.size(), 0);
  EXPECT_EQ(g.scale.size(), 0);

  const auto stats_error = [&](const typename TypeParam::Statistics& wrong) {
    const std::string message = message_of([&] { this->norm_.backpropagate(x, wrong, x, dx, g); });
    EXPECT_EQ(message.substr(0, this->who_.size()), this->who_);
    EXPECT_TRUE(contains(message, "4")) << message;
    EXPECT_THROW(this->norm_.backpropagate_sum(x, wrong, x, x, dx, g), std::invalid_argument);
  };
  stats_error(fewer_stats);
  stats_error(none);
  EXPECT_EQ(dx.size(), 0);
}

TYPED_TEST(Errors, StatisticsOfTheOtherNormAreRefused) {
  typename TypeParam::Statistics stats;
  typename TypeParam::RowMajor y, dx;
  typename TypeParam::Gradients g;
  if constexpr (TypeParam::Kind::centred) {
    RMSNorm<typename TypeParam::Scalar>(18).normalize(this->x_, y, stats);
    EXPECT_THROW(this->norm_.backpropagate(this->x_, stats, y, dx, g), std::invalid_argument);
  }
}

TYPED_TEST(Errors, GradientsOfAnotherSizeAreRefused) {
  typename TypeParam::Statistics stats;
  typename TypeParam::RowMajor y, dx;
  typename TypeParam::Gradients g;
  this->norm_.normalize(this->x_, y, stats);
  g.scale.setZero(5);
  EXPECT_THROW(this->norm_.backpropagate(this->x_, stats, y, dx, g), std::invalid_argument);
  EXPECT_EQ(dx.size(), 0);
}

TYPED_TEST(Errors, ParametersOfAnotherSizeAreRefused) {
  // The accessors give out vectors, which a caller can resize by assignment.
  auto norm = this->norm_;
  norm.scale().setOnes(17);
  EXPECT_THROW(norm(this->x_), std::invalid_argument);
}

TYPED_TEST(Errors, OptionsOutsideTheirRange) {
  using Norm = typename TypeParam::Norm;
  using Options = typename TypeParam::Options;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double epsilon : {-1e-5, -infinity, infinity, nan}) {
    Options options;
    options.epsilon = epsilon;
    const std::string message = message_of([&] { Norm(8, options); });
    EXPECT_TRUE(contains(message, "tokennorm: ") && contains(message, "epsilon")) << message;
  }
  for (const Index count : {0, -1, -768}) {
    const std::string message = message_of([&] { Norm{count}; });
    EXPECT_TRUE(contains(message, "tokennorm: ") && contains(message, std::to_string(count)))
        << message;
  }
  for (const double offset : {infinity, nan}) {
    Options options;
    options.scale_offset = offset;
    EXPECT_THROW(Norm(8, options), std::invalid_argument);
  }
  Options zero;
  zero.epsilon = 0;
  EXPECT_NO_THROW(Norm(8, zero));
}

TYPED_TEST(Errors, FixedChannelsMustBeTheChannelsGiven) {
  using Fixed = typename TypeParam::Kind::template Norm<typename TypeParam::Scalar, 16>;
  EXPECT_NO_THROW(Fixed(16));
  EXPECT_THROW(Fixed(17), std::invalid_argument);
}

TYPED_TEST(Errors, BackwardBeforeForward) {
  typename TypeParam::Norm norm(18);
  EXPECT_THROW(norm.backward(this->x_), std::logic_error);
  EXPECT_EQ(message_of<std::logic_error>([&] { norm.backward(this->x_); }).substr(0, 11),
            "tokennorm: ");
  norm.forward(this->x_);
  EXPECT_NO_THROW(norm.backward(this->x_));
  EXPECT_THROW(norm.backward(this->x_), std::logic_error) << "a forward was used twice";
  norm.forward(this->x_);
  EXPECT_THROW(norm.backward(this->x_.topRows(2)), std::invalid_argument);
  EXPECT_NO_THROW(norm.backward(this->x_)) << "a backward that is refused uses up nothing";
  norm.forward(this->x_);
  EXPECT_THROW(norm.forward(this->x_.leftCols(3)), std::invalid_argument);
  EXPECT_THROW(norm.backward(this->x_), std::logic_error) << "of the forward before";
}

/// Fails half-way, as one does that gets no thread.
struct Flaky {
  bool fails = false;
  template <class F>
  void parallel_for(Index count, Index /*grain*/, F&& f) const {
    if (count > 1) f(Index{0}, count / 2);
    if (fails) throw std::runtime_error("no thread");
    f(count / 2, count);
  }
};

TYPED_TEST(Errors, BackwardAfterAForwardOrBackwardThatFailed) {
  typename TypeParam::Norm norm(18);
  norm.forward(this->x_, Flaky{});
  EXPECT_THROW(norm.forward(this->x_, Flaky{true}), std::runtime_error);
  EXPECT_THROW(norm.backward(this->x_, Flaky{}), std::logic_error);
  norm.forward(this->x_, Flaky{});
  EXPECT_THROW(norm.backward(this->x_, Flaky{true}), std::runtime_error);
  EXPECT_TRUE(norm.gradients().scale.isZero(0)) << "and added nothing";
  EXPECT_THROW(norm.backward(this->x_, Flaky{}), std::logic_error);
  norm.forward(this->x_, Flaky{});
  EXPECT_NO_THROW(norm.backward(this->x_, Flaky{}));
}

TYPED_TEST(Errors, OutputOfBoundedSizeIsNotWrittenBehindItsEnd) {
  using Scalar = typename TypeParam::Scalar;
  using Tokens = typename TypeParam::RowMajor;
  constexpr int dynamic = Eigen::Dynamic;
  const Tokens& x = this->x_;  // 4 x 18
  Eigen::Matrix<Scalar, dynamic, dynamic, Eigen::RowMajor, 3, 18> few_tokens;
  Eigen::Matrix<Scalar, dynamic, dynamic, Eigen::RowMajor, 4, 17> few_channels;
  Eigen::Matrix<Scalar, 4, dynamic, Eigen::RowMajor, 4, 17> fixed_tokens;
  Eigen::Matrix<Scalar, dynamic, dynamic, Eigen::RowMajor, 4, 18> enough;
  Eigen::Matrix<Scalar, dynamic, 1, 0, 17, 1> short_vector;
  this->expect_shape_error("y", "0 x 0", [&] { this->norm_(x, few_tokens); });
  this->expect_shape_error("y", "0 x 0", [&] { this->norm_(x, few_channels); });
  this->expect_shape_error("y", "4 x 0", [&] { this->norm_(x, fixed_tokens); });
  this->expect_shape_error("y", "1 x 0", [&] { this->norm_(x.row(0), short_vector); });
  this->expect_shape_error("sum", "0 x 0",
                           [&] { this->norm_.normalize_sum(x, x, few_tokens, enough); });
  EXPECT_EQ(enough.size(), 0);
  typename TypeParam::Statistics stats;
  typename TypeParam::Gradients g;
  this->norm_.normalize(x, enough, stats);
  EXPECT_EQ(enough.rows(), 4);
  this->expect_shape_error("dx", "0 x 0",
                           [&] { this->norm_.backpropagate(x, stats, x, few_channels, g); });
}

TEST(PartialRMSNormErrors, StatisticsChannelsOutsideTheChannels) {
  EXPECT_THROW((RMSNorm<float>(8, {.statistics_channels = 9})), std::invalid_argument);
  EXPECT_THROW((RMSNorm<float>(8, {.statistics_channels = -1})), std::invalid_argument);
  EXPECT_NO_THROW((RMSNorm<float>(8, {.statistics_channels = 8})));
}

}  // namespace
}  // namespace tokennorm::test
