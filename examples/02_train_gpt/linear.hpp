// SPDX-License-Identifier: MIT
/// A linear layer:  y = x·W + b.
///
/// Shapes     x (T, inputs) · W (inputs, outputs) · b (outputs) · y (T, outputs)
/// Backward   dx = dy·Wᵀ    dW += xᵀ·dy    db += Σₜ dyₜ
/// Start      W ~ N(0, gain² / inputs), so that y is about as large as x, times the gain; b = 0
#pragma once

#include "parameters.hpp"

#include <cmath>
#include <utility>

namespace gpt {

template <class Scalar>
class Linear {
 public:
  using Tokens = TokenMatrix<Scalar>;

  Linear(Index inputs, Index outputs, std::mt19937_64& rng, double gain = 1);

  Tokens operator()(const Tokens& x) const;
  Tokens forward(Tokens x);
  Tokens backward(const Tokens& dy);

  template <class Visitor>
  void visit_parameters(Visitor&& visitor);
  void zero_gradients();

  /// For folding norms: W and b as one linear map.
  auto map() { return tokennorm::InOut{weight_.value, bias_.value}; }

 private:
  Parameter<Tokens> weight_;
  Parameter<RowVector<Scalar>> bias_;
  Tokens x_;  // what forward was given
};

template <class Scalar>
Linear<Scalar>::Linear(Index inputs, Index outputs, std::mt19937_64& rng, double gain)
    : weight_{random_normal<Scalar>(inputs, outputs, gain / std::sqrt(static_cast<double>(inputs)),
                                    rng)},
      bias_{RowVector<Scalar>::Zero(outputs)} {}

template <class Scalar>
auto Linear<Scalar>::operator()(const Tokens& x) const -> Tokens {
  Tokens y(x.rows(), weight_.value.cols());
  for (Index t = 0; t < y.rows(); ++t) y.row(t) = bias_.value;
  y.noalias() += x * weight_.value;
  return y;
}

template <class Scalar>
auto Linear<Scalar>::forward(Tokens x) -> Tokens {
  x_ = std::move(x);
  return (*this)(x_);
}

template <class Scalar>
auto Linear<Scalar>::backward(const Tokens& dy) -> Tokens {
  weight_.gradient.noalias() += x_.transpose() * dy;
  bias_.gradient += dy.colwise().sum();
  Tokens dx(x_.rows(), x_.cols());
  dx.noalias() = dy * weight_.value.transpose();
  return dx;
}

template <class Scalar>
template <class Visitor>
void Linear<Scalar>::visit_parameters(Visitor&& visitor) {
  visitor(std::string("weight"), weight_.value, weight_.gradient);
  visitor(std::string("bias"), bias_.value, bias_.gradient);
}

template <class Scalar>
void Linear<Scalar>::zero_gradients() {
  weight_.zero_gradient();
  bias_.zero_gradient();
}

}  // namespace gpt
