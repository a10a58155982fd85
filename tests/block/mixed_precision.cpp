// SPDX-License-Identifier: MIT
// The stream in float and the sublayers in 16 bits, in inference and in training; and 16 bits all
// through, with parameters and gradients of float. The bounds are stated in units of the 16-bit
// scalar's rounding, u: each sublayer's input and output is rounded once.
#include "../support/exact_bits.hpp"
#include "equations.hpp"
#include "executors.hpp"
#include "placements.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <type_traits>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;
constexpr Index channels = 33;

/// f(n) = n∘w, in whatever scalar it is given; gradients in float.
struct Diagonal {
  Eigen::VectorXf weight = Eigen::VectorXf::LinSpaced(channels, -1, 1);
  Eigen::VectorXf gradient = Eigen::VectorXf::Zero(channels);
  TokenMatrix<float> n_;
  template <class T>
  TokenMatrix<T> operator()(const TokenMatrix<T>& n) const {
    if constexpr (std::is_same_v<T, long double>) {
      return n * weight.cast<long double>().asDiagonal();
    } else {
      return (n.template cast<float>() * weight.asDiagonal()).template cast<T>();
    }
  }
  template <class T>
  TokenMatrix<T> forward(const TokenMatrix<T>& n) {
    n_ = n.template cast<float>();
    return (*this)(n);
  }
  template <class T>
  TokenMatrix<T> backward(const TokenMatrix<T>& du) {
    gradient += du.template cast<float>().cwiseProduct(n_).colwise().sum().transpose();
    return (du.template cast<float>() * weight.asDiagonal()).template cast<T>();
  }
  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    Eigen::Map<Eigen::VectorXf> value(weight.data(), channels), slope(gradient.data(), channels);
    const std::string name = "weight";
    visitor(name, value, slope);
  }
};

LayerNorm<float> layer(std::uint64_t seed) { return layer_norm<float>(channels, {seed}); }
RMSNorm<float> rms(std::uint64_t seed) { return rms_norm<float>(channels, {seed}); }

/// f(block) for a block of each kind, and a stack of all.
template <class F>
void for_each_block(const F& f) {
  const auto try_one = [&](const char* name, const auto& block) {
    SCOPED_TRACE(name);
    f(block);
  };
  const PreLN pre(layer(1), Diagonal{}, rms(2), Diagonal{});
  const PostLN post(Diagonal{}, layer(3), Diagonal{}, rms(4));
  const SandwichLN sandwich(rms(5), Diagonal{}, layer(6), rms(7), Diagonal{}, layer(8));
  const ResPostLN res_post(Diagonal{}, layer(9), Diagonal{}, rms(10));
  const DeepNorm deep(Diagonal{}, layer(11), Diagonal{}, layer(12), 1.5);
  const ParallelLN parallel(layer(13), Diagonal{}, Diagonal{});
  const ParallelLN two_norms(layer(14), Diagonal{}, rms(15), Diagonal{});
  const PreLN scaled(layer(16), LayerScale(Diagonal{}, channels, 0.5), rms(17),
                     Scaled(Diagonal{}, 0.25));
  try_one("Pre-LN", pre);
  try_one("Post-LN", post);
  try_one("Sandwich-LN", sandwich);
  try_one("residual-post-norm", res_post);
  try_one("DeepNorm", deep);
  try_one("parallel", parallel);
  try_one("parallel, two norms", two_norms);
  try_one("scaled", scaled);
  try_one("stack", Stack(layer(18), std::tuple(post, sandwich, parallel, scaled, pre), rms(19)));
}

template <class Block>
std::map<std::string, Eigen::VectorXf> gradients_of(Block& block) {
  std::map<std::string, Eigen::VectorXf> gradients;
  block.visit_parameters(
      [&](const std::string& name, auto&, auto& gradient) { gradients[name] = gradient; });
  return gradients;
}

template <class Half>
class MixedPrecision : public ::testing::Test {
 protected:
  static constexpr double rounding = std::is_same_v<Half, Eigen::half> ? 0x1p-11 : 0x1p-8;
  const Tokens x_ = random_normal<Tokens>({70, channels}, Seed{8601});
  const Tokens dy_ = random_normal<Tokens>({70, channels}, Seed{8602});
};
using Halves = ::testing::Types<Eigen::bfloat16, Eigen::half>;
TYPED_TEST_SUITE(MixedPrecision, Halves);

