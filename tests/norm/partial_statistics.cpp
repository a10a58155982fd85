// SPDX-License-Identifier: MIT
// Norms of divided channels: the bound of the norm itself, over all hard rows and any division.
#include "../support/exact_bits.hpp"
#include "../support/message_of.hpp"
#include "backward_accuracy.hpp"
#include "exact_step.hpp"
#include "forward_accuracy.hpp"
#include <tokennorm/norm/partial_statistics.hpp>

#include <limits>
#include <vector>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class Partial : public ::testing::Test {};
TYPED_TEST_SUITE(Partial, AllCases, CaseName);

/// The channels of each part: evenly divided, the first one alone, each for itself where they are
/// few, and parts of very different size.
std::vector<std::vector<Index>> divisions(Index channels) {
  std::vector<std::vector<Index>> all{{channels}};
  const auto evenly = [&](Index parts) {
    std::vector<Index> sizes;
    for (Index p = 0; p < parts; ++p)
      sizes.push_back(channels * (p + 1) / parts - channels * p / parts);
    return sizes;
  };
  for (const Index parts : {2, 3, 8})
    if (parts <= channels) all.push_back(evenly(parts));
  if (channels <= 40) all.push_back(evenly(channels));
  if (channels > 2) all.push_back({1, channels - 1});
  if (channels > 40) all.push_back({channels - 36, 3, 33});
  return all;
}

/// Each part's norm with the options, and γ and β of its channels.
template <class Norm>
std::vector<Norm> parts_of(const Norm& norm, const std::vector<Index>& division) {
  std::vector<Norm> parts;
  Index first = 0;
  for (const Index count : division) {
    parts.emplace_back(count, norm.options());
    if (norm.options().scale) parts.back().scale() = norm.scale().segment(first, count);
    if (norm.options().shift) parts.back().shift() = norm.shift().segment(first, count);
    first += count;
  }
  return parts;
}

/// f(part's norm, first channel, number of channels)
template <class Norm, class F>
void for_each_part(const std::vector<Norm>& parts, const F& f) {
  Index first = 0;
  for (const Norm& part : parts) {
    f(part, first, part.channels());
    first += part.channels();
  }
}

template <class Accum, class Norm, class X>
PartialStatistics<Accum> merged_statistics(const std::vector<Norm>& parts, const X& x) {
  PartialStatistics<Accum> merged;
  for_each_part(parts, [&](const Norm& part, Index first, Index count) {
    PartialStatistics<Accum> statistics;
    part.partial_statistics(x.middleCols(first, count), statistics);
    merge(merged, statistics);
  });
  return merged;
}

template <class Accum, class Norm, class X>
X divided(const Norm& norm, const X& x, const std::vector<Index>& division) {
  const auto parts = parts_of(norm, division);
  const auto merged = merged_statistics<Accum>(parts, x);
  X y(x.rows(), x.cols());
  for_each_part(parts, [&](const Norm& part, Index first, Index count) {
    part.apply(x.middleCols(first, count), merged, y.middleCols(first, count));
  });
  return y;
}

TYPED_TEST(Partial, HardRowsAreWithinFourUnits) {
  using Kind = typename TypeParam::Kind;
  using Scalar = typename TypeParam::Scalar;
  ForwardAccuracy accuracy(ErrorUnits::of<Scalar>());
  for (const Index channels : {1, 2, 3, 16, 33, 100, 768, 4097}) {
    if (channels > longest_row) continue;
    const auto rows = hard_rows<Scalar>(channels);
    const auto names = names_of(rows);
    const auto x = stacked<typename TypeParam::RowMajor>(rows);
    for (const double epsilon : {0.0, 1e-5}) {
      const typename TypeParam::Norm norm(channels, plain_options<Kind>(epsilon));
      const ForwardOracle expected = forward_oracle(spec_of(norm.options()), exact(x));
      for (const auto& division : divisions(channels)) {
        SCOPED_TRACE(::testing::PrintToString(division));
        const auto y = divided<typename TypeParam::Accum>(norm, x, division);
        accuracy.judge(names.data(), epsilon, expected, exact(y), "row-major");
      }
    }
  }
  accuracy.worst().report("divided " + CaseName::GetName<TypeParam>(0));
}

