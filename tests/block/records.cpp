// SPDX-License-Identifier: MIT
// Training records: several forwards in flight, one module at two places, no allocation while the
// shape stays the same, and what is refused.
#include "../support/allocation_counter.hpp"
#include "../support/exact_bits.hpp"
#include "../support/message_of.hpp"
#include "executors.hpp"
#include "placements.hpp"

#include <gtest/gtest.h>

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<double>;
constexpr Index channels = 5;

/// y = γ∘n, whose input is remembered in the caller's tape.
struct Tape {
  std::vector<TokenMatrix<double>> inputs;
};
struct Diagonal {
  Eigen::VectorXd weight = Eigen::VectorXd::LinSpaced(channels, -1, 2);
  Eigen::VectorXd gradient = Eigen::VectorXd::Zero(channels);
  Tokens operator()(const Tokens& n) const { return n * weight.asDiagonal(); }
  Tokens forward(const Tokens& n, Tape& tape) {
    tape.inputs.push_back(n);
    return n * weight.asDiagonal();
  }
  Tokens backward(const Tokens& du, Tape& tape) {
    gradient += du.cwiseProduct(tape.inputs.back()).colwise().sum().transpose();
    tape.inputs.pop_back();
    return du * weight.asDiagonal();
  }
};

const Tokens x = random_normal<Tokens>({6, channels}, Seed{8401});
const Tokens dy = random_normal<Tokens>({6, channels}, Seed{8402});

auto pre_ln() {
  return PreLN(layer_norm<double>(channels, {1}), Diagonal{}, rms_norm<double>(channels, {2}),
               Diagonal{});
}

TEST(Records, MicroBatchesMayBeInFlightTogether) {
  auto block = pre_ln();
  std::vector<Tokens> alone;
  for (const Index first : {0, 2, 4}) {
    auto fresh = pre_ln();
    Tape tape;
    fresh.forward(x.middleRows(first, 2), with(tape));
    alone.push_back(fresh.backward(dy.middleRows(first, 2), with(tape)));
  }
  std::array<TrainingRecord<double>, 3> records;
  std::array<Tape, 3> tapes;
  Tokens y(2, channels), dx;
  for (const std::size_t i : {2u, 0u, 1u}) {
    const auto first = static_cast<Index>(2 * i);
    block.forward(x.middleRows(first, 2), y, records[i], with(tapes[i]));
    Tape tape;
    EXPECT_TRUE(same_bits(y, block.forward(x.middleRows(first, 2), with(tape))));
  }
  for (const std::size_t i : {1u, 2u, 0u}) {
    block.backward(dy.middleRows(static_cast<Index>(2 * i), 2), dx, records[i], with(tapes[i]));
    EXPECT_TRUE(same_bits(dx, alone[i])) << i;
  }
  // The gradients are those of the whole batch, added in another order.
  auto whole = pre_ln();
  Tape tape;
  whole.forward(x, with(tape));
  whole.backward(dy, with(tape));
  std::map<std::string, Eigen::VectorXd> expected;
  whole.visit_parameters(
      [&](const std::string& name, auto&, auto& gradient) { expected[name] = gradient; });
  block.visit_parameters([&](const std::string& name, auto&, auto& gradient) {
    EXPECT_TRUE(gradient.isApprox(expected.at(name), 1e-14)) << name;
  });
}

TEST(Records, OneModuleMayStandAtTwoPlaces) {
  // ALBERT's shared layer: y = block(block(x)). Two copies of it have the same gradients in sum.
  auto shared = pre_ln(), first = pre_ln(), second = pre_ln();
  std::array<TrainingRecord<double>, 2> records;
  std::array<Tape, 2> tapes;
  Tokens h, y, dh, dx;
  shared.forward(x, h, records[0], with(tapes[0]));
  shared.forward(h, y, records[1], with(tapes[1]));
  shared.backward(dy, dh, records[1], with(tapes[1]));
  shared.backward(dh, dx, records[0], with(tapes[0]));
  std::array<Tape, 2> own;
  EXPECT_TRUE(same_bits(y, second.forward(first.forward(x, with(own[0])), with(own[1]))));
  EXPECT_TRUE(same_bits(dx, first.backward(second.backward(dy, with(own[1])), with(own[0]))));
  const Eigen::VectorXd sum =
      second.attention_norm().gradients().scale + first.attention_norm().gradients().scale;
  EXPECT_TRUE(shared.attention_norm().gradients().scale.isApprox(sum, 1e-15));
}

