// SPDX-License-Identifier: MIT
// The norm as a trainable module: forward and backward, gradients, visitors, copies, threads.
#include "../support/exact_bits.hpp"
#include "../support/random_tokens.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class Module : public ::testing::Test {
 protected:
  using Scalar = typename TypedCase::Scalar;
  using Matrix = typename TypedCase::RowMajor;
  static constexpr Index channels = 33;
  typename TypedCase::Norm norm_ = random_norm<TypedCase>(channels);
  const Matrix x_ = random_normal<Matrix>({5, channels}, Seed{901}, 1);
  const Matrix dy_ = random_normal<Matrix>({5, channels}, Seed{902});
};

TYPED_TEST_SUITE(Module, TwoCases, CaseName);

TYPED_TEST(Module, ForwardAndBackwardAreNormalizeAndBackpropagate) {
  using Tokens = typename TypeParam::RowMajor;
  Tokens y, dx;
  typename TypeParam::Statistics stats;
  typename TypeParam::Gradients g;
  std::as_const(this->norm_).normalize(this->x_, y, stats);
  std::as_const(this->norm_).backpropagate(this->x_, stats, this->dy_, dx, g);

  const Tokens module_y = this->norm_.forward(this->x_);
  const Tokens module_dx = this->norm_.backward(this->dy_);
  EXPECT_TRUE(same_bits(module_y, y));
  EXPECT_TRUE(same_bits(module_dx, dx));
  EXPECT_TRUE(same_bits(this->norm_.gradients().scale, g.scale));
  EXPECT_TRUE(same_bits(this->norm_.gradients().shift, g.shift));
}

TYPED_TEST(Module, ForwardSavesTheTokensNotTheirMemory) {
  using Tokens = typename TypeParam::RowMajor;
  Tokens x = this->x_;
  this->norm_.forward(x);
  const Tokens expected = this->norm_.backward(this->dy_);
  this->norm_.forward(x);
  x.setZero();
  EXPECT_TRUE(same_bits(Tokens(this->norm_.backward(this->dy_)), expected));
}

TYPED_TEST(Module, TakesOtherOrdersExpressionsAndVectors) {
  using Tokens = typename TypeParam::RowMajor;
  const Tokens y = this->norm_.forward(this->x_);
  const Tokens dx = this->norm_.backward(this->dy_);
  const typename TypeParam::ColMajor columns = this->x_, gradient = this->dy_;
  const Tokens y_columns = this->norm_.forward(columns);
  const Tokens dx_columns = this->norm_.backward(gradient);
  const long double last_place =
      std::ldexp(16.0L, -ScalarFacts<typename TypeParam::Scalar>::significant_bits);
  EXPECT_LE((exact(y_columns) - exact(y)).cwiseAbs().maxCoeff(),
            last_place * (1 + exact(y).cwiseAbs().maxCoeff()));
  EXPECT_LE((exact(dx_columns) - exact(dx)).cwiseAbs().maxCoeff(),
            last_place * (1 + exact(dx).cwiseAbs().maxCoeff()));
  EXPECT_EQ(this->norm_.forward(this->x_.row(1)).size(), 33);
  EXPECT_EQ(this->norm_.backward(this->dy_.row(1)).size(), 33);
  EXPECT_TRUE(same_bits(Tokens(this->norm_.forward(this->x_.topRows(3))), y.topRows(3)));
}

TYPED_TEST(Module, GradientsAddUpAndAreZeroedOnRequest) {
  this->norm_.forward(this->x_);
  this->norm_.backward(this->dy_);
  const auto once = this->norm_.gradients().scale;
  this->norm_.forward(this->x_);
  this->norm_.backward(this->dy_);
  EXPECT_TRUE(this->norm_.gradients().scale.isApprox(2 * once));
  this->norm_.zero_gradients();
  EXPECT_EQ(this->norm_.gradients().scale.size(), 33);
  EXPECT_TRUE(this->norm_.gradients().scale.isZero(0));
  EXPECT_TRUE(this->norm_.gradients().shift.isZero(0));
  this->norm_.forward(this->x_);
  this->norm_.backward(this->dy_);
  EXPECT_TRUE(same_bits(this->norm_.gradients().scale, once));
}

