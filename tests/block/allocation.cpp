// SPDX-License-Identifier: MIT
// block(x, y, workspace) allocates nothing while the shape stays the same, if its sublayers do not.
#include "../support/allocation_counter.hpp"
#include "../support/random_tokens.hpp"
#include <tokennorm/block/stack.hpp>
#include <tokennorm/core/tokens.hpp>

#include <gtest/gtest.h>

#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;

/// Writes into y.
struct Doubled {
  void operator()(const Tokens& x, Tokens& y) const { y = 2 * x; }
};

constexpr Index channels = 33;
LayerNorm<float> layer() { return LayerNorm<float>(channels); }
RMSNorm<float> rms() { return RMSNorm<float>(channels); }

template <class Block>
void expect_no_allocation(const Block& block) {
  if (!allocations_are_counted) GTEST_SKIP() << "allocations cannot be counted on this platform";
  Workspace<float> workspace;
  for (const Index count : {7, 1, 40}) {
    SCOPED_TRACE(count);
    const auto x = random_normal<Tokens>({count, channels}, Seed{5001});
    Tokens y, in_place = x;
    std::vector<float> buffer(static_cast<std::size_t>(count * channels));
    const auto calls = [&] {
      block(x, y, workspace);
      block(in_place, in_place, workspace);
      block(tokens(x.data(), count, channels), tokens(buffer, channels), workspace);
      block(x, y, workspace, serial);
    };
    calls();  // sizes y and the workspace
    const AllocationCounter counter;
    calls();
    calls();
    EXPECT_EQ(counter.count(), 0u);
  }
}

TEST(BlockAllocation, NoneInAResidualConnection) {
  expect_no_allocation(PreLNResidual(layer(), Doubled{}));
  expect_no_allocation(PostLNResidual(Doubled{}, layer()));
  expect_no_allocation(SandwichLNResidual(layer(), Doubled{}, layer()));
}

TEST(BlockAllocation, NoneInPreLN) {
  expect_no_allocation(PreLN(layer(), Doubled{}, layer(), Doubled{}));
}

TEST(BlockAllocation, NoneInPostLN) {
  expect_no_allocation(PostLN(Doubled{}, layer(), Doubled{}, layer()));
}

TEST(BlockAllocation, NoneInSandwichLN) {
  expect_no_allocation(SandwichLN(layer(), Doubled{}, layer(), layer(), Doubled{}, layer()));
}

TEST(BlockAllocation, NoneInResPostLN) {
  expect_no_allocation(ResPostLN(Doubled{}, layer(), Doubled{}, rms()));
}

TEST(BlockAllocation, NoneInDeepNorm) {
  expect_no_allocation(DeepNorm(Doubled{}, layer(), Doubled{}, rms(), 2));
}

TEST(BlockAllocation, NoneInAStack) {
  const std::vector pre(3, PreLN(layer(), Doubled{}, layer(), Doubled{}));
  expect_no_allocation(Stack(NoNorm{}, pre, rms()));
  expect_no_allocation(Stack(layer(), pre, layer()));
  const std::vector post(2, PostLN(Doubled{}, layer(), Doubled{}, layer()));
  expect_no_allocation(Stack(layer(), post, NoNorm{}));
}

}  // namespace
}  // namespace tokennorm::test
