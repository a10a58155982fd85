// SPDX-License-Identifier: MIT
// Blocks of scalars without vectorized kernels: long double, and AutoDiffScalar, which holds the
// gradients of the double blocks to forward-mode differentiation.
#include "../support/exact_bits.hpp"
#include "equations.hpp"
#include "sublayers.hpp"
#include <tokennorm/block/stack.hpp>

#include <gtest/gtest.h>
#include <unsupported/Eigen/AutoDiff>

#include <cmath>
#include <vector>

namespace tokennorm::test {
namespace {

using Long = long double;

template <class Scalar>
LayerNorm<Scalar> layer(Index channels, Seed seed) {
  LayerNorm<Scalar> norm(channels);
  norm.scale() = random_vector<double>(channels, seed, 1).template cast<Scalar>();
  return norm;
}
template <class Scalar>
RMSNorm<Scalar> rms(Index channels, Seed seed) {
  RMSNorm<Scalar> norm(channels);
  norm.scale() = random_vector<double>(channels, seed, 1).template cast<Scalar>();
  return norm;
}

template <class Block>
void expect_equation(Block block) {
  const auto x = random_normal<ExactMatrix>({5, 7}, Seed{11001}, 1);
  const ExactMatrix expected = equation<Exactly>(block, x);
  const ExactMatrix y = block(x);
  EXPECT_LE((y - expected).cwiseAbs().maxCoeff(), 0x1p-54L * (1 + expected.cwiseAbs().maxCoeff()));
  ExactMatrix in_place = x;
  block(in_place, in_place);
  EXPECT_TRUE(in_place == y);
  EXPECT_TRUE(ExactMatrix(block.forward(x)) == y);

  const auto dy = random_normal<ExactMatrix>({5, 7}, Seed{11002});
  const ExactMatrix dx = block.backward(dy);
  ExactMatrix at = x;
  const Long step = 0x1p-20L;
  for (Index t = 0; t < 5; ++t)
    for (Index c = 0; c < 7; ++c) {
      at(t, c) = x(t, c) + step;
      const Long above = dy.cwiseProduct(equation<Exactly>(block, at)).sum();
      at(t, c) = x(t, c) - step;
      const Long below = dy.cwiseProduct(equation<Exactly>(block, at)).sum();
      at(t, c) = x(t, c);
      EXPECT_NEAR(static_cast<double>(dx(t, c)), static_cast<double>((above - below) / (2 * step)),
                  1e-9);
    }
}

TEST(GenericBlocks, OfLongDoubleAreTheirEquations) {
  const PreLN pre(layer<Long>(7, {1}), CausalMean<Long>(7, {2}), rms<Long>(7, {3}),
                  Linear<Long>(7, {4}));
  expect_equation(pre);
  expect_equation(PostLN(CausalMean<Long>(7, {2}), layer<Long>(7, {1}), Linear<Long>(7, {4}),
                         rms<Long>(7, {3})));
  expect_equation(SandwichLN(layer<Long>(7, {1}), CausalMean<Long>(7, {2}), rms<Long>(7, {3}),
                             rms<Long>(7, {5}), Linear<Long>(7, {4}), layer<Long>(7, {6})));
  expect_equation(Stack(layer<Long>(7, {8}), std::vector(2, pre), rms<Long>(7, {9})));
}

constexpr Index token_count = 3, channels = 3;
using Derivatives = Eigen::Matrix<double, token_count * channels, 1>;
using Dual = Eigen::AutoDiffScalar<Derivatives>;

/// A token-wise map, and its transposed Jacobian, in either scalar.
struct Squared {
  template <class T>
  TokenMatrix<T> operator()(const TokenMatrix<T>& x) const {
    TokenMatrix<T> y(x.rows(), x.cols());
    for (Index t = 0; t < x.rows(); ++t)
      for (Index c = 0; c < x.cols(); ++c) y(t, c) = x(t, c) * x(t, (c + 1) % x.cols());
    return y;
  }
  TokenMatrix<double> forward(const TokenMatrix<double>& x) {
    x_ = x;
    return (*this)(x);
  }
  TokenMatrix<double> backward(const TokenMatrix<double>& dy) {
    TokenMatrix<double> dx(dy.rows(), dy.cols());
    for (Index t = 0; t < dy.rows(); ++t)
      for (Index c = 0; c < dy.cols(); ++c) {
        const Index next = (c + 1) % dy.cols(), last = (c + dy.cols() - 1) % dy.cols();
        dx(t, c) = dy(t, c) * x_(t, next) + dy(t, last) * x_(t, last);
      }
    return dx;
  }
  TokenMatrix<double> x_;
};

template <class Block, class DualBlock>
void expect_same_derivatives(Block block, const DualBlock& dual_block) {
  const auto x = random_normal<TokenMatrix<double>>({token_count, channels}, Seed{11011}, 1);
  TokenMatrix<Dual> dual(token_count, channels);
  for (Index i = 0; i < x.size(); ++i) dual.data()[i] = Dual(x.data()[i], Derivatives::Unit(i));
  const TokenMatrix<Dual> dual_y = dual_block(dual);
  const TokenMatrix<double> y = block.forward(x);
  for (Index i = 0; i < y.size(); ++i) {
    EXPECT_NEAR(dual_y.data()[i].value(), y.data()[i], 1e-12 * (1 + std::fabs(y.data()[i])));
    TokenMatrix<double> dy = TokenMatrix<double>::Zero(token_count, channels);
    dy.data()[i] = 1;
    block.forward(x);
    const TokenMatrix<double> dx = block.backward(dy);
    const Derivatives& expected = dual_y.data()[i].derivatives();
    for (Index j = 0; j < dx.size(); ++j)
      EXPECT_NEAR(dx.data()[j], expected(j), 1e-11 * (1 + expected.cwiseAbs().maxCoeff()))
          << "output " << i << ", input " << j;
  }
}

TEST(GenericBlocks, OfAutoDiffScalarHaveTheGradientsOfTheDoubleOnes) {
  const auto pre = [](auto scalar) {
    using S = decltype(scalar);
    return PreLN(layer<S>(channels, {1}), Squared{}, rms<S>(channels, {2}), Squared{});
  };
  expect_same_derivatives(pre(double{}), pre(Dual{}));
  const auto sandwich = [](auto scalar) {
    using S = decltype(scalar);
    return SandwichLN(rms<S>(channels, {1}), Squared{}, layer<S>(channels, {2}),
                      layer<S>(channels, {3}), Squared{}, rms<S>(channels, {4}));
  };
  expect_same_derivatives(sandwich(double{}), sandwich(Dual{}));
  const auto post = [](auto scalar) {
    using S = decltype(scalar);
    return PostLN(Squared{}, layer<S>(channels, {1}), Squared{}, rms<S>(channels, {2}));
  };
  expect_same_derivatives(post(double{}), post(Dual{}));
}

}  // namespace
}  // namespace tokennorm::test
