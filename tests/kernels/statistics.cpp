// SPDX-License-Identifier: MIT
// From sums to what normalizes: a token alone has the bits that it has among four, in the type that
// they are worked out in, where a difference would show in few results.
#include "levels.hpp"
#include <tokennorm/kernels/backward/call.hpp>
#include <tokennorm/kernels/stages/statistics.hpp>

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <type_traits>

namespace tokennorm::kernels {
namespace {

constexpr int tokens = rows_together;

/// A sum, with some of what a pair has below.
template <class A>
PreciseSum<A> precise(double sum) {
  if constexpr (std::is_same_v<A, float>) {
    return sum;
  } else {
    return {sum, sum * 0x1.921fb5p-54};
  }
}

/// Sums such as rows of n normal deviates have them, of many magnitudes.
template <class A>
struct Sums {
  alignas(64) A pivots[tokens];
  alignas(64) PreciseSum<A> deviations[tokens], squares[tokens], gradients[tokens],
      products[tokens];
  Index n;

  explicit Sums(std::mt19937& random) : n(std::uniform_int_distribution<Index>(1, 5000)(random)) {
    std::normal_distribution<double> normal;
    const auto count = static_cast<double>(n);
    for (int i = 0; i < tokens; ++i) {
      const double sigma = std::exp2(normal(random) * 10), delta = normal(random) * sigma / 4;
      pivots[i] = static_cast<A>(normal(random) * sigma);
      deviations[i] = precise<A>(delta * count);
      squares[i] = precise<A>((delta * delta + sigma * sigma) * count);
      gradients[i] = precise<A>(normal(random) * count);
      products[i] = precise<A>(normal(random) * count);
    }
  }
};

std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }
std::uint64_t bits_of(double value) { return std::bit_cast<std::uint64_t>(value); }

template <bool Centred, class A>
struct ForwardTask {
  const Sums<A>& sums;
  Statistics<A, tokens>& together;
  Statistics<A, 1>* alone;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    finish<Level, Centred>(sums.pivots, sums.deviations, sums.squares, sums.n, 1e-5, together);
    for (int i = 0; i < tokens; ++i) {
      finish<Level, Centred>(sums.pivots + i, sums.deviations + i, sums.squares + i, sums.n, 1e-5,
                             alone[i]);
    }
  }
};

template <bool Centred, class A>
void compare_forward(const Sums<A>& sums) {
  Statistics<A, tokens> together{};
  Statistics<A, 1> alone[tokens]{};
  dispatch(ForwardTask<Centred, A>{sums, together, alone});
  for (int i = 0; i < tokens; ++i) {
    ASSERT_EQ(bits_of(together.precise_rstd[i]), bits_of(alone[i].precise_rstd[0]));
    ASSERT_EQ(bits_of(together.rstd[i]), bits_of(alone[i].rstd[0]));
    if (!Centred) continue;
    ASSERT_EQ(bits_of(together.mean[i]), bits_of(alone[i].mean[0]));
    ASSERT_EQ(bits_of(together.center[i]), bits_of(alone[i].center[0]));
    ASSERT_EQ(bits_of(together.correction[i]), bits_of(alone[i].correction[0]));
  }
}

template <bool Centred, class A>
struct BackwardTask {
  const Sums<A>& sums;
  backward::Tokens<A, tokens>& together;
  backward::Tokens<A, 1>* alone;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    backward::finish<Level, Centred>(sums.deviations, sums.gradients, sums.products, sums.n,
                                     together);
    for (int i = 0; i < tokens; ++i) {
      backward::finish<Level, Centred>(sums.deviations + i, sums.gradients + i, sums.products + i,
                                       sums.n, alone[i]);
    }
  }
};

template <bool Centred, class A>
void compare_backward(const Sums<A>& sums) {
  backward::Tokens<A, tokens> together{};
  backward::Tokens<A, 1> alone[tokens]{};
  for (int i = 0; i < tokens; ++i) together.rstd[i] = alone[i].rstd[0] = 1;
  dispatch(BackwardTask<Centred, A>{sums, together, alone});
  for (int i = 0; i < tokens; ++i) {
    ASSERT_EQ(together.needs_fallback(i), alone[i].needs_fallback(0));
    ASSERT_EQ(bits_of(together.mean_gx[i]), bits_of(alone[i].mean_gx[0]));
    ASSERT_EQ(bits_of(together.mean_g[i]), bits_of(alone[i].mean_g[0]));
    ASSERT_EQ(bits_of(together.offset[i]), bits_of(alone[i].offset[0]));
  }
}

template <class A>
void compare_random_sums() {
  std::mt19937 random(5);
  for (int i = 0; i < 20000 && !testing::Test::HasFailure(); ++i) {
    const Sums<A> sums(random);
    compare_forward<true>(sums);
    compare_forward<false>(sums);
    compare_backward<true>(sums);
    compare_backward<false>(sums);
  }
}

TEST(Statistics, OfATokenAloneAreThoseAmongFour) {
  test::at_every_level([] {
    compare_random_sums<float>();
    compare_random_sums<double>();
  });
}

}  // namespace
}  // namespace tokennorm::kernels
