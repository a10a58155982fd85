// SPDX-License-Identifier: MIT
// AdamW, its schedule, and the gradient norms.
#include "02_train_gpt/adamw.hpp"
#include "02_train_gpt/gradient_norms.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace gpt::test {
namespace {

/// One matrix and one vector, stored in different orders, in two layers.
struct TwoParameters {
  Eigen::MatrixXd matrix{{1.0, -2.0}, {3.0, 0.5}};
  Eigen::MatrixXd matrix_gradient{{0.1, -0.2}, {0.0, 4.0}};
  RowVector<double> vector{{1.0, -1.0, 2.0}};
  RowVector<double> vector_gradient{{3.0, -0.5, 0.25}};

  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    visitor(std::string("blocks.0.matrix"), matrix, matrix_gradient);
    visitor(std::string("final_norm.scale"), vector, vector_gradient);
  }
};

TEST(AdamW, TwoStepsByHand) {
  TwoParameters model;
  const TwoParameters start;
  AdamW<double> optimizer({.beta1 = 0.5, .beta2 = 0.75, .epsilon = 0.5, .weight_decay = 0.25});

  // After one step m̂ = g and v̂ = g², so w moves by η·(g / (|g| + ε) + λ·w).
  optimizer.step(model, 0.1);
  EXPECT_NEAR(model.matrix(0, 0), 1.0 - 0.1 * (0.1 / 0.6 + 0.25 * 1.0), 1e-15);
  EXPECT_NEAR(model.matrix(0, 1), -2.0 - 0.1 * (-0.2 / 0.7 - 0.25 * 2.0), 1e-15);
  EXPECT_NEAR(model.matrix(1, 0), 3.0 - 0.1 * (0.0 + 0.25 * 3.0), 1e-15);
  EXPECT_NEAR(model.matrix(1, 1), 0.5 - 0.1 * (4.0 / 4.5 + 0.25 * 0.5), 1e-15);
  EXPECT_NEAR(model.vector(0), 1.0 - 0.1 * (3.0 / 3.5), 1e-15);  // a vector does not decay
  EXPECT_EQ(model.matrix_gradient, start.matrix_gradient);

  // With g₁ = 4, g₂ = −1:  m = ½·(½·4) + ½·(−1) = 0.5,  m̂ = 0.5 / (1 − ¼) = 2/3,
  //                        v = ¾·(¼·16) + ¼·1 = 3.25,   v̂ = 3.25 / (1 − 9/16) = 52/7.
  const double before = model.matrix(1, 1);
  model.matrix_gradient(1, 1) = -1.0;
  optimizer.step(model, 0.2);
  const double step = (2.0 / 3.0) / (std::sqrt(52.0 / 7.0) + 0.5);
  EXPECT_NEAR(model.matrix(1, 1), before - 0.2 * (step + 0.25 * before), 1e-14);
}

TEST(AdamW, FollowsTheScalarRecurrence) {
  using Real = long double;
  TwoParameters model;
  const AdamWOptions options;
  AdamW<double> optimizer(options);
  const auto beta1 = static_cast<Real>(options.beta1);
  const auto beta2 = static_cast<Real>(options.beta2);
  auto w = static_cast<Real>(model.matrix(0, 0));
  Real v = 0, m = 0;
  for (int t = 1; t <= 50; ++t) {
    model.matrix_gradient(0, 0) = std::sin(0.7 * t);
    const double rate = 0.01 / t;
    optimizer.step(model, rate);

    const auto g = static_cast<Real>(model.matrix_gradient(0, 0));
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    const Real m_hat = m / (1 - std::pow(beta1, static_cast<Real>(t)));
    const Real v_hat = v / (1 - std::pow(beta2, static_cast<Real>(t)));
    w -=
        static_cast<Real>(rate) * (m_hat / (std::sqrt(v_hat) + static_cast<Real>(options.epsilon)) +
                                   static_cast<Real>(options.weight_decay) * w);
    ASSERT_NEAR(model.matrix(0, 0), static_cast<double>(w), 1e-13) << "step " << t;
  }
}

TEST(Schedule, RisesThenFallsToATenth) {
  constexpr Index steps = 100;
  EXPECT_NEAR(scheduled_learning_rate(2.0, 0, steps), 0.2, 1e-15);
  EXPECT_NEAR(scheduled_learning_rate(2.0, 9, steps), 2.0, 1e-15);
  EXPECT_NEAR(scheduled_learning_rate(2.0, 10, steps), 2.0, 1e-15);
  EXPECT_NEAR(scheduled_learning_rate(2.0, 55, steps), 1.1, 1e-12);  // halfway down
  EXPECT_NEAR(scheduled_learning_rate(2.0, 99, steps), 0.2, 1e-3);
  for (Index step = 10; step + 1 < steps; ++step) {
    EXPECT_GT(scheduled_learning_rate(2.0, step, steps),
              scheduled_learning_rate(2.0, step + 1, steps));
  }
  EXPECT_EQ(scheduled_learning_rate(2.0, 0, 1), 2.0);  // too short to warm up
}

TEST(GradientNorms, PerLayerAndClipped) {
  TwoParameters model;
  model.matrix_gradient << 3, 0, 0, 4;
  model.vector_gradient << 12, 0, 0;
  auto layers = gradient_norms(model);
  ASSERT_EQ(layers.size(), 2U);
  EXPECT_EQ(layers[0].layer, "blocks.0");
  EXPECT_DOUBLE_EQ(layers[0].norm, 5);
  EXPECT_EQ(layers[1].layer, "final_norm");
  EXPECT_DOUBLE_EQ(layers[1].norm, 12);
  EXPECT_DOUBLE_EQ(total_norm(layers), 13);

  clip_gradients(model, 13, 13);
  EXPECT_EQ(model.matrix_gradient(1, 1), 4);
  clip_gradients(model, 13, 1);
  EXPECT_DOUBLE_EQ(total_norm(gradient_norms(model)), 1);
  EXPECT_DOUBLE_EQ(model.matrix_gradient(1, 1), 4.0 / 13);
}

TEST(GradientNorms, LayerNames) {
  EXPECT_EQ(layer_of("embedding.token"), "embedding");
  EXPECT_EQ(layer_of("embedding_norm.scale"), "embedding_norm");
  EXPECT_EQ(layer_of("blocks.12.attention.input.weight"), "blocks.12");
  EXPECT_EQ(layer_of("head.bias"), "head");
}

}  // namespace
}  // namespace gpt::test
