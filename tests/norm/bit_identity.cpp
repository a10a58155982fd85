// SPDX-License-Identifier: MIT
// A token's result has the same bits alone, in any batch, at any position and misalignment, with or
// without statistics, and with any executor; for each storage order by itself.
#include "../support/edge_shapes.hpp"
#include "../support/exact_bits.hpp"
#include "../support/hard_rows.hpp"
#include "../support/memory_policy.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <thread>
#include <type_traits>
#include <vector>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class BitIdentity : public ::testing::Test {
 protected:
  using Scalar = typename TypedCase::Scalar;
  using RowMajor = typename TypedCase::RowMajor;
  using ColMajor = typename TypedCase::ColMajor;
  using Statistics = typename TypedCase::Statistics;
  using Gradients = typename TypedCase::Gradients;

  /// Ordinary and hard tokens in turn, so that those which are redone stand among the others.
  static RowMajor mixed_tokens(Index count, Index channels) {
    const auto hard = hard_rows<Scalar>(channels);
    RowMajor x = random_normal<RowMajor>({count, channels}, Seed{601}, 1);
    for (Index t = 1; t < count; t += 3)
      x.row(t) = hard[static_cast<std::size_t>(t * 7) % hard.size()].x;
    return x;
  }

  /// y, statistics and dx of every token, each computed alone.
  template <class Matrix>
  struct Alone {
    Matrix y, dx;
    Eigen::Matrix<typename TypedCase::Accum, Eigen::Dynamic, 1> mean, rstd;
  };
  template <class Matrix>
  static Alone<Matrix> alone(const typename TypedCase::Norm& norm, const Matrix& x,
                             const Matrix& dy) {
    Alone<Matrix> result{x, x, {}, {}};
    result.rstd.resize(x.rows());
    result.mean.resize(TypedCase::Kind::centred ? x.rows() : 0);
    for (Index t = 0; t < x.rows(); ++t) {
      const Matrix token = x.row(t), gradient = dy.row(t);
      Matrix y, dx;
      Statistics stats;
      Gradients g;
      norm.normalize(token, y, stats);
      norm.backpropagate(token, stats, gradient, dx, g);
      EXPECT_TRUE(same_bits(norm(token), y)) << "inference and training differ";
      result.y.row(t) = y;
      result.dx.row(t) = dx;
      result.rstd(t) = stats.rstd(0);
      if (TypedCase::Kind::centred) result.mean(t) = stats.mean(0);
    }
    return result;
  }

  /// The same tokens as one batch, and parts of it, through views that start anywhere.
  template <class Matrix>
  void check_batches(Index channels) {
    const auto norm = random_norm<TypedCase>(channels);
    const Index count = 35;
    const Matrix x = mixed_tokens(count, channels);
    const Matrix dy = random_normal<Matrix>({count, channels}, Seed{602});
    const Alone<Matrix> expected = alone(norm, x, dy);
    Index start = 0;
    for (const Index size : edge_token_counts()) {
      SCOPED_TRACE(::testing::Message() << size << " tokens from " << start);
      const Matrix part = x.middleRows(start, size), gradient = dy.middleRows(start, size);
      Matrix y, dx;
      Statistics stats;
      Gradients g;
      norm.normalize(part, y, stats);
      norm.backpropagate(part, stats, gradient, dx, g);
      EXPECT_TRUE(same_bits(y, expected.y.middleRows(start, size)));
      EXPECT_TRUE(same_bits(stats.rstd, expected.rstd.segment(start, size)));
      if (TypedCase::Kind::centred) {
        EXPECT_TRUE(same_bits(stats.mean, expected.mean.segment(start, size)));
      }
      EXPECT_TRUE(same_bits(dx, expected.dx.middleRows(start, size)));
      EXPECT_TRUE(same_bits(norm(part), y));
      // The rows of the large matrix itself: other strides, other addresses.
      EXPECT_TRUE(same_bits(norm(x.middleRows(start, size)), y));
      start = (start + 5) % 3;
    }
  }

  template <class Matrix>
  void check_misalignments(Index channels) {
    const auto norm = random_norm<TypedCase>(channels);
    const Index count = 6;
    const Matrix x = mixed_tokens(count, channels);
    const Matrix dy = random_normal<Matrix>({count, channels}, Seed{603});
    Matrix expected, expected_dx;
    Statistics stats;
    Gradients expected_g;
    norm.normalize(x, expected, stats);
    norm.backpropagate(x, stats, dy, expected_dx, expected_g);
    const Index inner = Matrix::IsRowMajor ? channels : count;
    const Index outer = Matrix::IsRowMajor ? count : channels;
    using Map = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;
    std::vector<Scalar> a(static_cast<std::size_t>(outer * (inner + 5) + 32));
    auto b = a, c = a;
    for (Index offset = 1; offset <= 17; ++offset) {
      SCOPED_TRACE(::testing::Message() << "offset " << offset);
      const Eigen::OuterStride<> stride(inner + offset % 5);
      Map from(a.data() + offset, count, channels, stride);
      Map to(b.data() + (offset * 5) % 13, count, channels, stride);
      Map gradient(c.data() + (offset * 3) % 11, count, channels, stride);
      from = x;
      gradient = dy;
      norm(from, to);
      EXPECT_TRUE(same_bits(to, expected));
      Gradients g;
      norm.backpropagate(from, stats, gradient, to, g);
      EXPECT_TRUE(same_bits(to, expected_dx));
      EXPECT_TRUE(same_bits(g.scale, expected_g.scale));
      EXPECT_TRUE(same_bits(g.shift, expected_g.shift));
    }
  }
};

