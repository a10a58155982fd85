// SPDX-License-Identifier: MIT
// Training of every placement: the gradients of input and parameters against central differences of
// the equation in long double, and what a trainable module promises.
#include "../support/exact_bits.hpp"
#include "equations.hpp"
#include "executors.hpp"
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
using VectorMap = Eigen::Map<Eigen::VectorXd>;
using Gradients = std::map<std::string, Eigen::VectorXd>;

template <class Block>
Gradients gradients_of(Block& block) {
  Gradients gradients;
  block.visit_parameters(
      [&](const std::string& name, VectorMap, VectorMap gradient) { gradients[name] = gradient; });
  return gradients;
}

template <class Placement>
class Training : public ::testing::Test {
 protected:
  static auto make(Index c) { return Placement::template make<double>(c); }

  static constexpr Index channels = 5;
  decltype(make(channels)) block_ = make(channels);
  const Tokens x_ = random_normal<Tokens>({6, channels}, Seed{4001}, 0.5);
  const Tokens dy_ = random_normal<Tokens>({6, channels}, Seed{4002});

  /// The gradient of this is what backward(dy_) computes.
  long double loss(const ExactMatrix& x) const {
    return exact(dy_).cwiseProduct(equation<Exactly>(block_, x)).sum();
  }
};

TYPED_TEST_SUITE(Training, AllPlacements, PlacementName);

TYPED_TEST(Training, ForwardIsInference) {
  for (const Shape shape : {Shape{0, 33}, Shape{3, 1}, Shape{1, 33}, Shape{14, 33}}) {
    SCOPED_TRACE(shape);
    auto block = this->make(shape.channels);
    const auto x = random_normal<Tokens>(shape, Seed{4011});
    EXPECT_TRUE(same_bits(block.forward(x), block(x)));
  }
}

TYPED_TEST(Training, InputGradientMatchesCentralDifferences) {
  this->block_.forward(this->x_);
  const Tokens dx = this->block_.backward(this->dy_);
  ASSERT_EQ(dx.rows(), this->x_.rows());
  ASSERT_EQ(dx.cols(), this->x_.cols());
  const long double step = 0x1p-20L;
  ExactMatrix x = exact(this->x_);
  for (Index t = 0; t < x.rows(); ++t)
    for (Index c = 0; c < x.cols(); ++c) {
      const long double value = x(t, c);
      x(t, c) = value + step;
      const long double above = this->loss(x);
      x(t, c) = value - step;
      const long double below = this->loss(x);
      x(t, c) = value;
      const auto expected = static_cast<double>((above - below) / (2 * step));
      EXPECT_NEAR(dx(t, c), expected, 1e-9 * std::max(1.0, std::fabs(expected)))
          << "token " << t << ", channel " << c;
    }
}

TYPED_TEST(Training, ParameterGradientsMatchCentralDifferences) {
  this->block_.forward(this->x_);
  this->block_.backward(this->dy_);
  const ExactMatrix x = exact(this->x_);
  int parameters = 0;
  this->block_.visit_parameters([&](const std::string& name, VectorMap value, VectorMap gradient) {
    ASSERT_EQ(value.size(), gradient.size()) << name;
    for (Index i = 0; i < value.size(); ++i, ++parameters) {
      const double kept = value(i);
      value(i) = kept + 0x1p-20;
      const auto high = static_cast<long double>(value(i));
      const long double above = this->loss(x);
      value(i) = kept - 0x1p-20;
      const auto low = static_cast<long double>(value(i));
      const long double below = this->loss(x);
      value(i) = kept;
      const auto expected = static_cast<double>((above - below) / (high - low));
      EXPECT_NEAR(gradient(i), expected, 1e-9 * std::max(1.0, std::fabs(expected)))
          << name << "[" << i << "]";
    }
  });
  EXPECT_GE(parameters, 35);
}

TYPED_TEST(Training, GradientsAddUpUntilZeroed) {
  this->block_.forward(this->x_);
  this->block_.backward(this->dy_);
  const Gradients once = gradients_of(this->block_);
  this->block_.forward(this->x_);
  this->block_.backward(this->dy_);
  for (const auto& [name, gradient] : gradients_of(this->block_)) {
    const Eigen::VectorXd twice = 2 * once.at(name);
    EXPECT_LE((gradient - twice).cwiseAbs().maxCoeff(), 1e-14 * (1 + twice.cwiseAbs().maxCoeff()))
        << name;
  }
  this->block_.zero_gradients();
  for (const auto& [name, gradient] : gradients_of(this->block_))
    EXPECT_TRUE(gradient.isZero(0)) << name;
  this->block_.forward(this->x_);
  this->block_.backward(this->dy_);
  for (const auto& [name, gradient] : gradients_of(this->block_))
    EXPECT_TRUE(same_bits(gradient, once.at(name))) << name;
}

