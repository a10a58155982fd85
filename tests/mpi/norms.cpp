// SPDX-License-Identifier: MIT
// Norms whose channels are divided over the ranks: the bounds of the norms, over all hard rows.
#include "../norm/backward_accuracy.hpp"
#include "../norm/forward_accuracy.hpp"
#include "../support/exact_bits.hpp"
#include "../support/message_of.hpp"
#include "ranks.hpp"
#include <tokennorm/norm/any_norm.hpp>

#include <cmath>
#include <string>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class ShardedNorm : public ::testing::Test {};
TYPED_TEST_SUITE(ShardedNorm, FusedCases, CaseName);

/// What this rank has of a row that is judged as a whole.
template <class X>
ExactMatrix gathered(const X& mine, Index channels) {
  const Share share(channels);
  ExactMatrix all = ExactMatrix::Zero(mine.rows(), channels);
  all.middleCols(share.first, share.count) = exact(mine);
  MPI_Allreduce(MPI_IN_PLACE, all.data(), static_cast<int>(all.size()), MPI_LONG_DOUBLE, MPI_SUM,
                MPI_COMM_WORLD);
  return all;
}

TYPED_TEST(ShardedNorm, HardRowsAreWithinTheBounds) {
  using Scalar = typename TypeParam::Scalar;
  using Tokens = typename TypeParam::RowMajor;
  ForwardAccuracy forward(ErrorUnits::of<Scalar>());
  auto backward = BackwardAccuracy::of<Scalar>();
  for (const Index channels : {4, 33, 768}) {
    const auto rows = hard_rows<Scalar>(channels);
    const auto names = names_of(rows);
    const auto x = stacked<Tokens>(rows);
    const Share share(channels);
    const Tokens mine = share.of_channels(x);
    for (const double epsilon : {0.0, 1e-5}) {
      const typename TypeParam::Norm plain(channels,
                                           plain_options<typename TypeParam::Kind>(epsilon));
      const ExactMatrix y = gathered(shard_of(plain)(mine), channels);
      forward.judge(names.data(), epsilon, forward_oracle(spec_of(plain.options()), exact(x)), y,
                    "divided");

      const auto norm = random_norm<TypeParam>(channels, Seed{5},
                                               affine_options<typename TypeParam::Kind>(epsilon));
      auto shard = shard_of(norm);
      const auto dy = random_normal<Tokens>({x.rows(), channels}, Seed{12}, 100, 1);
      shard.forward(mine);
      const Tokens dx = shard.backward(Tokens(share.of_channels(dy)));
      const auto gradient = [&](const auto& part) {
        return ExactVector(gathered(part.transpose(), channels).transpose());
      };
      const ExactStep step{"divided",
                           {},
                           gathered(dx, channels),
                           {},
                           {},
                           gradient(shard.gradients().scale),
                           gradient(shard.gradients().shift)};
      backward.judge(step, backward_oracle_of(norm, exact(x), exact(dy)), epsilon, "offset", names);
    }
  }
}

TYPED_TEST(ShardedNorm, StatisticsHaveTheSameBitsOnAllRanks) {
  using Accum = typename TypeParam::Accum;
  const auto norm = shard_of(random_norm<TypeParam>(50));
  for (const Index tokens : {0, 1, 63, 300}) {
    // One token more, for a part of an empty matrix would start past a null pointer.
    const auto x = random_normal<typename TypeParam::RowMajor>({tokens + 1, 50}, Seed{21}, 1, 2);
    const typename TypeParam::RowMajor mine = Share(50).of_channels(x).topRows(tokens);
    PartialStatistics<Accum> merged, again;
    typename TypeParam::RowMajor y, z;
    norm.normalize(mine, y, merged);
    norm.normalize(mine, z, again);
    EXPECT_TRUE(same_bits(y, z));
    EXPECT_EQ(merged.count, tokens == 0 ? merged.count : 50);
    Eigen::VectorXd m2(tokens);
    for (Index t = 0; t < tokens; ++t) m2(t) = static_cast<double>(merged.m2(t));
    EXPECT_TRUE(same_bits_on_all_ranks(m2));
  }
}