TYPED_TEST_SUITE(BitIdentity, FusedCases, CaseName);

// γ = −0 and β = −0, as a mask of zeros leaves them, tell x̂·γ + β from x̂·(0 + γ) + β.
TYPED_TEST(BitIdentity, NegativeZeros) {
  using Matrix = typename TypeParam::RowMajor;
  const auto negative_zero = static_cast<typename TypeParam::Scalar>(-0.0f);
  const Index channels = 530;
  auto norm = random_norm<TypeParam>(channels);
  norm.scale().setConstant(negative_zero);
  norm.shift().setConstant(negative_zero);
  const Matrix x = random_normal<Matrix>({7, channels}, Seed{603}, 1);
  const Matrix y = norm(x);
  for (Index t = 0; t < x.rows(); ++t) {
    const Matrix token = x.row(t);
    EXPECT_TRUE(same_bits(Matrix(y.row(t)), norm(token))) << "token " << t;
  }
}

// A shift that is switched off is a zero, which is added wherever the channel stands.
TEST(NormWithoutShift, GivesNoNegativeZero) {
  for (const Index channels : {1, 7, 64, 530}) {
    RMSNorm<float> norm(channels);
    norm.scale().setConstant(-0.0f);
    const auto x = random_normal<TokenMatrix<float>>({7, channels}, Seed{604}, 1);
    const TokenMatrix<float> zero = TokenMatrix<float>::Zero(7, channels);
    EXPECT_TRUE(same_bits(norm(x), zero)) << channels;
  }
}

TYPED_TEST(BitIdentity, TokenAloneEqualsTokenInAnyBatch) {
  for (const Index channels :
       {1, 3, 7, 8, 16, 17, 33, 64, 100, 129, 333, 448, 449, 768, 1024, 1639}) {
    SCOPED_TRACE(channels);
    this->template check_batches<typename TypeParam::RowMajor>(channels);
    this->template check_batches<typename TypeParam::ColMajor>(channels);
  }
}

/// Long rows, whose order is another one where the machine has the other policy.
TYPED_TEST(BitIdentity, TokenAloneEqualsTokenInAnyBatchUnderEitherMemoryPolicy) {
  for (const bool manages : {false, true}) {
    const ManagedMemory policy(manages);
    SCOPED_TRACE(manages);
    for (const Index channels : {449, 768, 1024, 1639})
      this->template check_batches<typename TypeParam::RowMajor>(channels);
  }
}

