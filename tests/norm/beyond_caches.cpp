// SPDX-License-Identifier: MIT
// Results of 64 MiB and more are stored past the caches (dx where memory is managed). They are
// those of the same tokens a few at a time, bit for bit: what else is right of those is tested
// elsewhere. Managed or not, the bits are the same.
#include "../support/exact_bits.hpp"
#include "../support/memory_policy.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;

template <class TypedCase>
class BeyondCaches : public ::testing::Test {
 protected:
  using Norm = typename TypedCase::Norm;
  using Statistics = typename TypedCase::Statistics;
  using Gradients = typename TypedCase::Gradients;
  static constexpr Index piece = 100;

  /// Few channels; rows that begin where cache lines begin and rows that do not; and rows too long
  /// to be kept at hand.
  static constexpr std::array<Index, 4> widths{64, 1024, 1031, 4112};
  static std::vector<std::pair<Index, bool>> widths_both_ways() {
    std::vector<std::pair<Index, bool>> both;
    for (const Index channels : widths) {
      for (const bool manages : {false, true}) both.emplace_back(channels, manages);
    }
    return both;
  }
  static Index token_count(Index channels) { return (Index{17} << 20) / channels; }

  template <class Check>
  static void for_each_piece(Index tokens, const Check& check) {
    for (Index t = 0; t < tokens; t += piece) {
      const Index count = std::min(piece, tokens - t);
      if (!check([t, count](const Tokens& of) { return Tokens(of.middleRows(t, count)); })) {
        FAIL() << "from token " << t << " on";
      }
    }
  }

  /// Cheap, and different in every row.
  static Tokens some_tokens(Index tokens, Index channels, std::uint32_t seed) {
    Tokens x(tokens, channels);
    std::uint32_t state = seed;
    for (Index i = 0; i < x.size(); ++i) {
      state = state * 1664525u + 1013904223u;
      x.data()[i] = static_cast<float>(state >> 8) * 0x1p-24f - 0.25f;
    }
    return x;
  }
};

using FloatCases = ::testing::Types<Case<LayerKind, float>, Case<RMSKind, float>>;
TYPED_TEST_SUITE(BeyondCaches, FloatCases, CaseName);

TYPED_TEST(BeyondCaches, Norm) {
  for (const Index channels : this->widths) {
    SCOPED_TRACE(channels);
    const auto norm = random_norm<TypeParam>(channels);
    const Tokens x = this->some_tokens(this->token_count(channels), channels, 1);
    const Tokens y = norm(x);
    this->for_each_piece(x.rows(),
                         [&](const auto& rows) { return same_bits(rows(y), norm(rows(x))); });
  }
}

using SumBeyondCaches = BeyondCaches<Case<LayerKind, float>>;

TEST_F(SumBeyondCaches, SumAndNorm) {
  for (const Index channels : widths) {
    SCOPED_TRACE(channels);
    const auto norm = random_norm<Case<LayerKind, float>>(channels);
    const Index tokens = token_count(channels);
    const Tokens residual = some_tokens(tokens, channels, 2);
    const Tokens update = some_tokens(tokens, channels, 3);
    const auto check = [&](const Tokens& sum, const Tokens& y) {
      for_each_piece(tokens, [&](const auto& rows) {
        const Tokens expected_sum = rows(residual) + rows(update);
        return same_bits(rows(sum), expected_sum) && same_bits(rows(y), norm(expected_sum));
      });
    };
    Tokens sum, y;
    norm.normalize_sum(residual, update, sum, y);
    check(sum, y);
    sum = residual;
    norm.normalize_sum(sum, update, sum, y);
    check(sum, y);
  }
}

