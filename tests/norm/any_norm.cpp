// SPDX-License-Identifier: MIT
// A norm whose kind is chosen at run time is the norm of that kind: its bits, its options, its
// errors.
#include "../support/exact_bits.hpp"
#include "../support/message_of.hpp"
#include "../support/random_tokens.hpp"
#include "norm_kinds.hpp"
#include <tokennorm/core/internals.hpp>
#include <tokennorm/norm/any_norm.hpp>

#include <gtest/gtest.h>

#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace tokennorm::test {
namespace {

using tokennorm::detail::Internals;

template <class TypedCase>
class AnyNormCalls : public ::testing::Test {
 protected:
  using Norm = typename TypedCase::Norm;
  using Matrix = typename TypedCase::RowMajor;
  using Any = AnyNorm<typename TypedCase::Scalar>;
  static constexpr NormKind kind =
      TypedCase::Kind::centred ? NormKind::layer_norm : NormKind::rms_norm;
  static constexpr Index channels = 33;

  Norm norm_ = random_norm<TypedCase>(channels);
  Any any_ = same_as(norm_);
  const Matrix x_ = random_normal<Matrix>({5, channels}, Seed{1201}, 1);
  const Matrix update_ = random_normal<Matrix>({5, channels}, Seed{1202});
  const Matrix dy_ = random_normal<Matrix>({5, channels}, Seed{1203});