// The sums of a row are added up in one order whether it is alone or one of four, also where their
// terms cancel: copies of a token have the same gradient.
TYPED_TEST(BitIdentity, CopiesOfATokenHaveTheSameGradientWhereItsSumsCancel) {
  using Matrix = typename TypeParam::RowMajor;
  using S = typename TypeParam::Scalar;
  for (const Index channels : {16, 40, 768}) {
    SCOPED_TRACE(channels);
    Matrix x = random_normal<Matrix>({1, channels}, Seed{611}).replicate(5, 1);
    Matrix dy = random_normal<Matrix>({1, channels}, Seed{612}).replicate(5, 1);
    x.col(2) = x.col(0);
    x.col(1) = x.col(0) * S(0.5f);
    const float large = std::is_same_v<S, Eigen::half> ? 0x1p14f : 0x1p60f;
    dy.col(0).setConstant(S(large));
    dy.col(2).setConstant(S(-large));
    const typename TypeParam::Norm norm(channels);
    Matrix y, dx;
    typename TypeParam::Statistics stats;
    typename TypeParam::Gradients g;
    norm.normalize(x, y, stats);
    norm.backpropagate(x, stats, dy, dx, g);
    EXPECT_TRUE(same_bits(dx, dx.row(0).replicate(5, 1).eval()));
  }
}

TYPED_TEST(BitIdentity, MisalignmentChangesNothing) {
  for (const Index channels : {1, 5, 16, 31, 100, 768}) {
    SCOPED_TRACE(channels);
    this->template check_misalignments<typename TypeParam::RowMajor>(channels);
    this->template check_misalignments<typename TypeParam::ColMajor>(channels);
  }
}

TYPED_TEST(BitIdentity, InfinityOrNaNStaysInItsToken) {
  using Value = typename TypeParam::Scalar;
  const Value nan = std::numeric_limits<Value>::quiet_NaN();
  const Value infinity = std::numeric_limits<Value>::infinity();
  const auto check = [&](auto x, Index channels) {
    const auto norm = random_norm<TypeParam>(channels);
    const auto dy = random_normal<decltype(x)>({x.rows(), channels}, Seed{604});
    auto clean = x, clean_dx = x, y = x, dx = x;
    typename TypeParam::Statistics clean_stats;
    typename TypeParam::Gradients clean_g;
    norm.normalize(x, clean, clean_stats);
    norm.backpropagate(x, clean_stats, dy, clean_dx, clean_g);
    for (const Value bad : {nan, infinity, -infinity})
      for (const Index at : {Index{0}, channels / 2, channels - 1})
        for (const Index spoilt : {Index{0}, Index{2}, Index{6}, x.rows() - 1}) {
          auto dirty = x;
          dirty(spoilt, at) = bad;
          typename TypeParam::Statistics stats;
          typename TypeParam::Gradients g;
          norm.normalize(dirty, y, stats);
          norm.backpropagate(dirty, stats, dy, dx, g);
          EXPECT_TRUE(exact(y.row(spoilt)).hasNaN());
          if (std::isnan(to_exact(bad))) {
            EXPECT_TRUE(exact(y.row(spoilt)).array().isNaN().all());
          }
          EXPECT_TRUE(exact(dx.row(spoilt)).hasNaN());
          for (Index t = 0; t < x.rows(); ++t) {
            if (t == spoilt) continue;
            EXPECT_TRUE(same_bits(y.row(t), clean.row(t)));
            EXPECT_TRUE(same_bits(dx.row(t), clean_dx.row(t)));
          }
        }
  };
  for (const Index channels : {2, 5, 16, 33, 100}) {
    SCOPED_TRACE(channels);
    const typename TypeParam::RowMajor x = this->mixed_tokens(9, channels);
    check(x, channels);
    check(typename TypeParam::ColMajor(x), channels);
  }
}

// --- Executors -------------------------------------------------------------------------------

/// Any executor.
struct TestExecutor {
  using Work = std::function<void(Index begin, Index end)>;
  std::function<void(Index count, Index grain, const Work& work)> run;

  template <class F>
  void parallel_for(Index count, Index grain, F&& f) const {
    run(count, grain, [&f](Index begin, Index end) { f(begin, end); });
  }
};

/// Splits the work into pieces of a fixed size, last piece first.
TestExecutor pieces(Index size) {
  return {[size](Index count, Index, const TestExecutor::Work& work) {
    for (Index piece = (count + size - 1) / size; piece-- > 0;)
      work(piece * size, std::min(count, (piece + 1) * size));
  }};
}

/// One thread for each part.
TestExecutor threads(Index parts) {
  return {[parts](Index count, Index, const TestExecutor::Work& work) {
    std::vector<std::thread> running;
    for (Index i = 0; i < parts; ++i)
      running.emplace_back([&work, count, parts, i] {
        const Index begin = count * i / parts, end = count * (i + 1) / parts;
        if (begin < end) work(begin, end);
      });
    for (std::thread& thread : running) thread.join();
  }};
}