TYPED_TEST(BeyondCaches, Backward) {
  for (const auto& [channels, manages] : this->widths_both_ways()) {
    SCOPED_TRACE(channels);
    const ManagedMemory memory(manages);
    const auto norm = random_norm<TypeParam>(channels);
    const Index tokens = this->token_count(channels);
    const Tokens x = this->some_tokens(tokens, channels, 4);
    const Tokens dy = this->some_tokens(tokens, channels, 5);
    Tokens y, dx;
    typename TypeParam::Statistics stats;
    norm.normalize(x, y, stats);
    typename TypeParam::Gradients gradients;
    norm.backpropagate(x, stats, dy, dx, gradients);

    Eigen::VectorXd shift_gradient = Eigen::VectorXd::Zero(channels);
    Eigen::VectorXd scale_gradient = Eigen::VectorXd::Zero(channels);
    this->for_each_piece(tokens, [&](const auto& rows) {
      typename TypeParam::Statistics piece_stats;
      typename TypeParam::Gradients piece_gradients;
      Tokens piece_y, piece_dx;
      norm.normalize(rows(x), piece_y, piece_stats);
      norm.backpropagate(rows(x), piece_stats, rows(dy), piece_dx, piece_gradients);
      shift_gradient += piece_gradients.shift.template cast<double>();
      scale_gradient += piece_gradients.scale.template cast<double>();
      return same_bits(rows(dx), piece_dx);
    });
    EXPECT_TRUE(gradients.shift.template cast<double>().isApprox(shift_gradient, 1e-6));
    EXPECT_TRUE(gradients.scale.template cast<double>().isApprox(scale_gradient, 1e-6));
  }
}

/// In the first cache, in the second, in the third, far away, and beyond; few channels, more, many.
constexpr std::array<std::array<Index, 2>, 11> near_and_far{{{38, 64},
                                                             {38, 333},
                                                             {99, 1024},
                                                             {2000, 300},
                                                             {1500, 400},
                                                             {301, 1024},
                                                             {310, 1031},
                                                             {45000, 97},
                                                             {3333, 1024},
                                                             {16400, 1024},
                                                             {4200, 4112}}};

TYPED_TEST(BeyondCaches, ManagedOrNot) {
  for (const auto [tokens, channels] : near_and_far) {
    SCOPED_TRACE(tokens);
    const auto norm = random_norm<TypeParam>(channels);
    const Tokens x = this->some_tokens(tokens, channels, 6);
    const Tokens dy = this->some_tokens(tokens, channels, 7);
    Tokens y[2], dx[2];
    typename TypeParam::Gradients gradients[2];
    for (const bool manages : {false, true}) {
      const ManagedMemory memory(manages);
      typename TypeParam::Statistics stats;
      norm.normalize(x, y[manages], stats);
      norm.backpropagate(x, stats, dy, dx[manages], gradients[manages]);
    }
    EXPECT_TRUE(same_bits(y[0], y[1]));
    EXPECT_TRUE(same_bits(dx[0], dx[1]));
    EXPECT_TRUE(same_bits(gradients[0].scale, gradients[1].scale));
    EXPECT_TRUE(same_bits(gradients[0].shift, gradients[1].shift));
  }
}

TEST_F(SumBeyondCaches, ManagedOrNot) {
  for (const auto [tokens, channels] : near_and_far) {
    SCOPED_TRACE(tokens);
    const auto norm = random_norm<Case<LayerKind, float>>(channels);
    const Tokens residual = some_tokens(tokens, channels, 8);
    const Tokens update = some_tokens(tokens, channels, 9);
    Tokens sum[2], y[2];
    for (const bool manages : {false, true}) {
      const ManagedMemory memory(manages);
      norm.normalize_sum(residual, update, sum[manages], y[manages]);
    }
    EXPECT_TRUE(same_bits(sum[0], sum[1]));
    EXPECT_TRUE(same_bits(y[0], y[1]));
  }
}

/// Its second sweep is in two parts, of which the second begins anywhere.
TEST(BeyondCachesPartly, BackwardOfAPartialRMSNorm) {
  using Partial = Case<RMSKind, float>;
  const Index channels = 1024, tokens = (Index{17} << 20) / channels;
  RMSNormOptions options;
  options.statistics_channels = 98;
  const auto norm = random_norm<Partial>(channels, Seed{7}, options);
  const Tokens x = Tokens::Constant(tokens, channels, 0.5f);
  Tokens y, dx, first_dx;
  Partial::Statistics stats, first_stats;
  Partial::Gradients gradients, first_gradients;
  norm.normalize(x, y, stats);
  const Tokens first = x.topRows(1);
  norm.normalize(first, y, first_stats);
  norm.backpropagate(first, first_stats, first, first_dx, first_gradients);
  for (const bool manages : {false, true}) {
    const ManagedMemory memory(manages);
    norm.backpropagate(x, stats, x, dx, gradients);
    EXPECT_TRUE(same_bits(dx, first_dx.replicate(tokens, 1))) << manages;
  }
}

}  // namespace
}  // namespace tokennorm::test
