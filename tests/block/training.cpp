// SPDX-License-Identifier: MIT
// Training of every placement: the gradients of input and parameters against central differences of
// the equation in long double, and what a trainable module promises.
#include "../support/exact_bits.hpp"
#include "placements.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<double>;
using VectorMap = TestBlock<double>::VectorMap;

class Training : public Placements {
 protected:
  static constexpr Index channels = 5;
  std::unique_ptr<TestBlock<double>> block_ = make(channels);
  const Tokens x_ = random_normal<Tokens>({6, channels}, Seed{4001}, 0.5);
  const Tokens dy_ = random_normal<Tokens>({6, channels}, Seed{4002});

  using Gradients = std::map<std::string, Eigen::VectorXd>;
  static Gradients gradients_of(TestBlock<double>& block) {
    Gradients gradients;
    block.visit_parameters([&](const std::string& name, VectorMap, VectorMap gradient) {
      gradients[name] = gradient;
    });
    return gradients;
  }

  /// The gradient of this is what backward(dy_) computes.
  long double loss(const ExactMatrix& x) const {
    return exact(dy_).cwiseProduct(block_->exact(x)).sum();
  }
};

TOKENNORM_TEST_EVERY_PLACEMENT(Training);

TEST_P(Training, ForwardIsInference) {
  for (const Shape shape : {Shape{0, 33}, Shape{1, 33}, Shape{14, 33}}) {
    SCOPED_TRACE(shape);
    const auto block = make(shape.channels);
    const auto x = random_normal<Tokens>(shape, Seed{4011});
    EXPECT_TRUE(same_bits(block->forward(x), (*block)(x)));
  }
}

TEST_P(Training, InputGradientMatchesCentralDifferences) {
  block_->forward(x_);
  const Tokens dx = block_->backward(dy_);
  ASSERT_EQ(dx.rows(), x_.rows());
  ASSERT_EQ(dx.cols(), x_.cols());
  const long double step = 0x1p-20L;
  ExactMatrix x = exact(x_);
  for (Index t = 0; t < x.rows(); ++t)
    for (Index c = 0; c < x.cols(); ++c) {
      const long double value = x(t, c);
      x(t, c) = value + step;
      const long double above = loss(x);
      x(t, c) = value - step;
      const long double below = loss(x);
      x(t, c) = value;
      const auto expected = static_cast<double>((above - below) / (2 * step));
      EXPECT_NEAR(dx(t, c), expected, 1e-9 * std::max(1.0, std::fabs(expected)))
          << "token " << t << ", channel " << c;
    }
}

TEST_P(Training, ParameterGradientsMatchCentralDifferences) {
  block_->forward(x_);
  block_->backward(dy_);
  const ExactMatrix x = exact(x_);
  int parameters = 0;
  block_->visit_parameters([&](const std::string& name, VectorMap value, VectorMap gradient) {
    ASSERT_EQ(value.size(), gradient.size()) << name;
    for (Index i = 0; i < value.size(); ++i, ++parameters) {
      const double kept = value(i);
      value(i) = kept + 0x1p-20;
      const auto high = static_cast<long double>(value(i));
      const long double above = loss(x);
      value(i) = kept - 0x1p-20;
      const auto low = static_cast<long double>(value(i));
      const long double below = loss(x);
      value(i) = kept;
      const auto expected = static_cast<double>((above - below) / (high - low));
      EXPECT_NEAR(gradient(i), expected, 1e-9 * std::max(1.0, std::fabs(expected)))
          << name << "[" << i << "]";
    }
  });
  EXPECT_GE(parameters, 35);
}

TEST_P(Training, GradientsAddUpUntilZeroed) {
  block_->forward(x_);
  block_->backward(dy_);
  const Gradients once = gradients_of(*block_);
  block_->forward(x_);
  block_->backward(dy_);
  for (const auto& [name, gradient] : gradients_of(*block_)) {
    const Eigen::VectorXd twice = 2 * once.at(name);
    EXPECT_LE((gradient - twice).cwiseAbs().maxCoeff(), 1e-14 * (1 + twice.cwiseAbs().maxCoeff()))
        << name;
  }
  block_->zero_gradients();
  for (const auto& [name, gradient] : gradients_of(*block_))
    EXPECT_TRUE(gradient.isZero(0)) << name;
  block_->forward(x_);
  block_->backward(dy_);
  for (const auto& [name, gradient] : gradients_of(*block_))
    EXPECT_TRUE(same_bits(gradient, once.at(name))) << name;
}

TEST_P(Training, GradientsAreThereAndZeroBeforeTraining) {
  int visited = 0;
  block_->visit_parameters([&](const std::string& name, VectorMap value, VectorMap gradient) {
    ++visited;
    ASSERT_EQ(gradient.size(), value.size()) << name;
    EXPECT_TRUE(gradient.isZero(0)) << name;
  });
  EXPECT_GE(visited, 3);
}

TEST_P(Training, HasTheSameBitsUnderEveryExecutor) {
  const auto x = random_normal<Tokens>({67, 13}, Seed{4021});
  const auto dy = random_normal<Tokens>({67, 13}, Seed{4022});
  const auto block = make(13);
  const Tokens y = block->forward(x);
  const Tokens dx = block->backward(dy);
  const Gradients gradients = gradients_of(*block);
  for (const Division division : {Division::whole, Division::odd_pieces_backwards,
                                  Division::one_by_one, Division::on_threads}) {
    SCOPED_TRACE(division);
    const TestExecutor executor{division};
    block->zero_gradients();
    EXPECT_TRUE(same_bits(block->forward(x, executor), y));
    EXPECT_TRUE(same_bits(block->backward(dy, executor), dx));
    for (const auto& [name, gradient] : gradients_of(*block))
      EXPECT_TRUE(same_bits(gradient, gradients.at(name))) << name;
  }
}