TYPED_TEST(MixedPrecision, AFloatStreamIsNearTheFloatModel) {
  for_each_block([&](const auto& block) {
    Workspace<float, TypeParam> workspace;
    Tokens y;
    block(this->x_, y, workspace);
    const ExactMatrix expected = equation<Exactly>(block, exact(this->x_));
    const auto error = static_cast<double>((exact(y) - expected).cwiseAbs().maxCoeff());
    const auto size = static_cast<double>(expected.cwiseAbs().maxCoeff());
    EXPECT_LE(error, 12 * this->rounding * size);
    EXPECT_GT(error, 0.01 * this->rounding * size) << "the sublayers had more than 16 bits";
    Tokens other;
    Workspace<float, TypeParam> another;
    block(this->x_, other, another, TestExecutor{Division::one_by_one});
    EXPECT_TRUE(same_bits(other, y));
    for (const Index t : {0, 69}) {
      const Tokens token = this->x_.row(t);
      block(token, other, workspace);
      EXPECT_TRUE(same_bits(other, y.row(t))) << "a token whatever is around it";
    }
  });
}

TYPED_TEST(MixedPrecision, AStreamOfFloatAndSublayersOfFloatIsTheModelItself) {
  for_each_block([&](const auto& block) {
    Workspace<float, float> workspace;
    Tokens y;
    block(this->x_, y, workspace);
    EXPECT_TRUE(same_bits(y, block(this->x_)));
  });
}

TYPED_TEST(MixedPrecision, TrainingIsNearThatOfTheFloatModel) {
  for_each_block([&](auto block) {
    auto in_float = block;
    in_float.forward(this->x_);
    const Tokens expected_dx = in_float.backward(this->dy_);
    TrainingRecord<float, TypeParam> record;
    Tokens y, dx, inferred;
    block.forward(this->x_, y, record);
    Workspace<float, TypeParam> workspace;
    block(this->x_, inferred, workspace);
    EXPECT_TRUE(same_bits(y, inferred)) << "forward is inference";
    block.backward(this->dy_, dx, record);
    const auto expect_near = [&](const auto& actual, const auto& expected) {
      EXPECT_LE(double((actual - expected).cwiseAbs().maxCoeff()),
                24 * this->rounding * double(expected.cwiseAbs().maxCoeff()));
    };
    expect_near(dx, expected_dx);
    auto actual = gradients_of(block);
    for (const auto& [name, expected] : gradients_of(in_float)) {
      SCOPED_TRACE(name);
      expect_near(actual.at(name), expected);
    }
    // The same bits for every executor.
    block.zero_gradients();
    const auto before = gradients_of(block);
    block.forward(this->x_, y, record, TestExecutor{Division::odd_pieces_backwards});
    Tokens again;
    block.backward(this->dy_, again, record, TestExecutor{Division::odd_pieces_backwards});
    EXPECT_TRUE(same_bits(again, dx));
  });
}

TYPED_TEST(MixedPrecision, SixteenBitsAllThroughHaveParametersAndGradientsOfFloat) {
  const TokenMatrix<TypeParam> x = this->x_.template cast<TypeParam>();
  const TokenMatrix<TypeParam> dy = this->dy_.template cast<TypeParam>();
  for_each_block([&](auto block) {
    auto in_float = block;
    in_float.forward(Tokens(x.template cast<float>()));
    const Tokens expected_dx = in_float.backward(Tokens(dy.template cast<float>()));
    TrainingRecord<TypeParam> record;
    TokenMatrix<TypeParam> y, dx;
    block.forward(x, y, record);
    EXPECT_TRUE(same_bits(y, block(x)));
    block.backward(dy, dx, record);
    EXPECT_LE(double((dx.template cast<float>() - expected_dx).cwiseAbs().maxCoeff()),
              48 * this->rounding * double(expected_dx.cwiseAbs().maxCoeff()));
    auto actual = gradients_of(block);
    for (const auto& [name, expected] : gradients_of(in_float)) {
      EXPECT_LE(double((actual.at(name) - expected).cwiseAbs().maxCoeff()),
                48 * this->rounding * double(expected.cwiseAbs().maxCoeff()))
          << name;
    }
  });
}

}  // namespace
}  // namespace tokennorm::test
