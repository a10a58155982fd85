// SPDX-License-Identifier: MIT
// One norm folded into the linear maps that read it: what they compute stays the same.
#include "../norm/norm_kinds.hpp"
#include "tensor_file.hpp"
#include <tokennorm/checkpoint/center_weights.hpp>
#include <tokennorm/checkpoint/fold_norm.hpp>

#include <gtest/gtest.h>
#include <unsupported/Eigen/AutoDiff>

#include <cmath>
#include <limits>
#include <string>
#include <utility>

namespace tokennorm::test {
namespace {

constexpr Index tokens = 5, channels = 24, outputs = 17;

/// y = x̂·Wᵀ + b in long double, x̂ the norm's result; W (outputs, inputs).
template <class Norm, class Weight, class Bias>
ExactMatrix reading(const Norm& norm, const ExactMatrix& x, const Weight& weight,
                    const Bias& bias) {
  ExactMatrix y = forward_oracle_of(norm, x).y *
                  weight.template cast<double>().template cast<long double>().transpose();
  if (bias.size() > 0) {
    y.rowwise() += bias.template cast<double>().template cast<long double>().transpose();
  }
  return y;
}

template <class Norm, class Weight, class Bias>
ExactMatrix reading(const Norm& norm, const ExactMatrix& x, const Weight& weight, const Bias& bias,
                    bool transposed) {
  return transposed ? reading(norm, x, weight.transpose().eval(), bias)
                    : reading(norm, x, weight, bias);
}

template <class Kind_, class Scalar_, int Order>
struct FoldCase {
  using Kind = Kind_;
  using Scalar = Scalar_;
  using Weight = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Order>;
  using Bias = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;
  using C = Case<Kind, Scalar>;
};

template <class FoldCase>
class FoldNorm : public ::testing::Test {
 protected:
  using Scalar = typename FoldCase::Scalar;
  using Weight = typename FoldCase::Weight;
  using Bias = typename FoldCase::Bias;
  using C = typename FoldCase::C;

  const ExactMatrix x_ =
      exact(random_normal<TokenMatrix<double>>({tokens, channels}, Seed{1}, 0.5, 2));
  const Bias bias_ = random_vector<Scalar>(outputs, Seed{3});

  static Weight weight(bool transposed, Seed seed = {2}) {
    const auto w = random_normal<Weight>({outputs, channels}, seed);
    return transposed ? Weight(w.transpose()) : w;
  }