TYPED_TEST(Training, GradientsAreThereAndZeroBeforeTraining) {
  int visited = 0;
  this->block_.visit_parameters([&](const std::string& name, VectorMap value, VectorMap gradient) {
    ++visited;
    ASSERT_EQ(gradient.size(), value.size()) << name;
    EXPECT_TRUE(gradient.isZero(0)) << name;
  });
  EXPECT_GE(visited, 3);
}

TYPED_TEST(Training, HasTheSameBitsUnderEveryExecutor) {
  const auto x = random_normal<Tokens>({67, 13}, Seed{4021});
  const auto dy = random_normal<Tokens>({67, 13}, Seed{4022});
  auto block = this->make(13);
  const Tokens y = block.forward(x);
  const Tokens dx = block.backward(dy);
  const Gradients gradients = gradients_of(block);
  for (const Division division : {Division::whole, Division::odd_pieces_backwards,
                                  Division::one_by_one, Division::on_threads}) {
    SCOPED_TRACE(division);
    const TestExecutor executor{division};
    block.zero_gradients();
    EXPECT_TRUE(same_bits(block.forward(x, executor), y));
    EXPECT_TRUE(same_bits(block.backward(dy, executor), dx));
    for (const auto& [name, gradient] : gradients_of(block))
      EXPECT_TRUE(same_bits(gradient, gradients.at(name))) << name;
  }
}

TYPED_TEST(Training, GradientOfACausalBlockIsCausal) {
  // Tokens after the last one with a gradient get none: the mirror image of a causal forward.
  Tokens dy = this->dy_;
  dy.bottomRows(2).setZero();
  this->block_.forward(this->x_);
  const Tokens dx = this->block_.backward(dy);
  EXPECT_TRUE(dx.bottomRows(2).isZero(0));
  EXPECT_FALSE(dx.row(3).isZero(0));
}

TYPED_TEST(Training, ForwardSavesTheTokensNotTheirMemory) {
  Tokens x = this->x_;
  this->block_.forward(x);
  const Tokens expected = this->block_.backward(this->dy_);
  this->block_.forward(x);
  x.setZero();
  EXPECT_TRUE(same_bits(this->block_.backward(this->dy_), expected));
}

TYPED_TEST(Training, TakesAnotherTokenCountEachTime) {
  for (const Index tokens : {6, 2, 4}) {
    SCOPED_TRACE(tokens);
    auto fresh = this->make(this->channels);
    const Tokens x = this->x_.topRows(tokens), dy = this->dy_.topRows(tokens);
    EXPECT_TRUE(same_bits(this->block_.forward(x), fresh.forward(x)));
    EXPECT_TRUE(same_bits(this->block_.backward(dy), fresh.backward(dy)));
  }
}

TYPED_TEST(Training, InferenceInBetweenChangesNothing) {
  this->block_.forward(this->x_);
  const Tokens expected = this->block_.backward(this->dy_);
  this->block_.forward(this->x_);
  this->block_(this->dy_);
  EXPECT_TRUE(same_bits(this->block_.backward(this->dy_), expected));
}

TYPED_TEST(Training, BackwardBeforeForwardIsALogicError) {
  EXPECT_THROW(this->block_.backward(this->dy_), std::logic_error);
}

TYPED_TEST(Training, BackwardUsesAForwardOnce) {
  this->block_.forward(this->x_);
  const Tokens dx = this->block_.backward(this->dy_);
  EXPECT_THROW(this->block_.backward(this->dy_), std::logic_error);
  this->block_.forward(this->x_);
  EXPECT_TRUE(same_bits(this->block_.backward(this->dy_), dx)) << "a refused call changes nothing";
}

TYPED_TEST(Training, ThereIsNothingToGoBackFromAfterAForwardThatThrew) {
  const auto x = random_normal<Tokens>({11, 5}, Seed{4031});
  const auto dy = random_normal<Tokens>({11, 5}, Seed{4032});
  auto& block = this->block_;
  const Tokens y = block.forward(x);
  const Tokens dx = block.backward(dy);
  const TestExecutor executor{Division::odd_pieces_backwards};
  TrainingRecord<double> record;
  Tokens y_again, dx_again;
  // The forward before it, of the same record, is gone too.
  block.forward(dy);
  EXPECT_GE(throw_at_each_point([&] { block.forward(x, executor); },
                                [&] {
                                  EXPECT_THROW(block.backward(dy), std::logic_error);
                                  block.forward(dy);
                                }),
            6);
  EXPECT_TRUE(same_bits(block.backward(dy), dx));
  block.forward(dy, y_again, record);
  EXPECT_GE(throw_at_each_point([&] { block.forward(x, y_again, record, executor); },
                                [&] {
                                  EXPECT_FALSE(record.has_forward());
                                  EXPECT_THROW(block.backward(dy, dx_again, record),
                                               std::logic_error);
                                  block.forward(dy, y_again, record);
                                }),
            6);
  EXPECT_TRUE(same_bits(y_again, y));
  block.backward(dy, dx_again, record);
  EXPECT_TRUE(same_bits(dx_again, dx));

  block.forward(x);
  EXPECT_THROW(block.forward(Tokens(6, this->channels + 1)), std::invalid_argument);
  EXPECT_THROW(block.backward(dy), std::logic_error) << "refused for its shape";
}