/// Everything, and then ranges with nothing in them.
TestExecutor empty_ranges() {
  return {[](Index count, Index, const TestExecutor::Work& work) {
    work(0, count);
    work(0, 0);
    work(count, count);
  }};
}

const std::vector<TestExecutor>& executors() {
  static const std::vector<TestExecutor> all = {pieces(1),  pieces(3),  pieces(7),     pieces(64),
                                                threads(2), threads(3), empty_ranges()};
  return all;
}

const std::vector<Shape> executor_shapes = {{1, 33},    {37, 5},    {150, 100},
                                            {1000, 17}, {130, 301}, {270, 512}};

TYPED_TEST(BitIdentity, ExecutorsChangeNothingNotEvenParameterGradients) {
  const auto check = [&](const auto& x, const auto& dy) {
    using Matrix = std::decay_t<decltype(x)>;
    const auto norm = random_norm<TypeParam>(x.cols());
    Matrix expected, expected_dx;
    typename TypeParam::Statistics expected_stats;
    typename TypeParam::Gradients expected_g;
    norm.normalize(x, expected, expected_stats);
    norm.backpropagate(x, expected_stats, dy, expected_dx, expected_g);
    for (const TestExecutor& executor : executors()) {
      Matrix y, dx;
      typename TypeParam::Statistics stats;
      typename TypeParam::Gradients g;
      norm(x, y, executor);
      EXPECT_TRUE(same_bits(y, expected));
      norm.normalize(x, y, stats, executor);
      EXPECT_TRUE(same_bits(y, expected));
      EXPECT_TRUE(same_bits(stats.rstd, expected_stats.rstd));
      norm.backpropagate(x, stats, dy, dx, g, executor);
      EXPECT_TRUE(same_bits(dx, expected_dx));
      EXPECT_TRUE(same_bits(g.scale, expected_g.scale));
      EXPECT_TRUE(same_bits(g.shift, expected_g.shift));
    }
  };
  for (const Shape& shape : executor_shapes) {
    SCOPED_TRACE(shape);
    const auto x = random_normal<typename TypeParam::RowMajor>(shape, Seed{605}, 1);
    const auto dy = random_normal<typename TypeParam::RowMajor>(shape, Seed{606});
    check(x, dy);
    check(typename TypeParam::ColMajor(x), typename TypeParam::ColMajor(dy));
  }
}

TYPED_TEST(BitIdentity, ExecutorsChangeNothingInFusedSums) {
  const auto check = [&](const auto& x, const auto& dy) {
    using Matrix = std::decay_t<decltype(x)>;
    const auto norm = random_norm<TypeParam>(x.cols());
    Matrix expected_sum, expected, expected_dx;
    typename TypeParam::Statistics stats;
    typename TypeParam::Gradients expected_g;
    norm.normalize_sum(x, dy, expected_sum, expected, stats);
    norm.backpropagate_sum(expected_sum, stats, dy, x, expected_dx, expected_g);
    for (const TestExecutor& executor : executors()) {
      Matrix sum, y, dx;
      typename TypeParam::Gradients g;
      norm.normalize_sum(x, dy, sum, y, stats, executor);
      EXPECT_TRUE(same_bits(sum, expected_sum));
      EXPECT_TRUE(same_bits(y, expected));
      norm.normalize_sum(x, dy, y, executor);
      EXPECT_TRUE(same_bits(y, expected));
      norm.backpropagate_sum(sum, stats, dy, x, dx, g, executor);
      EXPECT_TRUE(same_bits(dx, expected_dx));
      EXPECT_TRUE(same_bits(g.scale, expected_g.scale));
      EXPECT_TRUE(same_bits(g.shift, expected_g.shift));
    }
  };
  for (const Shape& shape : executor_shapes) {
    SCOPED_TRACE(shape);
    const auto x = random_normal<typename TypeParam::RowMajor>(shape, Seed{607}, 1);
    const auto dy = random_normal<typename TypeParam::RowMajor>(shape, Seed{608});
    check(x, dy);
    check(typename TypeParam::ColMajor(x), typename TypeParam::ColMajor(dy));
  }
}

}  // namespace
}  // namespace tokennorm::test