/// A backward whose channels are divided.
template <class TypedCase>
ExactStep divided_backward(const typename TypedCase::Norm& norm,
                           const typename TypedCase::RowMajor& x,
                           const typename TypedCase::RowMajor& dy,
                           const std::vector<Index>& division) {
  using Accum = typename TypedCase::Accum;
  const auto parts = parts_of(norm, division);
  const auto merged = merged_statistics<Accum>(parts, x);
  PartialGradientSums<Accum> sums;
  for_each_part(parts, [&](const auto& part, Index first, Index count) {
    PartialGradientSums<Accum> of_part;
    part.partial_gradient_sums(x.middleCols(first, count), merged, dy.middleCols(first, count),
                               of_part);
    merge(sums, of_part);
  });
  typename TypedCase::RowMajor dx(x.rows(), x.cols());
  NormGradients<Accum> all;
  all.scale.setZero(x.cols());
  all.shift.setZero(x.cols());
  for_each_part(parts, [&](const auto& part, Index first, Index count) {
    typename TypedCase::Gradients of_part;
    part.backpropagate(x.middleCols(first, count), merged, dy.middleCols(first, count), sums,
                       dx.middleCols(first, count), of_part);
    all.scale.segment(first, count) = of_part.scale;
    all.shift.segment(first, count) = of_part.shift;
  });
  return exact_results(dx, dx, typename TypedCase::Statistics(), all, "divided");
}

TYPED_TEST(Partial, GradientsOfHardRowsAreWithinEightUnits) {
  using Tokens = typename TypeParam::RowMajor;
  auto judge = BackwardAccuracy::of<typename TypeParam::Scalar>();
  for (const Index channels : {1, 3, 16, 100, 768}) {
    const auto rows = hard_rows<typename TypeParam::Scalar>(channels);
    const auto x = stacked<Tokens>(rows);
    const ExactMatrix exact_x = exact(x);
    for (const double epsilon : {0.0, 1e-5}) {
      const auto norm = random_norm<TypeParam>(channels, Seed{5},
                                               affine_options<typename TypeParam::Kind>(epsilon));
      for (const auto& [name, dy] : incoming_gradients<Tokens>(spec_of(norm.options()), exact_x)) {
        if (channels > 100 && name != "offset" && name != "equal to the output") continue;
        const BackwardOracle expected = backward_oracle_of(norm, exact_x, exact(dy));
        for (const auto& division : divisions(channels)) {
          SCOPED_TRACE(::testing::PrintToString(division));
          judge.judge(divided_backward<TypeParam>(norm, x, dy, division), expected, epsilon, name,
                      names_of(rows));
        }
      }
    }
  }
  judge.report("divided " + CaseName::GetName<TypeParam>(0));
}

struct Backwards {
  void parallel_for(Index count, Index, const auto& f) const {
    for (Index i = count; i-- > 0;) f(i, i + 1);
  }
};

/// Whatever the strides, and under an executor that goes backwards.
TYPED_TEST(Partial, TheBitsAreThoseOfRowsOneByOne) {
  using Accum = typename TypeParam::Accum;
  const auto norm = random_norm<TypeParam>(35);
  const auto x = random_normal<typename TypeParam::RowMajor>({9, 35}, Seed{31}, 1, 2);
  PartialStatistics<Accum> statistics, others;
  norm.partial_statistics(x, statistics);
  const typename TypeParam::ColMajor in_columns = x;
  norm.partial_statistics(in_columns, others, Backwards{});
  EXPECT_EQ(statistics.count, 35);
  for (Index t = 0; t < x.rows(); ++t) {
    EXPECT_TRUE(statistics.m2(t) == others.m2(t));
    if (!TypeParam::Kind::centred) continue;
    EXPECT_TRUE(statistics.mean(t) == others.mean(t));
  }
  typename TypeParam::RowMajor y(9, 35), in_place = x;
  typename TypeParam::ColMajor y_in_columns(9, 35);
  norm.apply(x, statistics, y);
  norm.apply(in_columns, statistics, y_in_columns, Backwards{});
  norm.apply(in_place, statistics, in_place);
  EXPECT_TRUE(same_bits(y, typename TypeParam::RowMajor(y_in_columns)));
  EXPECT_TRUE(same_bits(y, in_place));
  for (Index t = 0; t < x.rows(); ++t) {
    typename TypeParam::RowMajor one;
    norm.partial_statistics(x.row(t), others);
    norm.apply(typename TypeParam::RowMajor(x.row(t)), others, one);
    EXPECT_TRUE(same_bits(one, typename TypeParam::RowMajor(y.row(t))));
  }
}

