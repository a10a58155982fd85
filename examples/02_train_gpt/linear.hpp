// SPDX-License-Identifier: MIT
/// A linear layer:  y = x·W + b, or without a bias, x·W.
///
/// Shapes     x (T, inputs) · W (inputs, outputs) · b (outputs) · y (T, outputs)
/// Backward   dx = dy·Wᵀ    dW += xᵀ·dy    db += Σₜ dyₜ    from x, which the caller has kept
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

  Linear(Index inputs, Index outputs, std::mt19937_64& rng, double gain = 1, bool bias = true);
  Linear(Tokens weight, RowVector<Scalar> bias)
      : weight_{std::move(weight)}, bias_{std::move(bias)} {}

  Tokens operator()(const Tokens& x) const;
  Tokens backward(const Tokens& x, const Tokens& dy);

  template <class Visitor>
  void visit_parameters(Visitor&& visitor);
  void zero_gradients();

  const Tokens& weight() const { return weight_.value; }
  const RowVector<Scalar>& bias() const { return bias_.value; }

  /// For folding norms: W and b as one linear map.
  auto map() { return tokennorm::InOut{weight_.value, bias_.value}; }

 private:
  Parameter<Tokens> weight_;
  Parameter<RowVector<Scalar>> bias_;  // empty where there is none
};

template <class Scalar>
Linear<Scalar>::Linear(Index inputs, Index outputs, std::mt19937_64& rng, double gain, bool bias)
    : weight_{random_normal<Scalar>(inputs, outputs, gain / std::sqrt(static_cast<double>(inputs)),
                                    rng)},
      bias_{RowVector<Scalar>::Zero(bias ? outputs : 0)} {}

template <class Scalar>
auto Linear<Scalar>::operator()(const Tokens& x) const -> Tokens {
  Tokens y(x.rows(), weight_.value.cols());
  if (bias_.value.size() == 0) {
    y.noalias() = x * weight_.value;
    return y;
  }
  for (Index t = 0; t < y.rows(); ++t) y.row(t) = bias_.value;
  y.noalias() += x * weight_.value;
  return y;
}

template <class Scalar>
auto Linear<Scalar>::backward(const Tokens& x, const Tokens& dy) -> Tokens {
  weight_.gradient.noalias() += x.transpose() * dy;
  if (bias_.value.size() > 0) bias_.gradient += dy.colwise().sum();
  Tokens dx(x.rows(), x.cols());
  dx.noalias() = dy * weight_.value.transpose();
  return dx;
}

template <class Scalar>
template <class Visitor>
void Linear<Scalar>::visit_parameters(Visitor&& visitor) {
  visitor(std::string("weight"), weight_.value, weight_.gradient);
  if (bias_.value.size() > 0) visitor(std::string("bias"), bias_.value, bias_.gradient);
}

template <class Scalar>
void Linear<Scalar>::zero_gradients() {
  weight_.zero_gradient();
  bias_.zero_gradient();
}

/// The two linear maps of a sublayer: one reads x, the other writes y.
template <class Scalar>
class InputOutput {
 public:
  const Linear<Scalar>& input() const { return input_; }
  const Linear<Scalar>& output() const { return output_; }

  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    input_.visit_parameters(prefixed("input", visitor));
    output_.visit_parameters(prefixed("output", visitor));
  }
  void zero_gradients() {
    input_.zero_gradients();
    output_.zero_gradients();
  }

  /// For folding norms.
  template <class Visitor>
  void visit_readers(Visitor&& visitor) {
    visitor(input_.map());
  }
  template <class Visitor>
  void visit_writers(Visitor&& visitor) {
    visitor(output_.map());
  }

 protected:
  /// In braces, so that the input's weights are drawn first.
  InputOutput(Linear<Scalar> input, Linear<Scalar> output)
      : input_(std::move(input)), output_(std::move(output)) {}

  Linear<Scalar> input_, output_;
};

}  // namespace gpt