TEST_P(Training, GradientOfACausalBlockIsCausal) {
  // Tokens after the last one with a gradient get none: the mirror image of a causal forward.
  Tokens dy = dy_;
  dy.bottomRows(2).setZero();
  block_->forward(x_);
  const Tokens dx = block_->backward(dy);
  EXPECT_TRUE(dx.bottomRows(2).isZero(0));
  EXPECT_FALSE(dx.row(3).isZero(0));
}

TEST_P(Training, ForwardRemembersTheTokensNotTheirMemory) {
  Tokens x = x_;
  block_->forward(x);
  const Tokens expected = block_->backward(dy_);
  block_->forward(x);
  x.setZero();
  EXPECT_TRUE(same_bits(block_->backward(dy_), expected));
}

TEST_P(Training, TakesAnotherTokenCountEachTime) {
  for (const Index tokens : {6, 2, 4}) {
    SCOPED_TRACE(tokens);
    const auto fresh = make(channels);
    const Tokens x = x_.topRows(tokens), dy = dy_.topRows(tokens);
    EXPECT_TRUE(same_bits(block_->forward(x), fresh->forward(x)));
    EXPECT_TRUE(same_bits(block_->backward(dy), fresh->backward(dy)));
  }
}

TEST_P(Training, InferenceInBetweenChangesNothing) {
  block_->forward(x_);
  const Tokens expected = block_->backward(dy_);
  block_->forward(x_);
  (*block_)(dy_);
  EXPECT_TRUE(same_bits(block_->backward(dy_), expected));
}

TEST_P(Training, BackwardBeforeForwardIsALogicError) {
  EXPECT_THROW(block_->backward(dy_), std::logic_error);
}

TEST_P(Training, BackwardUsesAForwardOnce) {
  block_->forward(x_);
  const Tokens dx = block_->backward(dy_);
  EXPECT_THROW(block_->backward(dy_), std::logic_error);
  block_->forward(x_);
  EXPECT_TRUE(same_bits(block_->backward(dy_), dx)) << "a refused call changes nothing";
}

TEST_P(Training, ThereIsNothingToGoBackFromAfterAForwardThatThrew) {
  block_->forward(x_);
  const Tokens dx = block_->backward(dy_);
  const Tokens other = 3 * x_.colwise().reverse();
  int calls = 0;
  for (bool threw = true; threw; ++calls) {  // in each of its steps
    SCOPED_TRACE(calls);
    block_->forward(x_);
    try {
      block_->forward(other, TestExecutor{Division::whole, calls});
      threw = false;
    } catch (const std::runtime_error&) {
      EXPECT_THROW(block_->backward(dy_), std::logic_error);
    }
  }
  EXPECT_GE(calls, 2);
  block_->forward(x_);
  EXPECT_THROW(block_->forward(Tokens(6, channels + 1)), std::invalid_argument);
  EXPECT_THROW(block_->backward(dy_), std::logic_error) << "refused for its shape";
  block_->forward(x_);
  EXPECT_TRUE(same_bits(block_->backward(dy_), dx));
}

TEST_P(Training, ABackwardThatThrewUsedItsForwardUp) {
  block_->forward(x_);
  const Tokens dx = block_->backward(dy_);
  int calls = 0;
  for (bool threw = true; threw; ++calls) {
    SCOPED_TRACE(calls);
    block_->forward(x_);
    try {
      block_->backward(dy_, TestExecutor{Division::whole, calls});
      threw = false;
    } catch (const std::runtime_error&) {
      EXPECT_THROW(block_->backward(dy_), std::logic_error);
    }
  }
  EXPECT_GE(calls, 2);
  block_->forward(x_);
  EXPECT_TRUE(same_bits(block_->backward(dy_), dx));
}

TEST_P(Training, GradientOfAnotherShapeIsRefused) {
  block_->forward(x_);
  EXPECT_THROW(block_->backward(dy_.topRows(5)), std::invalid_argument);
  EXPECT_THROW(block_->backward(Tokens(6, channels + 1)), std::invalid_argument);
  EXPECT_NO_THROW(block_->backward(dy_)) << "a refused call changes nothing";
}

TEST_P(Training, CopyTakesParametersAndGradientsNotWhatForwardRemembered) {
  block_->forward(x_);
  block_->backward(dy_);
  block_->forward(x_);
  const auto copy = block_->clone();
  const auto assigned = make(channels);
  assigned->forward(x_);
  assigned->assign(*block_);
  for (TestBlock<double>* other : {copy.get(), assigned.get()}) {
    EXPECT_TRUE(same_bits((*other)(x_), (*block_)(x_)));
    EXPECT_THROW(other->backward(dy_), std::logic_error);
    const Gradients gradients = gradients_of(*block_);
    for (const auto& [name, gradient] : gradients_of(*other))
      EXPECT_TRUE(same_bits(gradient, gradients.at(name))) << name;
  }
  // From here on each goes its own way.
  copy->visit_parameters([](const std::string&, VectorMap value, VectorMap) { value.setZero(); });
  copy->zero_gradients();
  EXPECT_FALSE(same_bits((*copy)(x_), (*block_)(x_)));
  EXPECT_FALSE(gradients_of(*block_).begin()->second.isZero(0));
  EXPECT_NO_THROW(block_->backward(dy_));
}

}  // namespace
}  // namespace tokennorm::test