TYPED_TEST(ShardedNorm, TakesTokenStatisticsAsWell) {
  using Tokens = typename TypeParam::RowMajor;
  const auto norm = random_norm<TypeParam>(50);
  const auto shard = shard_of(norm);
  const auto x = random_normal<Tokens>({6, 50}, Seed{27}, 1, 2);
  const Tokens mine = Share(50).of_channels(x), dy = mine;
  typename TypeParam::Statistics stats, of_whole;
  PartialStatistics<typename TypeParam::Accum> merged;
  typename TypeParam::Gradients g, other_g;
  Tokens y, z, dx, other_dx;
  norm.normalize(x, y, of_whole);
  shard.normalize(mine, y, stats);
  shard.normalize(mine, z, merged);
  EXPECT_TRUE(same_bits(y, z));
  const auto bound = 4 * unit<typename TypeParam::Accum>();
  EXPECT_LE((exact_vector(stats.rstd) - exact_vector(of_whole.rstd)).cwiseAbs().maxCoeff(), bound);
  EXPECT_EQ(stats.mean.size(), of_whole.mean.size());
  for (Index t = 0; t < stats.mean.size(); ++t)
    EXPECT_LE(std::fabs(to_exact(stats.mean(t)) - to_exact(of_whole.mean(t))), 2 * bound);
  shard.backpropagate(mine, stats, dy, dx, g);
  shard.backpropagate(mine, merged, dy, other_dx, other_g);
  EXPECT_TRUE(same_bits(dx, other_dx));
  EXPECT_TRUE(same_bits(g.scale, other_g.scale));
}

TYPED_TEST(ShardedNorm, AFusedSumIsTheAdditionThenTheNorm) {
  using Tokens = typename TypeParam::RowMajor;
  const Share share(40);
  const auto norm = shard_of(random_norm<TypeParam>(40));
  const auto residual = random_normal<Tokens>({70, 40}, Seed{22});
  const auto update = random_normal<Tokens>({70, 40}, Seed{23});
  const Tokens h = share.of_channels(residual), u = share.of_channels(update);
  Tokens sum, y;
  norm.normalize_sum(h, u, sum, y);
  EXPECT_TRUE(same_bits(sum, Tokens(h + u)));
  EXPECT_TRUE(same_bits(y, norm(sum)));

  PartialStatistics<typename TypeParam::Accum> merged;
  typename TypeParam::Gradients g, g_of_sum;
  norm.normalize(sum, y, merged);
  Tokens dx, dx_of_sum;
  norm.backpropagate(sum, merged, u, dx, g);
  norm.backpropagate_sum(sum, merged, u, h, dx_of_sum, g_of_sum);
  const auto largest = exact(dx).cwiseAbs().maxCoeff() + exact(h).cwiseAbs().maxCoeff();
  const int bits = format_of<typename TypeParam::Scalar>().significant_bits;
  const long double rounding = std::ldexp(2.0L, -bits);
  EXPECT_LE((exact(dx_of_sum) - exact(dx) - exact(h)).cwiseAbs().maxCoeff(), rounding * largest);
  EXPECT_TRUE(same_bits(g.scale, g_of_sum.scale));
}

TEST(ShardedNorms, SendOneMessageForTwo) {
  using Tokens = TokenMatrix<float>;
  const Share share(24);
  const auto q_norm = shard_of(random_norm<Case<RMSKind, float>>(24, Seed{1}));
  const auto k_norm = shard_of(random_norm<Case<LayerKind, float>>(24, Seed{2}));
  for (const Index tokens : {1, 200}) {
    const auto all_q = random_normal<Tokens>({tokens, 24}, Seed{24});
    const auto all_k = random_normal<Tokens>({2 * tokens, 24}, Seed{25});
    Tokens q = share.of_channels(all_q), k = share.of_channels(all_k), y;
    const Tokens of_q = q_norm(q), of_k = k_norm(k);
    auto pending = begin(q_norm, q, k_norm, k);
    pending.finish(q, y);
    EXPECT_TRUE(same_bits(q, of_q));
    EXPECT_TRUE(same_bits(y, of_k));
  }
}