  static Any same_as(const Norm& norm) {
    Any any(kind, channels,
            {.epsilon = norm.options().epsilon, .scale = true, .shift = true, .scale_offset = 0});
    any.scale() = norm.scale();
    any.shift() = norm.shift();
    return any;
  }
  void expect_same(const typename TypedCase::Gradients& actual,
                   const typename TypedCase::Gradients& expected) {
    EXPECT_TRUE(same_bits(actual.scale, expected.scale));
    EXPECT_TRUE(same_bits(actual.shift, expected.shift));
  }
};

TYPED_TEST_SUITE(AnyNormCalls, FusedCases, CaseName);

TYPED_TEST(AnyNormCalls, HaveTheTypesOfTheNormInside) {
  using Inside = typename TypeParam::Norm;
  using Outside = AnyNorm<typename TypeParam::Scalar>;
  static_assert(std::is_same_v<typename Outside::ParamScalar, typename Inside::ParamScalar>);
  static_assert(std::is_same_v<typename Outside::Vector, typename Inside::Vector>);
  static_assert(std::is_same_v<typename Outside::GradientScalar, typename Inside::GradientScalar>);
  static_assert(std::is_same_v<typename Outside::GradientVector, typename Inside::GradientVector>);
  EXPECT_EQ(this->any_.channels(), 33);
  EXPECT_EQ(this->any_.kind(), this->norm_.kind());
}

TYPED_TEST(AnyNormCalls, Inference) {
  using Tokens = typename TypeParam::RowMajor;
  const auto& any = this->any_;
  const Tokens expected = this->norm_(this->x_);
  Tokens y, in_place = this->x_;
  EXPECT_TRUE(same_bits(any(this->x_), expected));
  EXPECT_TRUE(same_bits(any(this->x_, serial), expected));
  any(this->x_, y);
  EXPECT_TRUE(same_bits(y, expected));
  any(in_place, in_place, serial);
  EXPECT_TRUE(same_bits(in_place, expected));
  any(this->x_.topRows(2), y.bottomRows(2));
  EXPECT_TRUE(same_bits(y.bottomRows(2), expected.topRows(2)));
  static_assert(
      std::is_same_v<decltype(any(this->x_.row(0))), decltype(this->norm_(this->x_.row(0)))>);
}

TYPED_TEST(AnyNormCalls, TrainingWithNothingHidden) {
  using Tokens = typename TypeParam::RowMajor;
  const auto& any = this->any_;
  const auto& norm = std::as_const(this->norm_);
  Tokens y, expected, dx, expected_dx;
  typename TypeParam::Statistics stats, expected_stats;
  typename TypeParam::Gradients g, expected_g;
  any.normalize(this->x_, y, stats);
  norm.normalize(this->x_, expected, expected_stats);
  EXPECT_TRUE(same_bits(y, expected));
  EXPECT_TRUE(same_bits(stats.rstd, expected_stats.rstd));
  EXPECT_TRUE(same_bits(stats.mean, expected_stats.mean));
  any.backpropagate(this->x_, stats, this->dy_, dx, g);
  norm.backpropagate(this->x_, stats, this->dy_, expected_dx, expected_g);
  EXPECT_TRUE(same_bits(dx, expected_dx));
  this->expect_same(g, expected_g);
}

TYPED_TEST(AnyNormCalls, FusedSums) {
  using Tokens = typename TypeParam::RowMajor;
  const auto& any = this->any_;
  const auto& norm = std::as_const(this->norm_);
  Tokens sum, y, expected_sum, expected, without_sum, dx, expected_dx;
  typename TypeParam::Statistics stats;
  typename TypeParam::Gradients g, expected_g;
  norm.normalize_sum(this->x_, this->update_, expected_sum, expected);
  any.normalize_sum(this->x_, this->update_, sum, y);
  EXPECT_TRUE(same_bits(sum, expected_sum));
  EXPECT_TRUE(same_bits(y, expected));
  any.normalize_sum(this->x_, this->update_, without_sum, serial);
  EXPECT_TRUE(same_bits(without_sum, expected));
  any.normalize_sum(this->x_, this->update_, sum, y, stats, serial);
  EXPECT_TRUE(same_bits(y, expected));
  any.normalize_sum(this->x_, this->update_, y, stats);
  EXPECT_TRUE(same_bits(y, expected));
  any.backpropagate_sum(sum, stats, this->dy_, this->update_, dx, g);
  norm.backpropagate_sum(sum, stats, this->dy_, this->update_, expected_dx, expected_g);
  EXPECT_TRUE(same_bits(dx, expected_dx));
  this->expect_same(g, expected_g);
}

TYPED_TEST(AnyNormCalls, AsAModule) {
  auto& any = this->any_;
  auto& norm = this->norm_;
  EXPECT_TRUE(same_bits(any.forward(this->x_), norm.forward(this->x_)));
  EXPECT_TRUE(same_bits(any.backward(this->dy_), norm.backward(this->dy_)));
  this->expect_same(any.gradients(), norm.gradients());
  std::map<std::string, Index> sizes;
  any.visit_parameters([&](const std::string& name, auto& value, auto& gradient) {
    sizes[name] = value.size();
    value += gradient.template cast<typename TypeParam::Scalar>();
  });
  EXPECT_EQ(sizes, (std::map<std::string, Index>{{"scale", 33}, {"shift", 33}}));
  norm.visit_parameters([](const std::string&, auto& value, auto& gradient) {
    value += gradient.template cast<typename TypeParam::Scalar>();
  });
  EXPECT_TRUE(same_bits(std::as_const(any).scale(), norm.scale()));
  EXPECT_TRUE(same_bits(std::as_const(any).shift(), norm.shift()));
  any.zero_gradients();
  EXPECT_TRUE(any.gradients().scale.isZero());
  EXPECT_TRUE(any.gradients().shift.isZero());
}

TYPED_TEST(AnyNormCalls, InternalsReachTheNormInside) {
  auto& any = this->any_;
  Internals::with_kind(any, [](auto& inside) {
    static_assert(!std::is_const_v<std::remove_reference_t<decltype(inside)>>);
    inside.scale().setZero();
  });
  EXPECT_TRUE(any.scale().isZero());
  EXPECT_EQ(Internals::with_kind(std::as_const(any),
                                 [](const auto& inside) { return bool(inside.centred); }),
            TypeParam::Kind::centred);
  EXPECT_EQ(&Internals::with_kind(
                this->norm_, [](auto& norm) -> auto& { return norm; }),
            &this->norm_);
  EXPECT_EQ(Internals::who(any).name, std::string(TypeParam::Kind::name));
  EXPECT_EQ(Internals::who(any).channels, 33);
  Internals::check_parameters(any);
  typename TypeParam::Vector& scale = any.scale();
  const Eigen::Map<typename TypeParam::RowMajor> in_scale(scale.data(), 1, 33);
  auto view = in_scale;
  EXPECT_NE(message_of([&] {
              Internals::check_output(any, detail::view_of(view));
            }).find("y shares memory with scale"),
            std::string::npos);
  scale.setZero(7);
  EXPECT_EQ(
      message_of([&] { Internals::check_parameters(any); }),
      std::string("tokennorm: ") + TypeParam::Kind::name + "(33): scale has 7 values; expected 33");
}

// ---- options ------------------------------------------------------------------------------------

TEST(AnyNormOptions, AreTheKindsOwnUnlessGiven) {
  const AnyNorm<float> layer(NormKind::layer_norm, 8), rms(NormKind::rms_norm, 8);
  EXPECT_EQ(layer.options().epsilon, LayerNormOptions{}.epsilon);
  EXPECT_TRUE(layer.options().scale);
  EXPECT_TRUE(layer.options().shift);
  EXPECT_EQ(layer.shift().size(), 8);
  EXPECT_EQ(rms.options().epsilon, RMSNormOptions{}.epsilon);
  EXPECT_TRUE(rms.options().scale);
  EXPECT_FALSE(rms.options().shift);
  EXPECT_EQ(rms.shift().size(), 0);
  for (const auto& options : {layer.options(), rms.options()}) {
    EXPECT_EQ(options.scale_offset, 0);
    EXPECT_EQ(options.statistics_channels, 0);
  }
}

TEST(AnyNormOptions, ThatAreGivenAreInForce) {
  const AnyNorm<float> norm(NormKind::rms_norm, 8,
                            {.epsilon = 1e-3,
                             .scale = false,
                             .shift = true,
                             .scale_offset = 1,
                             .statistics_channels = 4});
  const auto options = norm.options();
  EXPECT_EQ(options.epsilon, 1e-3);
  EXPECT_FALSE(options.scale);
  EXPECT_TRUE(options.shift);
  EXPECT_EQ(options.scale_offset, 1);
  EXPECT_EQ(options.statistics_channels, 4);
  const auto x = random_normal<TokenMatrix<float>>({3, 8}, Seed{1204});
  const RMSNorm<float> expected(8, {.epsilon = 1e-3,
                                    .scale = false,
                                    .shift = true,
                                    .scale_offset = 1,
                                    .statistics_channels = 4});
  EXPECT_TRUE(same_bits(norm(x), expected(x)));
  // A norm like it, of another size; of the options those that have to differ.
  const AnyNorm<float> like(norm.kind(), 16, norm.options());
  EXPECT_EQ(like.options().statistics_channels, 4);
  const AnyNorm<float> only_epsilon(NormKind::layer_norm, 8, {.epsilon = 1e-12});
  EXPECT_EQ(only_epsilon.options().epsilon, 1e-12);
  EXPECT_TRUE(only_epsilon.options().shift);
}

TEST(AnyNormOptions, StatisticsChannelsAreOfAnRMSNorm) {
  EXPECT_EQ(message_of([] { AnyNorm<float>(NormKind::layer_norm, 8, {.statistics_channels = 4}); }),
            "tokennorm: LayerNorm(8): statistics_channels is 4; expected 0 (all): only an RMSNorm "
            "can take its statistics of some channels");
  const AnyNorm<float> all(NormKind::layer_norm, 8, {.statistics_channels = 0});
  EXPECT_EQ(all.options().statistics_channels, 0);
}

TEST(AnyNorm, ErrorsNameTheKind) {
  const Eigen::MatrixXf x = Eigen::MatrixXf::Zero(4, 512);
  EXPECT_EQ(message_of([&] { AnyNorm<float>(NormKind::layer_norm, 768)(x); }),
            "tokennorm: LayerNorm(768): x is 4 x 512 (tokens x channels); expected 768 channels");
  EXPECT_EQ(message_of([&] { AnyNorm<float>(NormKind::rms_norm, 768)(x); }),
            "tokennorm: RMSNorm(768): x is 4 x 512 (tokens x channels); expected 768 channels");
  EXPECT_EQ(message_of([&] { AnyNorm<float>(NormKind::rms_norm, 0); }),
            "tokennorm: RMSNorm: channels is 0; expected 1 or more");
  AnyNorm<float> norm(NormKind::rms_norm, 768);
  EXPECT_EQ(message_of<std::logic_error>([&] {
              norm.backward(x);
            }).find("tokennorm: RMSNorm(768): backward before forward"),
            0u);
}

TEST(AnyNorm, CanBecomeOfTheOtherKind) {
  const auto x = random_normal<TokenMatrix<float>>({3, 8}, Seed{1205}, 1);
  AnyNorm norm(NormKind::layer_norm, 8);
  const auto copy = norm;
  norm = AnyNorm(NormKind::rms_norm, 8);
  EXPECT_EQ(norm.kind(), NormKind::rms_norm);
  EXPECT_TRUE(same_bits(norm(x), RMSNorm<float>(8)(x)));
  EXPECT_TRUE(same_bits(copy(x), LayerNorm<float>(8)(x)));
}

TEST(AnyNorm, OfAnyOtherScalar) {
  const auto x = random_normal<TokenMatrix<long double>>({3, 8}, Seed{1206}, 1);
  const AnyNorm<long double> norm(NormKind::layer_norm, 8);
  EXPECT_EQ(norm(x), LayerNorm<long double>(8)(x));
}

}  // namespace
}  // namespace tokennorm::test