TYPED_TEST(Module, GradientsAreThereAndZeroBeforeTraining) {
  auto& gradients = this->norm_.gradients();
  EXPECT_EQ(gradients.scale.size(), 33);
  EXPECT_EQ(gradients.shift.size(), 33);
  EXPECT_TRUE(gradients.scale.isZero(0));
  EXPECT_TRUE(gradients.shift.isZero(0));
}

TYPED_TEST(Module, VisitorMeetsScaleAndShiftByName) {
  std::map<std::string, std::pair<Index, Index>> met;
  this->norm_.visit_parameters([&](const std::string& name, auto value, auto gradient) {
    met[name] = {value.size(), gradient.size()};
    EXPECT_TRUE(gradient.isZero(0)) << "before training";
  });
  const std::map<std::string, std::pair<Index, Index>> expected = {{"scale", {33, 33}},
                                                                   {"shift", {33, 33}}};
  EXPECT_EQ(met, expected);

  typename TypeParam::Norm plain(33, plain_options<typename TypeParam::Kind>(1e-5));
  plain.visit_parameters([](const std::string& name, auto&, auto&) {
    ADD_FAILURE() << "a norm without parameters showed " << name;
  });
}

TYPED_TEST(Module, VisitorMayTakeItsArgumentsInAnyWay) {
  using Value = typename TypeParam::Scalar;
  int calls = 0;
  this->norm_.visit_parameters([&](const std::string&, auto, auto) { ++calls; });
  this->norm_.visit_parameters([&](const std::string&, auto&, auto&) { ++calls; });
  this->norm_.visit_parameters([&](const std::string&, auto&&, auto&&) { ++calls; });
  this->norm_.visit_parameters([&](const std::string&, const auto&, const auto&) { ++calls; });
  EXPECT_EQ(calls, 8);

  // What it receives are views: writing changes the norm.
  this->norm_.forward(this->x_);
  this->norm_.backward(this->dy_);
  this->norm_.visit_parameters([&](const std::string& name, auto& value, auto& gradient) {
    if (name == "shift") value.setConstant(Value(3));
    EXPECT_FALSE(gradient.isZero(0));
    gradient.setZero();
  });
  EXPECT_TRUE((this->norm_.shift().array() == Value(3)).all());
  EXPECT_TRUE(this->norm_.gradients().scale.isZero(0));
}

TYPED_TEST(Module, CopyTakesParametersAndGradientsNotWhatForwardSaved) {
  this->norm_.forward(this->x_);
  this->norm_.backward(this->dy_);
  this->norm_.forward(this->x_);
  auto copy = this->norm_;
  EXPECT_TRUE(same_bits(copy.scale(), this->norm_.scale()));
  EXPECT_TRUE(same_bits(copy.shift(), this->norm_.shift()));
  EXPECT_TRUE(same_bits(copy.gradients().scale, this->norm_.gradients().scale));
  EXPECT_TRUE(same_bits(copy.gradients().shift, this->norm_.gradients().shift));
  EXPECT_THROW(copy.backward(this->dy_), std::logic_error);
  EXPECT_NO_THROW(this->norm_.backward(this->dy_));

  typename TypeParam::Norm assigned(33, affine_options<typename TypeParam::Kind>());
  assigned.forward(this->x_);
  assigned = this->norm_;
  EXPECT_TRUE(same_bits(assigned.scale(), this->norm_.scale()));
  EXPECT_TRUE(same_bits(assigned.gradients().scale, this->norm_.gradients().scale));
  EXPECT_THROW(assigned.backward(this->dy_), std::logic_error);

  copy.scale().setZero();
  copy.gradients().scale.setZero();
  EXPECT_FALSE(exact(this->norm_.scale()).isZero(0));
  EXPECT_FALSE(this->norm_.gradients().scale.isZero(0));
}

TYPED_TEST(Module, ConstNormMayBeUsedFromSeveralThreads) {
  using Tokens = typename TypeParam::RowMajor;
  const auto& norm = std::as_const(this->norm_);
  const Tokens expected = norm(this->x_);
  std::vector<Tokens> results(4);
  std::vector<std::thread> threads;
  for (Tokens& result : results)
    threads.emplace_back([&] {
      for (int repeat = 0; repeat < 50; ++repeat) norm(this->x_, result);
    });
  for (std::thread& thread : threads) thread.join();
  for (const Tokens& result : results) EXPECT_TRUE(same_bits(result, expected));
}

}  // namespace
}  // namespace tokennorm::test