TEST(ShardedNorms, OfAKindThatIsChosenAtRunTime) {
  using Tokens = TokenMatrix<float>;
  const auto x = random_normal<Tokens>({9, 24}, Seed{26});
  const Tokens mine = Share(24).of_channels(x);
  const AnyNorm<float> any(NormKind::rms_norm, Share(24).count, {.epsilon = 1e-5});
  const RMSNorm<float> norm(Share(24).count, {.epsilon = 1e-5});
  EXPECT_TRUE(same_bits(sharded(any, MPI_COMM_WORLD)(mine), sharded(norm, MPI_COMM_WORLD)(mine)));
}

/// Each rank's message, and that the ranks are in step afterwards.
TEST(ShardedNorms, RanksThatDisagreeAllFail) {
  if (ranks() == 1) GTEST_SKIP() << "one rank agrees with itself";
  using Tokens = TokenMatrix<float>;
  const auto norm = sharded(LayerNorm<float>(8), MPI_COMM_WORLD);
  const Tokens x = Tokens::Random(100 + rank(), 8), few = x.topRows(5);
  const std::string last = std::to_string(99 + ranks());
  EXPECT_EQ(message_of([&] { norm(x); }), "tokennorm: LayerNorm(8): the ranks have 100 to " + last +
                                              " tokens; expected as many on all");
  const auto other =
      sharded(LayerNorm<float>(8, {.epsilon = rank() == 0 ? 1e-5 : 1e-6}), MPI_COMM_WORLD);
  EXPECT_EQ(message_of([&] { other(few); }),
            "tokennorm: LayerNorm(8): the ranks have epsilons from 1e-06 to 1e-05; expected the "
            "same on all");
  const std::string options =
      "tokennorm: LayerNorm(8): the ranks have norms of other options: epsilon, scale, shift or "
      "scale_offset; expected the same on all";
  const auto offset =
      sharded(LayerNorm<float>(8, {.scale_offset = rank() == 0 ? 0.0 : 1.0}), MPI_COMM_WORLD);
  EXPECT_EQ(message_of([&] { offset(few); }), options);
  EXPECT_EQ(message_of([&] {
              auto pending = begin(norm, few, other, few);
              Tokens y, z;
              pending.finish(y, z);
            }),
            options);
  const std::string calls =
      "the ranks make different calls: forward or backward, LayerNorm or RMSNorm, in float or "
      "double; expected the same on all";
  const auto rms_norm = sharded(RMSNorm<float>(8, {.epsilon = 1e-5}), MPI_COMM_WORLD);
  EXPECT_EQ(message_of([&] {
              if (rank() == 0) {
                norm(few);
              } else {
                rms_norm(few);
              }
            }),
            "tokennorm: " + std::string(rank() == 0 ? "LayerNorm" : "RMSNorm") + "(8): " + calls);
  const Tokens wide = Tokens::Random(5, 9);
  EXPECT_EQ(message_of([&] { norm(rank() == 1 ? wide : few); }),
            rank() == 1 ? "tokennorm: LayerNorm(8): x is 5 x 9 (tokens x channels); expected 8 "
                          "channels"
                        : "tokennorm: LayerNorm(8): rank 1 has refused its operands");
  EXPECT_EQ(message_of([&] {
              auto pending = begin(norm, few, rms_norm, rank() == 1 ? wide : few);
              Tokens y, z;
              pending.finish(y, z);
            }),
            rank() == 1
                ? "tokennorm: RMSNorm(8): x is 5 x 9 (tokens x channels); expected 8 channels"
                : "tokennorm: LayerNorm(8): rank 1 has refused its operands");
  EXPECT_TRUE(same_bits(norm(few), norm(few)));
}

TEST(ShardedNorms, ErrorsOfMpiAreExceptions) {
  EXPECT_EQ(message_of([&] { sharded(LayerNorm<float>(8), MPI_COMM_NULL); }),
            "tokennorm: MPI: the communicator is MPI_COMM_NULL; expected one with this rank in it");
  const std::string message =
      message_of<std::runtime_error>([&] { detail::mpi::check("MPI_Allreduce", MPI_ERR_COUNT); });
  EXPECT_EQ(message.rfind("tokennorm: MPI_Allreduce: MPI_ERR_COUNT", 0), 0u) << message;
}

}  // namespace
}  // namespace tokennorm::test