TEST(Records, HaveTheBitsOfTheModule) {
  for (const bool in_place : {false, true}) {
    auto stack = StackOfATuplePlacement::make<double>(channels);
    const Tokens y = stack.forward(x);
    const Tokens dx = stack.backward(dy);
    TrainingRecord<double> record;
    Tokens result = x, gradient = dy, other_result, other_gradient;
    Tokens& to = in_place ? result : other_result;
    Tokens& back_to = in_place ? gradient : other_gradient;
    for (const Division division : {Division::whole, Division::one_by_one}) {
      result = x;
      gradient = dy;
      stack.forward(result, to, record, TestExecutor{division});
      EXPECT_TRUE(same_bits(to, y));
      stack.backward(gradient, back_to, record, TestExecutor{division});
      EXPECT_TRUE(same_bits(back_to, dx));
    }
  }
}

TEST(Records, TakeOperandsOfAnyKindAndStrides) {
  auto block = ScaledPlacement::make<double>(channels);
  const Tokens y = block.forward(x);
  const Tokens dx = block.backward(dy);
  TrainingRecord<double> record;
  Eigen::MatrixXd columns = x, result, gradient;
  block.forward(columns, result, record);
  EXPECT_TRUE(same_bits(Tokens(result), y));
  block.backward(Eigen::MatrixXd(dy), gradient, record);
  EXPECT_TRUE(same_bits(Tokens(gradient), dx));
  Tokens wide = Tokens::Zero(6, channels + 3);
  block.forward(x, wide.middleCols(1, channels), record);
  EXPECT_TRUE(same_bits(Tokens(wide.middleCols(1, channels)), y));
  EXPECT_TRUE(wide.leftCols(1).isZero(0) && wide.rightCols(2).isZero(0));
}

TEST(Records, AreUsedUpByABackward) {
  auto block = ResPostLNPlacement::make<double>(channels);
  TrainingRecord<double> record;
  Tokens y, dx;
  EXPECT_FALSE(record.has_forward());
  EXPECT_THROW(block.backward(dy, dx, record), std::logic_error);
  block.forward(x, y, record);
  EXPECT_TRUE(record.has_forward());
  block.backward(dy, dx, record);
  EXPECT_FALSE(record.has_forward());
  EXPECT_THROW(block.backward(dy, dx, record), std::logic_error);
  block.forward(x, y, record);
  const auto copy = record;
  EXPECT_TRUE(copy.has_forward());
  EXPECT_EQ(message_of([&] { block.backward(dy.topRows(3), dx, record); }),
            "tokennorm: ResPostLN(5): dy is 3 x 5 (tokens x channels); expected 6 x 5");
  EXPECT_TRUE(record.has_forward()) << "a refused call changes nothing";
}

TEST(Records, OfAnotherBlockAreRefused) {
  auto one = PreLNPlacement::make<double>(channels);
  auto stack = StackOfPreLNPlacement::make<double>(channels);
  TrainingRecord<double> record;
  Tokens y, dx;
  one.forward(x, y, record);
  EXPECT_THROW(stack.backward(dy, dx, record), std::logic_error);
}

/// Writes, and remembers without allocating.
struct Doubled {
  void operator()(const Tokens& n, Tokens& y) const { y = 2 * n; }
  void forward(const Tokens& n, Tokens& y) { y = 2 * n; }
  void backward(const Tokens& du, Tokens& dn) { dn = 2 * du; }
};

template <class Block>
void expect_no_allocation(Block block, Index width) {
  TrainingRecord<double> record;
  for (const Index count : {130, 3}) {
    const auto in = random_normal<Tokens>({count, width}, Seed{8411});
    Tokens y, dx;
    const auto train = [&] {
      block.forward(in, y, record);
      block.backward(in, dx, record);
    };
    train();
    train();
    const AllocationCounter counter;
    train();
    train();
    EXPECT_EQ(counter.count(), 0u) << count << " tokens";
  }
}

TEST(Records, AllocateNothingWhileTheShapeStaysTheSame) {
  if (!allocations_are_counted) GTEST_SKIP() << "allocations cannot be counted on this platform";
  const Index width = 40;  // so that the sums of 130 tokens do not fit on the stack
  const LayerNorm<double> layer(width);
  const RMSNorm<double> rms(width);
  expect_no_allocation(PreLN(layer, Doubled{}, rms, Doubled{}), width);
  expect_no_allocation(SandwichLN(layer, Doubled{}, rms, layer, Doubled{}, rms), width);
  expect_no_allocation(DeepNorm(Doubled{}, layer, Doubled{}, rms, 1.5), width);
  expect_no_allocation(ParallelLN(layer, Doubled{}, rms, Doubled{}), width);
  expect_no_allocation(ParallelLN(layer, LayerScale<Doubled, double>(Doubled{}, width, 0.1),
                                  DropPath(Doubled{}, 0.5, 1, 7)),
                       width);
  expect_no_allocation(
      Stack(layer, std::vector(3, PostLN(Doubled{}, layer, Doubled{}, rms)), NoNorm{}), width);
  expect_no_allocation(
      Stack(layer, std::vector(2, ResPostLN(Doubled{}, layer, Doubled{}, rms)), rms), width);
}

}  // namespace
}  // namespace tokennorm::test
