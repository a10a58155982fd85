// SPDX-License-Identifier: MIT
// Sublayers for the tests: plain loops in a fixed order, so that a token's bits do not depend on
// how many others there are, and so that the oracle can run the same sublayer in long double.
#pragma once

#include "../support/may_throw.hpp"
#include "../support/oracle.hpp"
#include "../support/random_tokens.hpp"
#include "../support/scalars.hpp"
#include <tokennorm/core/concepts.hpp>

#include <Eigen/Core>

#include <cmath>
#include <string>

namespace tokennorm::test {

/// y = x·W + b, token by token.
template <class Scalar>
class Linear {
 public:
  using Tokens = TokenMatrix<Scalar>;
  using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

  Linear(Index channels, Seed seed)
      : weight_(random_normal<Tokens>({channels, channels}, seed, 0,
                                      1 / std::sqrt(static_cast<double>(channels)))),
        bias_(random_vector<Scalar>(channels, Seed{seed.value + 1000}, 0, 0.5)),
        weight_gradient_(Tokens::Zero(channels, channels)),
        bias_gradient_(Vector::Zero(channels)) {}

  /// In x's scalar, which need not be that of the weights.
  template <class T>
  TokenMatrix<T> operator()(const TokenMatrix<T>& x) const {
    may_throw();
    using A = AccumOf<T>;
    TokenMatrix<T> y(x.rows(), x.cols());
    for (Index t = 0; t < x.rows(); ++t)
      for (Index c = 0; c < x.cols(); ++c) {
        A sum = static_cast<A>(bias_(c));
        for (Index k = 0; k < x.cols(); ++k)
          sum += static_cast<A>(x(t, k)) * static_cast<A>(weight_(k, c));
        y(t, c) = static_cast<T>(sum);
      }
    return y;
  }

  Tokens forward(const Tokens& x) {
    x_ = x;
    return (*this)(x);
  }
  Tokens backward(const Tokens& dy) {
    may_throw();
    if (dy.rows() > 0) {  // or Eigen would count from a null pointer
      weight_gradient_ += x_.transpose().lazyProduct(dy);
      bias_gradient_ += dy.colwise().sum().transpose();
    }
    return dy.lazyProduct(weight_.transpose());
  }
  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    visitor("weight", Eigen::Map<Vector>(weight_.data(), weight_.size()),
            Eigen::Map<Vector>(weight_gradient_.data(), weight_gradient_.size()));
    visitor("bias", Eigen::Map<Vector>(bias_.data(), bias_.size()),
            Eigen::Map<Vector>(bias_gradient_.data(), bias_gradient_.size()));
  }
  void zero_gradients() {
    weight_gradient_.setZero();
    bias_gradient_.setZero();
  }

 private:
  Tokens weight_;
  Vector bias_;
  Tokens weight_gradient_;
  Vector bias_gradient_;
  Tokens x_;
};

/// Token t sees the mean of the tokens up to t, and a linear map of it: what attention is to a
/// test.
template <class Scalar>
class CausalMean {
 public:
  using Tokens = TokenMatrix<Scalar>;

  CausalMean(Index channels, Seed seed) : linear_(channels, seed) {}

  template <class T>
  TokenMatrix<T> operator()(const TokenMatrix<T>& x) const {
    return linear_(mean_so_far(x));
  }
  Tokens forward(const Tokens& x) { return linear_.forward(mean_so_far(x)); }
  Tokens backward(const Tokens& dy) {
    const Tokens dmean = linear_.backward(dy);
    Tokens dx = Tokens::Zero(dy.rows(), dy.cols());
    for (Index t = 0; t < dy.rows(); ++t)
      for (Index s = 0; s <= t; ++s) dx.row(s) += dmean.row(t) / static_cast<Scalar>(t + 1);
    return dx;
  }
  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    linear_.visit_parameters(visitor);
  }
  void zero_gradients() { linear_.zero_gradients(); }

 private:
  template <class T>
  static TokenMatrix<T> mean_so_far(const TokenMatrix<T>& x) {
    using A = AccumOf<T>;
    TokenMatrix<T> mean(x.rows(), x.cols());
    for (Index c = 0; c < x.cols(); ++c) {
      A sum = 0;
      for (Index t = 0; t < x.rows(); ++t) {
        sum += static_cast<A>(x(t, c));
        mean(t, c) = static_cast<T>(sum / static_cast<A>(t + 1));
      }
    }
    return mean;
  }

  Linear<Scalar> linear_;
};

}  // namespace tokennorm::test