TYPED_TEST(Partial, NaNStaysInItsToken) {
  auto x = random_normal<typename TypeParam::RowMajor>({3, 12}, Seed{32});
  x(1, 7) = std::numeric_limits<typename TypeParam::Scalar>::quiet_NaN();
  const auto norm = random_norm<TypeParam>(12);
  const auto y = exact(divided<typename TypeParam::Accum>(norm, x, {5, 7}));
  EXPECT_TRUE(y.row(1).array().isNaN().all());
  EXPECT_TRUE(y.row(0).array().isFinite().all() && y.row(2).array().isFinite().all());
}

/// Of whole numbers, whose sums are exact.
TEST(PartialStatistics, AreCountMeanAndM2) {
  TokenMatrix<float> x(1, 4);
  x << 1, 2, 3, 6;
  PartialStatistics<float> statistics, others;
  LayerNorm<float>(4).partial_statistics(x, statistics);
  EXPECT_EQ(statistics.count, 4);
  EXPECT_EQ(statistics.mean(0), 3);
  EXPECT_EQ(statistics.m2(0), 14);
  x << 5, 5, 7, 7;
  LayerNorm<float>(4).partial_statistics(x, others);
  merge(statistics, others);
  EXPECT_EQ(statistics.count, 8);
  EXPECT_EQ(statistics.mean(0), 4.5);
  EXPECT_EQ(statistics.m2(0), 36);
  RMSNorm<float>(4, {.statistics_channels = 2}).partial_statistics(x, others);
  EXPECT_EQ(others.count, 2);
  EXPECT_EQ(others.mean.size(), 0);
  EXPECT_EQ(others.m2(0), 50);
}

TEST(PartialStatistics, OnesThatDoNotFitAreRefused) {
  const LayerNorm<float> norm(4);
  TokenMatrix<float> x = TokenMatrix<float>::Ones(3, 4), y;
  PartialStatistics<float> of_three, of_two, of_rms, none;
  norm.partial_statistics(x, of_three);
  norm.partial_statistics(x.topRows(2), of_two);
  RMSNorm<float>(4).partial_statistics(x, of_rms);
  EXPECT_EQ(message_of([&] { norm.apply(x, of_two, y); }),
            "tokennorm: LayerNorm(4): partial is of 2 tokens; expected 3");
  EXPECT_EQ(message_of([&] { norm.apply(x, of_rms, y); }),
            "tokennorm: LayerNorm(4): partial has 0 means; expected 3, as of a LayerNorm");
  EXPECT_EQ(message_of([&] { RMSNorm<float>(4).apply(x, of_three, y); }),
            "tokennorm: RMSNorm(4): partial has 3 means; expected 0, as of an RMSNorm");
  EXPECT_EQ(message_of([&] { norm.apply(x, none, y); }),
            "tokennorm: LayerNorm(4): partial is of 0 tokens; expected 3");
  none.mean.resize(3);
  none.m2.resize(3);
  EXPECT_EQ(message_of([&] { norm.apply(x, none, y); }),
            "tokennorm: LayerNorm(4): partial has a count of 0; expected 1 or more channels");
  EXPECT_EQ(y.size(), 0);
  EXPECT_EQ(message_of([&] { merge(of_three, of_two); }),
            "tokennorm: merge: the second argument is of 2 tokens; expected 3");
  EXPECT_EQ(message_of([&] { merge(of_three, of_rms); }),
            "tokennorm: merge: the second argument has 0 means; expected 3, as of a LayerNorm");
  EXPECT_EQ(message_of([&] { norm.partial_statistics(TokenMatrix<float>(3, 5), of_two); }),
            "tokennorm: LayerNorm(4): x is 3 x 5 (tokens x channels); expected 4 channels");
  merge(of_three, none);
  EXPECT_EQ(of_three.count, 4);
}

}  // namespace
}  // namespace tokennorm::test