  /// The two readings differ by the rounding of each weight and bias to Scalar, and no more.
  void expect_same(const ExactMatrix& expected, const ExactMatrix& actual) {
    const long double rounding = std::ldexp(1.0L, -ScalarFacts<Scalar>::significant_bits);
    const long double change = (expected - actual).cwiseAbs().maxCoeff();
    EXPECT_LE(change, 2 * rounding * channels * expected.cwiseAbs().maxCoeff());
    EXPECT_GT(expected.cwiseAbs().maxCoeff(), 1);
  }
};

using FoldCases = ::testing::Types<
    FoldCase<LayerKind, float, Eigen::RowMajor>, FoldCase<LayerKind, double, Eigen::ColMajor>,
    FoldCase<LayerKind, Eigen::bfloat16, Eigen::RowMajor>,
    FoldCase<RMSKind, float, Eigen::ColMajor>, FoldCase<RMSKind, Eigen::half, Eigen::RowMajor>>;
TYPED_TEST_SUITE(FoldNorm, FoldCases);

TYPED_TEST(FoldNorm, KeepsWhatTheReaderComputes) {
  for (const double offset : {0.0, 1.0})
    for (const bool scale : {true, false})
      for (const bool shift : {true, false})
        for (const bool transposed : {false, true}) {
          SCOPED_TRACE(::testing::Message() << "offset " << offset << ", scale " << scale
                                            << ", shift " << shift << ", W " << transposed);
          auto options = affine_options<typename TypeParam::Kind>(1e-3);
          options.scale = scale;
          options.shift = shift;
          options.scale_offset = offset;
          auto norm = random_norm<typename TestFixture::C>(channels, Seed{4}, options);
          auto weight = this->weight(transposed);
          auto bias = this->bias_;
          const ExactMatrix before = reading(norm, this->x_, weight, bias, transposed);
          const auto fold = [&] {
            if (transposed) {
              fold_norm(norm, InOut{weight, bias});
            } else {
              fold_norm(norm, OutIn{weight, bias});
            }
          };
          fold();
          EXPECT_FALSE(norm.options().scale || norm.options().shift);
          EXPECT_EQ(norm.options().epsilon, 1e-3);
          EXPECT_EQ(norm.scale().size() + norm.shift().size(), 0);
          this->expect_same(before, reading(norm, this->x_, weight, bias, transposed));
          EXPECT_EQ(bias == this->bias_, !shift);
          EXPECT_EQ(weight == this->weight(transposed), !scale);

          const auto weight_once = weight;
          const auto bias_once = bias;
          fold();
          EXPECT_EQ(weight, weight_once) << "folded twice";
          EXPECT_EQ(bias, bias_once);
        }
}

TYPED_TEST(FoldNorm, GoesIntoEveryReader) {
  auto norm = random_norm<typename TestFixture::C>(channels, Seed{4});
  const auto original = norm;
  auto q = this->weight(false, {5}), k = this->weight(true, {6}), v = this->weight(false, {7});
  const auto q0 = q, k0 = k, v0 = v;
  auto bq = this->bias_, bk = this->bias_, bv = this->bias_;
  Eigen::Map<typename TestFixture::Weight> v_map(v.data(), v.rows(), v.cols());
  fold_norm(norm, OutIn{q, bq}, InOut{k, bk},
            OutIn{Eigen::Map<typename TestFixture::Weight>(v_map), bv.head(outputs)});
  this->expect_same(reading(original, this->x_, q0, this->bias_), reading(norm, this->x_, q, bq));
  this->expect_same(reading(original, this->x_, k0, this->bias_, true),
                    reading(norm, this->x_, k, bk, true));
  this->expect_same(reading(original, this->x_, v0, this->bias_), reading(norm, this->x_, v, bv));
}

TEST(FoldNormParts, TakesTheColumnsOfOneMatrixAndARowOfBiases) {
  auto norm = random_norm<Case<LayerKind, float>>(channels, Seed{4});
  const auto original = norm;
  const ExactMatrix x = exact(random_normal<TokenMatrix<double>>({tokens, channels}, Seed{1}));
  TokenMatrix<float> qk = random_normal<TokenMatrix<float>>({channels, 2 * outputs}, Seed{2});
  Eigen::RowVectorXf bias = Eigen::RowVectorXf::Ones(2 * outputs);
  const ExactMatrix before = reading(original, x, qk.transpose().eval(), bias.transpose().eval());
  fold_norm(norm, InOut{qk.leftCols(outputs), bias.head(outputs)},
            InOut{qk.rightCols(outputs), bias.tail(outputs)});
  const ExactMatrix after = reading(norm, x, qk.transpose().eval(), bias.transpose().eval());
  EXPECT_LE((before - after).cwiseAbs().maxCoeff(), 1e-5);
}

TEST(FoldNormParts, KeepsEpsilonAndStatisticsChannels) {
  RMSNorm<float> norm(channels, {.epsilon = 0.25, .scale_offset = 1, .statistics_channels = 6});
  norm.scale().setConstant(1.5f);
  TokenMatrix<float> weight = TokenMatrix<float>::Constant(outputs, channels, 2);
  fold_norm(norm, OutIn{weight});
  EXPECT_TRUE((weight.array() == 5).all());
  EXPECT_EQ(norm.options().epsilon, 0.25);
  EXPECT_EQ(norm.options().statistics_channels, 6);
  EXPECT_EQ(norm.options().scale_offset, 0);
}

TEST(FoldNormParts, TakesOtherScalarsOfEigen) {
  using Dual = Eigen::AutoDiffScalar<Eigen::Vector2d>;
  RMSNorm<Dual> norm(1);
  norm.scale()(0) = Dual(5, 2, 0);
  TokenMatrix<Dual> weight = TokenMatrix<Dual>::Constant(1, 1, Dual(3, 2, 1));
  fold_norm(norm, OutIn{weight});
  EXPECT_EQ(weight(0, 0).value(), 15);
  EXPECT_EQ(weight(0, 0).derivatives(), Eigen::Vector2d(3, 5));
}

/// 1 + 2⁻¹¹ and a little: half rounds it up, but the float next to it lies half-way, and goes to 1.
constexpr double above_half_way = 1 + 0x1p-11 + 0x1p-40, half_above_one = 1 + 0x1p-10;

TEST(FoldNormParts, RoundsEachWeightAndBiasOnce) {
  RMSNorm<double> norm(1, {.shift = true});
  norm.scale()(0) = above_half_way;
  norm.shift()(0) = above_half_way - 1;
  TokenMatrix<Eigen::half> weight = TokenMatrix<Eigen::half>::Ones(1, 1);
  Eigen::Matrix<Eigen::half, 1, 1> bias(Eigen::half(1.0f));
  fold_norm(norm, OutIn{weight, bias});
  EXPECT_EQ(static_cast<double>(weight(0, 0)), half_above_one);
  EXPECT_EQ(static_cast<double>(bias(0)), half_above_one);
}

TEST(CenterReader, RoundsEachWeightOnce) {
  const LayerNorm<float> norm(4, {.scale = false, .shift = false});
  TokenMatrix<Eigen::half> weight(1, 4);  // the mean is -2⁻¹¹ - 2⁻²⁶
  weight << Eigen::half(1.0f), Eigen::half(-1.0f), Eigen::half(-0x1p-9f), Eigen::half(-0x1p-24f);
  center_reader(norm, OutIn{weight});
  EXPECT_EQ(static_cast<double>(weight(0, 0)), half_above_one);
}

TEST(CenterReader, TakesTheMeanThatALayerNormGivesNoWeight) {
  auto norm = random_norm<Case<LayerKind, float>>(channels, Seed{4});
  const ExactMatrix x = exact(random_normal<TokenMatrix<double>>({tokens, channels}, Seed{1}));
  TokenMatrix<float> weight = random_normal<TokenMatrix<float>>({outputs, channels}, Seed{2}, 3);
  TokenMatrix<float> in_out = weight.transpose();
  Eigen::VectorXf bias = Eigen::VectorXf::Ones(outputs), same = bias;
  EXPECT_THROW(center_reader(norm, OutIn{weight}), std::invalid_argument) << "not yet folded";
  fold_norm(norm, OutIn{weight, bias}, InOut{in_out, same});
  const ExactMatrix before = reading(norm, x, weight, bias);
  const TokenMatrix<float> folded = weight;
  center_reader(norm, OutIn{weight, bias}, InOut{in_out, same});
  EXPECT_GT((weight - folded).cwiseAbs().maxCoeff(), 0.1f);
  EXPECT_LE(weight.rowwise().mean().cwiseAbs().maxCoeff(), 1e-6f);
  EXPECT_EQ(in_out, weight.transpose());
  EXPECT_LE((reading(norm, x, weight, bias) - before).cwiseAbs().maxCoeff(), 1e-4);
}

/// The border is half-way from the largest number to the next there would be; 65520 for half.
TEST(FoldNormParts, TakesResultsUpToTheBorderOfTheScalar) {
  const auto folded = [](double gamma, auto weight) {
    RMSNorm<double> norm(1);
    norm.scale()(0) = gamma;
    fold_norm(norm, OutIn{weight});
    return static_cast<double>(weight(0, 0));
  };
  const Eigen::Matrix<Eigen::half, 1, 1> half(Eigen::half(1.0f));
  const Eigen::Matrix<Eigen::bfloat16, 1, 1> brain(Eigen::bfloat16(1.0f));
  const Eigen::Matrix<float, 1, 1> single(1.0f);
  const double below = 1 - 0x1p-53;
  EXPECT_EQ(folded(65520 * below, half), 65504);
  EXPECT_EQ(folded(-65520 * below, half), -65504);
  EXPECT_EQ(folded(0x1.ffp127 * below, brain), 0x1.fep127);
  EXPECT_EQ(folded(0x1.ffffffp127 * below, single), 0x1.fffffep127);
  const auto refusal = [&](double gamma, const auto& weight) {
    return message_of<std::invalid_argument>([&] { folded(gamma, weight); });
  };
  EXPECT_EQ(refusal(65520, half),
            "tokennorm: RMSNorm(1): reader 0's weight of output 0 and input 0 would be 65520; the "
            "largest half is 65504");
  EXPECT_EQ(refusal(0x1.ffp127, brain),
            "tokennorm: RMSNorm(1): reader 0's weight of output 0 and input 0 would be "
            "3.39618e+38; the largest bfloat16 is 3.38953e+38");
  EXPECT_EQ(refusal(-0x1.ffffffp127, single),
            "tokennorm: RMSNorm(1): reader 0's weight of output 0 and input 0 would be "
            "-3.40282e+38; the largest float is 3.40282e+38");
  EXPECT_EQ(refusal(1e300, Eigen::Matrix<double, 1, 1>(1e300)),
            "tokennorm: RMSNorm(1): reader 0's weight of output 0 and input 0 would be inf; the "
            "largest double is 1.79769e+308");
}

TEST(FoldNormParts, KeepsInfinityAndNaNThatAreThere) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  LayerNorm<double> norm(2);
  norm.scale() << 2, infinity;
  norm.shift() << 1, 1;
  TokenMatrix<Eigen::half> weight(2, 2);
  weight << Eigen::half(-infinity), Eigen::half(1), Eigen::half(1), Eigen::half(1);
  Eigen::Vector<Eigen::half, 2> bias(Eigen::half(0), Eigen::half(NAN));
  fold_norm(norm, OutIn{weight, bias});
  EXPECT_EQ(static_cast<double>(weight(0, 0)), -infinity);
  EXPECT_EQ(static_cast<double>(weight(0, 1)), infinity);
  EXPECT_EQ(static_cast<double>(weight(1, 0)), 2);
  EXPECT_EQ(static_cast<double>(bias(0)), -infinity);
  EXPECT_TRUE(std::isnan(static_cast<double>(bias(1))));
  LayerNorm<double> plain(2, {.scale = false, .shift = false});
  center_reader(plain, OutIn{weight});
  EXPECT_TRUE(std::isnan(static_cast<double>(weight(0, 0))));
  EXPECT_TRUE(std::isnan(static_cast<double>(weight(0, 1))));
}

/// Every sum is asked where its NaN comes from: 0.1 s, and hours if each looked for it.
TEST(FoldNormParts, TakesAMatrixOfNaNInTheTimeOfAnyOther) {
  constexpr Index size = 1500;
  LayerNorm<float> norm(size);
  TokenMatrix<float> weight = TokenMatrix<float>::Constant(size, size, NAN);
  Eigen::VectorXf bias = Eigen::VectorXf::Zero(size);
  fold_norm(norm, OutIn{weight, bias});
  center_reader(norm, OutIn{weight, bias});
  EXPECT_TRUE(bias.array().isNaN().all() && weight.array().isNaN().all());
}

TEST(FoldNormErrors, WhatDoesNotFitIsSeenBeforeAnythingIsWritten) {
  LayerNorm<float> norm(2);
  norm.scale() << 2, 30000;
  norm.shift() << 0, 60000;
  TokenMatrix<float> first = TokenMatrix<float>::Ones(1, 2);
  Eigen::VectorXf first_bias = Eigen::VectorXf::Zero(1);
  TokenMatrix<Eigen::half> second = TokenMatrix<Eigen::half>::Ones(2, 2);
  Eigen::Vector<Eigen::half, 2> bias(Eigen::half(0), Eigen::half(6000));
  const auto refusal = [&] {
    const TokenMatrix<float> untouched = first;
    const TokenMatrix<Eigen::half> second_untouched = second;
    const std::string message = message_of<std::invalid_argument>([&] {
      fold_norm(norm, OutIn{first, first_bias}, InOut{second, bias});
    });
    EXPECT_EQ(first, untouched);
    EXPECT_EQ(second, second_untouched);
    EXPECT_EQ(first_bias(0), 0);
    EXPECT_EQ(norm.scale()(1), 30000);
    return message;
  };
  EXPECT_EQ(refusal(),
            "tokennorm: LayerNorm(2): reader 1's bias of output 1 would be 66000; the largest half "
            "is 65504");
  norm.shift()(1) = 0;
  second(1, 0) = Eigen::half(-3);
  EXPECT_EQ(refusal(),
            "tokennorm: LayerNorm(2): reader 1's weight of output 0 and input 1 would be -90000; "
            "the largest half is 65504");
}

TEST(CenterReader, RefusesWhatDoesNotFit) {
  const LayerNorm<float> norm(4, {.scale = false, .shift = false});
  TokenMatrix<Eigen::half> fits(1, 4), weight(1, 4);
  fits << Eigen::half(1), Eigen::half(2), Eigen::half(3), Eigen::half(4);
  weight << Eigen::half(60000), Eigen::half(-60000), Eigen::half(-60000), Eigen::half(-60000);
  const TokenMatrix<Eigen::half> fits_before = fits, before = weight;
  EXPECT_EQ(
      message_of<std::invalid_argument>([&] { center_reader(norm, OutIn{fits}, OutIn{weight}); }),
      "tokennorm: LayerNorm(4): reader 1's weight of output 0 and input 0 would be 90000; "
      "the largest half is 65504");
  EXPECT_EQ(fits, fits_before);
  EXPECT_EQ(weight, before);
}

TEST(CenterReader, RefusesMemoryThatIsReadInTwoWays) {
  const LayerNorm<float> norm(channels, {.scale = false, .shift = false});
  TokenMatrix<float> weight = TokenMatrix<float>::Random(channels, channels);
  const TokenMatrix<float> before = weight;
  EXPECT_EQ(
      message_of<std::invalid_argument>([&] { center_reader(norm, OutIn{weight}, InOut{weight}); }),
      "tokennorm: LayerNorm(24): reader 1 shares memory with another reader, and would change "
      "twice; give each reader once, of one norm");
  EXPECT_EQ(weight, before);
}

/// Refused in these words, with nothing written.
template <class Fold>
void expect_refused(const std::string& words, const Fold& fold) {
  LayerNorm<float> norm = random_norm<Case<LayerKind, float>>(channels, Seed{4});
  TokenMatrix<float> first = TokenMatrix<float>::Random(outputs, channels);
  Eigen::VectorXf bias = Eigen::VectorXf::Random(outputs);
  const TokenMatrix<float> first_before = first;
  const Eigen::VectorXf bias_before = bias;
  const std::string message = message_of<std::invalid_argument>([&] { fold(norm, first, bias); });
  EXPECT_NE(message.find(words), std::string::npos) << message;
  EXPECT_EQ(message.find("tokennorm: LayerNorm(24): "), 0U) << message;
  EXPECT_EQ(first, first_before);
  EXPECT_EQ(bias, bias_before);
  EXPECT_TRUE(norm.options().scale && norm.options().shift);
}

TEST(FoldNormErrors, ComeBeforeAnythingIsWritten) {
  TokenMatrix<float> other = TokenMatrix<float>::Random(outputs, channels + 1);
  TokenMatrix<float> transposed = TokenMatrix<float>::Random(channels, outputs);
  Eigen::VectorXf empty, short_bias = Eigen::VectorXf::Zero(outputs - 1);
  expect_refused("reader 1 has 25 inputs and 17 outputs; expected the 24 channels",
                 [&](auto& norm, auto& weight, auto& bias) {
                   fold_norm(norm, OutIn{weight, bias}, OutIn{other, bias});
                 });
  expect_refused("reader 1 has 17 inputs and 24 outputs; expected the 24 channels",
                 [&](auto& norm, auto& weight, auto& bias) {
                   fold_norm(norm, OutIn{weight, bias}, OutIn{transposed, bias});
                 });
  expect_refused("reader 0 has 17 inputs and 24 outputs",
                 [&](auto& norm, auto& weight, auto& bias) {
                   fold_norm(norm, InOut{weight, bias});
                 });
  expect_refused(
      "reader 0 has no bias, and the norm's shift has nowhere to go; give it a bias of "
      "17 zeros",
      [&](auto& norm, auto& weight, auto&) { fold_norm(norm, OutIn{weight}); });
  expect_refused("reader 0 has no bias", [&](auto& norm, auto& weight, auto&) {
    fold_norm(norm, OutIn{weight, empty});
  });
  expect_refused("reader 0's bias has 16 values; expected one for each of the 17 outputs",
                 [&](auto& norm, auto& weight, auto&) {
                   fold_norm(norm, OutIn{weight, short_bias});
                 });
  expect_refused("reader 1 shares memory with another reader",
                 [&](auto& norm, auto& weight, auto& bias) {
                   Eigen::VectorXf second = bias;
                   fold_norm(norm, OutIn{weight, bias}, OutIn{weight, second});
                 });
  expect_refused("shift has 3 values", [&](auto& norm, auto& weight, auto& bias) {
    norm.shift().resize(3);
    fold_norm(norm, OutIn{weight, bias});
  });
}

}  // namespace
}  // namespace tokennorm::test
