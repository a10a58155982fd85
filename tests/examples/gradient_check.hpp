// SPDX-License-Identifier: MIT
// Gradients of the examples' parts against central differences.
#pragma once

#include "02_train_gpt/parameters.hpp"
#include "support/random_tokens.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

namespace gpt::test {

using tokennorm::test::Random;
using tokennorm::test::random_normal;
using tokennorm::test::Seed;

/// f'(x) of f, a function of the one number that `x` refers to: two central differences, h and 2h,
/// extrapolated, so that the error is O(h⁴).
template <class Scalar, class Function>
Scalar numeric_derivative(Scalar& x, Function&& f) {
  const auto h = static_cast<Scalar>(1e-4);
  const Scalar there = x;
  const auto difference = [&](Scalar step) {
    x = there + step;
    const Scalar above = f();
    x = there - step;
    const Scalar below = f();
    x = there;
    return (above - below) / (Scalar(2) * step);
  };
  return (Scalar(4) * difference(h) - difference(Scalar(2) * h)) / Scalar(3);
}

/// Every element of `analytic` is the derivative of f by the same element of `value`.
template <class Value, class Gradient, class Function>
void expect_derivatives(Value& value, const Gradient& analytic, double tolerance, Function&& f) {
  ASSERT_EQ(value.rows(), analytic.rows());
  ASSERT_EQ(value.cols(), analytic.cols());
  for (Index row = 0; row < value.rows(); ++row) {
    for (Index column = 0; column < value.cols(); ++column) {
      const auto numeric = numeric_derivative(value(row, column), f);
      const auto error = std::abs(numeric - analytic(row, column));
      const auto size = std::max(typename Value::Scalar(1), std::abs(numeric));
      ASSERT_LE(static_cast<double>(error / size), tolerance)
          << "element (" << row << ", " << column << "): backward " << analytic(row, column)
          << ", central differences " << numeric;
    }
  }
}

/// Every parameter's gradient, as it stands, is the derivative of f by that parameter. Returns the
/// number of scalars compared.
template <class Model, class Function>
Index expect_parameter_gradients(Model& model, double tolerance, Function&& f) {
  Index count = 0;
  model.visit_parameters([&](const std::string& name, auto& value, auto& gradient) {
    SCOPED_TRACE(name);
    const auto analytic = gradient.eval();  // f may run forward passes, not backward ones
    expect_derivatives(value, analytic, tolerance, f);
    count += value.size();
  });
  return count;
}

/// Moves every parameter away from where it starts, so that none is zero or one.
template <class Model>
void shake(Model& model, Seed seed, double deviation = 0.3) {
  Random random(seed);
  model.visit_parameters([&](const std::string&, auto& value, auto&) {
    using Scalar = typename std::decay_t<decltype(value)>::Scalar;
    for (Index row = 0; row < value.rows(); ++row) {
      for (Index column = 0; column < value.cols(); ++column) {
        value(row, column) += static_cast<Scalar>(random.normal(0, deviation));
      }
    }
  });
}

/// A trainable sublayer, x (T, inputs) to y (T, outputs): its inference agrees with its forward,
/// and all of its gradients with those of Σ weight∘f(x), for random weights.
template <class Sublayer>
void expect_sublayer_gradients(Sublayer& sublayer, Index tokens, Index inputs, Index outputs,
                               Seed seed) {
  SCOPED_TRACE(seed);
  using Tokens = typename Sublayer::Tokens;
  constexpr double tolerance = 1e-11;
  Random random(seed);
  auto x = random_normal<Tokens>({tokens, inputs}, random);
  const auto weight = random_normal<Tokens>({tokens, outputs}, random);
  shake(sublayer, Seed{seed.value + 1});

  sublayer.zero_gradients();
  const Tokens y = sublayer.forward(x);
  const Tokens dx = sublayer.backward(weight);
  EXPECT_TRUE(y == sublayer(x)) << "forward and inference disagree";

  const auto loss = [&] { return sublayer(x).cwiseProduct(weight).sum(); };
  expect_derivatives(x, dx, tolerance, loss);
  EXPECT_GT(expect_parameter_gradients(sublayer, tolerance, loss), 0);

  // A second backward adds to the parameters' gradients; zero_gradients clears them.
  std::vector<Tokens> once;
  sublayer.visit_parameters(
      [&](const std::string&, auto&, auto& gradient) { once.push_back(gradient); });
  sublayer.forward(x);
  sublayer.backward(weight);
  std::size_t parameter = 0;
  sublayer.visit_parameters([&](const std::string& name, auto&, auto& gradient) {
    EXPECT_TRUE(gradient.isApprox(2 * once[parameter++])) << name << " does not add up";
  });
  sublayer.zero_gradients();
  sublayer.visit_parameters([&](const std::string& name, auto&, auto& gradient) {
    EXPECT_TRUE(gradient.isZero(0)) << name << " is not cleared";
  });
}

}  // namespace gpt::test