TYPED_TEST(Training, ABackwardThatThrewUsedItsForwardUpAndAddedAllOfAGradientOrNothing) {
  const auto x = random_normal<Tokens>({65, 5}, Seed{4041});
  const auto dy = random_normal<Tokens>({65, 5}, Seed{4042});
  auto& block = this->block_;
  block.forward(x);
  const Tokens dx = block.backward(dy);
  const Gradients gradients = gradients_of(block);
  const TestExecutor executor{Division::one_by_one};
  TrainingRecord<double> record;
  Tokens y, dx_again;
  const auto start = [&] {
    block.zero_gradients();
    block.forward(x, y, record);
  };
  start();
  EXPECT_GE(throw_at_each_point(
                [&] { block.backward(dy, dx_again, record, executor); },
                [&] {
                  EXPECT_FALSE(record.has_forward());
                  EXPECT_THROW(block.backward(dy, dx_again, record), std::logic_error);
                  for (const auto& [name, gradient] : gradients_of(block)) {
                    EXPECT_TRUE(gradient.isZero(0) || same_bits(gradient, gradients.at(name)))
                        << name;
                  }
                  start();
                }),
            4);
  EXPECT_TRUE(same_bits(dx_again, dx));
  for (const auto& [name, gradient] : gradients_of(block))
    EXPECT_TRUE(same_bits(gradient, gradients.at(name))) << name;

  block.forward(x);
  throw_at_each_point([&] { block.backward(dy, executor); },
                      [&] {
                        EXPECT_THROW(block.backward(dy), std::logic_error);
                        block.forward(x);
                      });
}

/// What sublayers remember is of the last forward that reached them, also where that one threw.
TEST(TrainingOfAStack, AForwardThatThrewIsTheLastOfTheStackAndOfItsBlocks) {
  const Index c = 5;
  const auto x = random_normal<Tokens>({6, c}, Seed{4051});
  const auto dy = random_normal<Tokens>({6, c}, Seed{4052});
  auto stack = StackOfPreLNPlacement::make<double>(c);
  auto& first = stack.blocks().front();
  const TestExecutor executor;
  first.forward(x);
  EXPECT_GE(throw_at_each_point([&] { stack.forward(dy, executor); },
                                [&] {
                                  EXPECT_THROW(first.backward(dy), std::logic_error);
                                  first.forward(x);
                                }),
            9);
  stack.forward(x);
  EXPECT_GE(throw_at_each_point([&] { first.forward(dy, executor); },
                                [&] {
                                  EXPECT_THROW(stack.backward(dy), std::logic_error);
                                  stack.forward(x);
                                }),
            5);
  stack.forward(x);
  EXPECT_THROW(first.forward(Tokens(6, c + 1)), std::invalid_argument);
  EXPECT_NO_THROW(stack.backward(dy)) << "a forward that is refused reaches no sublayer";
}

TYPED_TEST(Training, GradientOfAnotherShapeIsRefused) {
  this->block_.forward(this->x_);
  EXPECT_THROW(this->block_.backward(this->dy_.topRows(5)), std::invalid_argument);
  EXPECT_THROW(this->block_.backward(Tokens(6, this->channels + 1)), std::invalid_argument);
  EXPECT_NO_THROW(this->block_.backward(this->dy_)) << "a refused call changes nothing";
}

TYPED_TEST(Training, CopyTakesParametersAndGradientsNotWhatForwardSaved) {
  this->block_.forward(this->x_);
  this->block_.backward(this->dy_);
  this->block_.forward(this->x_);
  auto copy = this->block_;
  auto assigned = this->make(this->channels);
  assigned.forward(this->x_);
  assigned = this->block_;
  for (auto* other : {&copy, &assigned}) {
    EXPECT_TRUE(same_bits((*other)(this->x_), this->block_(this->x_)));
    EXPECT_THROW(other->backward(this->dy_), std::logic_error);
    const Gradients gradients = gradients_of(this->block_);
    for (const auto& [name, gradient] : gradients_of(*other))
      EXPECT_TRUE(same_bits(gradient, gradients.at(name))) << name;
  }
  // From here on each goes its own way.
  copy.visit_parameters([](const std::string&, VectorMap value, VectorMap) { value.setZero(); });
  copy.zero_gradients();
  EXPECT_FALSE(same_bits(copy(this->x_), this->block_(this->x_)));
  EXPECT_FALSE(gradients_of(this->block_).begin()->second.isZero(0));
  EXPECT_NO_THROW(this->block_.backward(this->dy_));
}

}  // namespace
}  // namespace tokennorm::test
