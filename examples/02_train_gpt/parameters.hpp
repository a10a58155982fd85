// SPDX-License-Identifier: MIT
/// What is learned, and how the optimizer reaches it.
///
/// Every part here, as every norm, block and stack of tokennorm, has
///
///     part.visit_parameters(visitor)   visitor(name, value, gradient) for each parameter
///     part.zero_gradients()
///
/// so that AdamW, gradient clipping and the tests see one flat list of named parameters, whoever
/// owns them.
#pragma once

#include <tokennorm/tokennorm.hpp>

#include <random>
#include <string>
#include <utility>

namespace gpt {

using tokennorm::BlockIndex;
using tokennorm::Index;
using tokennorm::TokenMatrix;

template <class Scalar>
using RowVector = Eigen::Matrix<Scalar, 1, Eigen::Dynamic>;

/// A value to learn and the gradient of the loss with respect to it, which has the same shape.
/// A backward pass adds to the gradient; the training loop sets it to zero before each step.
template <class Plain>
struct Parameter {
  Plain value;
  Plain gradient = Plain::Zero(value.rows(), value.cols());

  void zero_gradient() { gradient.setZero(); }
};

/// A matrix of independent normal numbers with mean 0.
template <class Scalar>
TokenMatrix<Scalar> random_normal(Index rows, Index columns, double standard_deviation,
                                  std::mt19937_64& rng) {
  std::normal_distribution<double> normal(0.0, standard_deviation);
  return TokenMatrix<Scalar>::NullaryExpr(rows, columns,
                                          [&] { return static_cast<Scalar>(normal(rng)); });
}

/// A visitor that puts `prefix.` before each name and passes the rest on.
template <class Visitor>
auto prefixed(std::string prefix, Visitor& visitor) {
  return
      [prefix = std::move(prefix), &visitor](const std::string& name, auto& value, auto& gradient) {
        visitor(prefix + "." + name, value, gradient);
      };
}

/// The number of scalars that a model learns.
template <class Model>
Index count_parameters(Model& model) {
  Index count = 0;
  model.visit_parameters([&](const std::string&, auto& value, auto&) { count += value.size(); });
  return count;
}

}  // namespace gpt
