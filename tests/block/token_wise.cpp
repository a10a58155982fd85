// SPDX-License-Identifier: MIT
// Over sublayers that look at one token at a time, a block does so too: a token has the same bits
// alone, in any batch and at any position, and a NaN or an infinity spoils no other.
#include "../support/exact_bits.hpp"
#include "../support/memory_policy.hpp"
#include "../support/random_tokens.hpp"
#include "executors.hpp"
#include <tokennorm/block/stack.hpp>
#include <tokennorm/core/tokens.hpp>

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;
constexpr Index channels = 21;

/// Neighbouring channels, mixed.
struct Mixed {
  void operator()(const Tokens& x, Tokens& y) const {
    for (Index t = 0; t < x.rows(); ++t)
      for (Index c = 0; c < x.cols(); ++c)
        y(t, c) = x(t, c) - 0.5f * x(t, (c + 1) % x.cols()) * x(t, c);
  }
};

LayerNorm<float> layer() { return LayerNorm<float>(channels); }

struct MakePreLN {
  static auto make() { return PreLN(layer(), Mixed{}, layer(), Mixed{}); }
};
struct MakePostLN {
  static auto make() { return PostLN(Mixed{}, layer(), Mixed{}, layer()); }
};
struct MakeSandwichLN {
  static auto make() { return SandwichLN(layer(), Mixed{}, layer(), layer(), Mixed{}, layer()); }
};
struct MakeStack {
  static auto make() { return Stack(layer(), std::vector(3, MakePreLN::make()), layer()); }
};

template <class Make>
class TokenWise : public ::testing::Test {
 protected:
  const decltype(Make::make()) block_ = Make::make();
  const Tokens x_ = random_normal<Tokens>({37, channels}, Seed{10001});
  const Tokens y_ = block_(x_);
};
using Makers = ::testing::Types<MakePreLN, MakePostLN, MakeSandwichLN, MakeStack>;
TYPED_TEST_SUITE(TokenWise, Makers);

TYPED_TEST(TokenWise, ATokenHasTheSameBitsAloneAndInAnyBatch) {
  for (Index t = 0; t < 37; ++t)
    EXPECT_TRUE(same_bits(this->block_(Tokens(this->x_.row(t))), this->y_.row(t))) << t;
  for (const Index count : {2, 3, 4, 5, 8, 17}) {
    SCOPED_TRACE(count);
    for (const Index first : {Index{0}, Index{1}, Index{6}, 37 - count})
      EXPECT_TRUE(same_bits(this->block_(Tokens(this->x_.middleRows(first, count))),
                            this->y_.middleRows(first, count)))
          << first;
  }
}

TYPED_TEST(TokenWise, ATokenHasTheSameBitsAtAnyPosition) {
  const Tokens reversed = this->x_.colwise().reverse();
  EXPECT_TRUE(same_bits(Tokens(this->block_(reversed).colwise().reverse()), this->y_));
}

TYPED_TEST(TokenWise, ATokenHasTheSameBitsAtAnyAlignment) {
  std::vector<float> memory(37 * 32 + 16), result(memory.size());
  for (const int offset : {0, 1, 3, 8, 13}) {
    SCOPED_TRACE(offset);
    auto x = tokens(memory.data() + offset, 37, channels, 32);
    auto y = tokens(result.data() + (offset + 5) % 16, 37, channels, 31);
    x = this->x_;
    this->block_(x, y);
    EXPECT_TRUE(same_bits(y, this->y_));
  }
}

TYPED_TEST(TokenWise, ANaNOrAnInfinityStaysInItsToken) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    SCOPED_TRACE(bad);
    for (const Index t : {0, 5, 36}) {
      SCOPED_TRACE(t);
      Tokens x = this->x_;
      x(t, 7) = bad;
      const Tokens y = this->block_(x);
      EXPECT_TRUE(same_bits(y.topRows(t), this->y_.topRows(t)));
      EXPECT_TRUE(same_bits(y.bottomRows(36 - t), this->y_.bottomRows(36 - t)));
      EXPECT_FALSE(y.row(t).array().isFinite().all()) << "nothing is hidden";
    }
  }
}

TYPED_TEST(TokenWise, AnExecutorIsTheLastArgumentOfAnyCall) {
  for (const Division division : {Division::odd_pieces_backwards, Division::on_threads}) {
    SCOPED_TRACE(division);
    const TestExecutor executor{division};
    EXPECT_TRUE(same_bits(this->block_(this->x_, executor), this->y_));
    Tokens y;
    this->block_(this->x_, y, executor);
    EXPECT_TRUE(same_bits(y, this->y_));
    Workspace<float> workspace;
    y.setZero();
    this->block_(this->x_, y, workspace, executor);
    EXPECT_TRUE(same_bits(y, this->y_));
    this->block_(this->x_, y, workspace, TestExecutor{division});  // a temporary one
    EXPECT_TRUE(same_bits(y, this->y_));
  }
}

/// y = x/2
struct Halved {
  Tokens forward(const Tokens& x) const { return 0.5f * x; }
  Tokens backward(const Tokens& dy) const { return 0.5f * dy; }
};

/// In Post-LN the gradient of a norm is the sum of two, which is formed for a few tokens at a time,
/// while some orders of work look at the token after them.
TEST(TokenWiseBackward, ATokenHasTheSameGradientAloneUnderEitherMemoryPolicy) {
  for (const bool manages : {false, true}) {
    SCOPED_TRACE(manages);
    const ManagedMemory policy(manages);
    const LayerNorm<float> norm(768);
    PostLN block(Halved{}, norm, Halved{}, norm);
    const auto x = random_normal<Tokens>({70, 768}, Seed{10002});
    const auto dy = random_normal<Tokens>({70, 768}, Seed{10003});
    block.forward(x);
    const Tokens dx = block.backward(dy);
    for (Index t = 0; t < 70; ++t) {
      block.forward(Tokens(x.row(t)));
      EXPECT_TRUE(same_bits(block.backward(Tokens(dy.row(t))), dx.row(t))) << t;
    }
  }
}

}  // namespace
}  // namespace tokennorm::test
