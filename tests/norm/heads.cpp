// SPDX-License-Identifier: MIT
// Heads have the bits of the same heads one behind the other, wherever they stand.
#include "../support/allocation_counter.hpp"
#include "../support/exact_bits.hpp"
#include "../support/hard_rows.hpp"
#include "../support/message_of.hpp"
#include "../support/random_tokens.hpp"
#include "../support/worst_case.hpp"
#include "norm_kinds.hpp"
#include <tokennorm/norm/any_norm.hpp>
#include <tokennorm/norm/heads.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

namespace tokennorm::test {
namespace {

struct HeadShape {
  Index tokens, count, channels;
  Index width() const { return count * channels; }
  friend std::ostream& operator<<(std::ostream& out, const HeadShape& s) {
    return out << s.tokens << " x " << s.count << " heads of " << s.channels;
  }
};

const std::vector<HeadShape> head_shapes = {{1, 1, 16}, {1, 4, 33}, {5, 3, 17}, {7, 2, 128},
                                            {16, 5, 8}, {4, 1, 65}, {70, 3, 9}};

/// Runs pieces of a few, the last one first, or each on a thread.
struct TestExecutor {
  Index size;
  bool on_threads = false;

  template <class F>
  void parallel_for(Index count, Index, F&& f) const {
    std::vector<std::thread> threads;
    for (Index piece = (count + size - 1) / size; piece-- > 0;) {
      const Index begin = piece * size, end = std::min(count, begin + size);
      if (on_threads) {
        threads.emplace_back([&f, begin, end] { f(begin, end); });
      } else {
        f(begin, end);
      }
    }
    for (std::thread& thread : threads) thread.join();
  }
};

/// The heads of x one behind the other, and back.
template <class Tokens, class X>
[[gnu::noinline]] Tokens apart(const X& x, Index channels) {
  const Index count = x.cols() / channels;
  Tokens tokens(x.rows() * count, channels);
  for (Index t = 0; t < x.rows(); ++t)
    for (Index c = 0; c < x.cols(); ++c) tokens(t * count + c / channels, c % channels) = x(t, c);
  return tokens;
}
template <class Tokens>
[[gnu::noinline]] Tokens together(const Tokens& tokens, const HeadShape& shape) {
  Tokens x(shape.tokens, shape.width());
  for (Index t = 0; t < shape.tokens; ++t)
    for (Index c = 0; c < shape.width(); ++c)
      x(t, c) = tokens(t * shape.count + c / shape.channels, c % shape.channels);
  return x;
}

template <class TypedCase>
class Heads : public ::testing::Test {
 protected:
  using Scalar = typename TypedCase::Scalar;
  using Statistics = typename TypedCase::Statistics;
  using Gradients = typename TypedCase::Gradients;

  /// What ordinary calls give, of ordinary heads and hard ones.
  template <class Matrix>
  struct Example {
    typename TypedCase::Norm norm;
    Matrix x, dy, y, dx;  // (T, H·C)
    Statistics stats;     // (T·H)
    Gradients gradients;

    explicit Example(const HeadShape& shape) : norm(random_norm<TypedCase>(shape.channels)) {
      const Shape of_heads{shape.tokens * shape.count, shape.channels};
      const auto hard = hard_rows<Scalar>(shape.channels);
      Matrix tokens = random_normal<Matrix>(of_heads, Seed{1101}, 1);
      for (Index t = 1; t < tokens.rows(); t += 3)
        tokens.row(t) = hard[static_cast<std::size_t>(t * 7) % hard.size()].x;
      const Matrix gradient = random_normal<Matrix>(of_heads, Seed{1102});
      Matrix result, back;
      norm.normalize(tokens, result, stats);
      norm.backpropagate(tokens, stats, gradient, back, gradients);
      x = together(tokens, shape);
      dy = together(gradient, shape);
      y = together(result, shape);
      dx = together(back, shape);
    }
  };

  /// All calls on views of memory that is as large as x is, `make(values)` being such a view that
  /// owns what it looks at, `view(it)` the operand.
  template <class Matrix, class Make, class View>
  static void check(const HeadShape& shape, const Make& make, const View& view) {
    SCOPED_TRACE(shape);
    const Example<Matrix> example(shape);
    const auto& norm = example.norm;
    const Index c = shape.channels;
    const auto of = [&](auto& memory) { return heads(view(memory), c); };
    auto x = make(example.x), dy = make(example.dy);
    const auto zeros = [&] { return make(Matrix(example.x * Scalar(0))); };
    const auto run = [&](const auto&... executor) {
      auto y = zeros(), with_stats = zeros(), dx = zeros(), in_place = x, dx_in_dy = dy;
      Statistics stats;
      Gradients g, g_in_dy;
      norm(of(x), of(y), executor...);
      norm(of(in_place), of(in_place), executor...);
      norm.normalize(of(x), of(with_stats), stats, executor...);
      norm.backpropagate(of(x), stats, of(dy), of(dx), g, executor...);
      norm.backpropagate(of(x), stats, of(dx_in_dy), of(dx_in_dy), g_in_dy, executor...);
      EXPECT_TRUE(same_bits(view(y), example.y));
      EXPECT_TRUE(same_bits(view(in_place), example.y));
      EXPECT_TRUE(same_bits(view(with_stats), example.y));
      EXPECT_TRUE(same_bits(stats.rstd, example.stats.rstd));
      EXPECT_TRUE(same_bits(stats.mean, example.stats.mean));
      EXPECT_TRUE(same_bits(view(dx), example.dx));
      EXPECT_TRUE(same_bits(view(dx_in_dy), example.dx));
      for (const Gradients* gradients : {&g, &g_in_dy}) {
        EXPECT_TRUE(same_bits(gradients->scale, example.gradients.scale));
        EXPECT_TRUE(same_bits(gradients->shift, example.gradients.shift));
      }
      // What is between the heads stays what it was.
      auto y_of_zeros = zeros(), untouched = zeros();
      view(y) = view(y_of_zeros);
      EXPECT_TRUE(same_bits(y, untouched));
    };
    run();
    run(TestExecutor{1});
    run(TestExecutor{3});
    run(TestExecutor{(shape.tokens + 2) / 3, true});
  }

  /// A matrix itself, and a block of columns of a wider one.
  template <class Matrix>
  static void check_matrix(const HeadShape& shape) {
    check<Matrix>(
        shape, [](const Matrix& values) { return values; },
        [](Matrix& memory) -> Matrix& { return memory; });
    check<Matrix>(
        shape,
        [](const Matrix& values) {
          Matrix memory = Matrix::Constant(values.rows() + 2, 2 * values.cols() + 5, Scalar(3));
          memory.block(1, 2, values.rows(), values.cols()) = values;
          return memory;
        },
        [&](Matrix& memory) { return memory.block(1, 2, shape.tokens, shape.width()); });
  }
};

TYPED_TEST_SUITE(Heads, AllCases, CaseName);

TYPED_TEST(Heads, HaveTheBitsOfACopyInRows) {
  for (const HeadShape& shape : head_shapes)
    this->template check_matrix<typename TypeParam::RowMajor>(shape);
}

TYPED_TEST(Heads, HaveTheBitsOfACopyInColumns) {
  for (const HeadShape& shape : head_shapes)
    this->template check_matrix<typename TypeParam::ColMajor>(shape);
}

/// Row-major with an inner stride that is known at run time: of 1 the kernel is that of rows, of
/// more that of columns.
TYPED_TEST(Heads, HaveTheBitsOfACopyAtAnyStrides) {
  using RowMajor = typename TypeParam::RowMajor;
  using ColMajor = typename TypeParam::ColMajor;
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  using Map = Eigen::Map<RowMajor, 0, Strides>;
  for (const HeadShape& shape : head_shapes) {
    for (const Index inner : {1, 2}) {
      SCOPED_TRACE(inner);
      for (const Index gap : {0, 3}) {
        const Index outer = inner * shape.width() + gap;
        const auto view = [&](RowMajor& memory) {
          return Map(memory.data(), shape.tokens, shape.width(), Strides(outer, inner));
        };
        const auto make = [&](const auto& values) {
          RowMajor memory = RowMajor::Constant(shape.tokens, outer, typename TypeParam::Scalar(3));
          view(memory) = values;
          return memory;
        };
        if (inner == 1) {
          this->template check<RowMajor>(shape, make, view);
        } else {
          this->template check<ColMajor>(shape, make, view);
        }
      }
    }
  }
}

TYPED_TEST(Heads, MatchTheOracle) {
  using Matrix = typename TypeParam::RowMajor;
  const HeadShape shape{6, 4, 32};
  const auto norm = random_norm<TypeParam>(shape.channels);
  Matrix qkv = random_normal<Matrix>({shape.tokens, 3 * shape.width()}, Seed{1103}, 1, 2);
  const Matrix q = qkv.leftCols(shape.width());
  const ForwardOracle expected = forward_oracle_of(norm, exact(apart<Matrix>(q, shape.channels)));
  norm(heads(qkv.leftCols(shape.width()), shape.channels),
       heads(qkv.leftCols(shape.width()), shape.channels));
  const Matrix y = apart<Matrix>(qkv.leftCols(shape.width()), shape.channels);
  for (Index t = 0; t < y.rows(); ++t)
    for (Index c = 0; c < y.cols(); ++c) {
      const long double bound = unit<typename TypeParam::Scalar>() *
                                (std::fabs(to_exact(norm.scale()(c))) * 6 * expected.largest(t) +
                                 2 * std::fabs(expected.y(t, c)));
      EXPECT_TRUE(rounds_from(y(t, c), expected.y(t, c), bound)) << t << ", " << c;
    }
}

TYPED_TEST(Heads, AllocateNothingInAForward) {
  if (!allocations_are_counted) GTEST_SKIP() << "allocations cannot be counted on this platform";
  const auto check = [](auto memory) {
    const auto norm = random_norm<TypeParam>(16);
    const auto q = memory.leftCols(64);
    auto y = memory.rightCols(64);
    typename TypeParam::Statistics stats;
    norm.normalize(heads(q, 16), heads(y, 16), stats);
    const AllocationCounter counter;
    norm(heads(q, 16), heads(y, 16));
    norm(heads(memory, 16), heads(memory, 16));
    norm(heads(memory.leftCols(64), 16), heads(memory.leftCols(64), 16));
    norm.normalize(heads(q, 16), heads(y, 16), stats);
    EXPECT_EQ(counter.count(), 0u);
  };
  check(random_normal<typename TypeParam::RowMajor>({20, 192}, Seed{1104}));
  check(random_normal<typename TypeParam::ColMajor>({20, 192}, Seed{1104}));
}

// ---- operands -----------------------------------------------------------------------------------

using Rows = TokenMatrix<float>;

TEST(HeadOperands, AVectorIsOneRow) {
  const RMSNorm<float> norm(4);
  const Eigen::VectorXf x = random_vector<float>(12, Seed{1105});
  const Rows expected = norm(Rows(Eigen::Map<const Rows>(x.data(), 3, 4)));
  const auto values = expected.reshaped<Eigen::RowMajor>();
  Eigen::VectorXf column(12);
  norm(heads(x, 4), heads(column, 4));
  EXPECT_TRUE(same_bits(column, values));
  Eigen::RowVectorXf row = x.transpose();
  norm(heads(row, 4), heads(row, 4));
  EXPECT_TRUE(same_bits(row.transpose(), values));
  Eigen::ArrayXf array(12);
  TokenStatistics<float> stats;
  norm.normalize(heads(x, 4), heads(array, 4), stats);
  EXPECT_TRUE(same_bits(array, values));
  EXPECT_EQ(stats.rstd.size(), 3);
  std::vector<float> memory(12);
  norm(heads(x, 4), heads(tokens(memory, 12), 4));
  EXPECT_TRUE(same_bits(tokens(memory, 12).transpose(), values));
}

TEST(HeadOperands, ATokenOfAColumnMajorMatrix) {
  const LayerNorm<float> norm(4);
  Eigen::MatrixXf x = random_normal<Eigen::MatrixXf>({5, 12}, Seed{1106});
  const Eigen::MatrixXf expected = norm(apart<Eigen::MatrixXf>(x.row(2), 4));
  norm(heads(x.row(2), 4), heads(x.row(2), 4));
  EXPECT_TRUE(same_bits(apart<Eigen::MatrixXf>(x.row(2), 4), expected));
}

TEST(HeadOperands, ConstAndWritableRefs) {
  const RMSNorm<float> norm(8);
  const Rows memory = random_normal<Rows>({3, 32}, Seed{1107});
  const Eigen::Ref<const Rows> x = memory;
  Rows result(3, 32);
  Eigen::Ref<Rows> y = result;
  norm(heads(x, 8), heads(y, 8));
  EXPECT_TRUE(same_bits(apart<Rows>(result, 8), norm(apart<Rows>(memory, 8))));
}

TEST(HeadOperands, OfSeveralScalarsAndStorageOrders) {
  const LayerNorm<float, 8> norm;
  const auto x = random_normal<TokenMatrix<Eigen::bfloat16>>({6, 72}, Seed{1108});
  const auto q = x.leftCols(24);
  const auto contiguous = apart<TokenMatrix<Eigen::bfloat16>>(q, 8);
  const auto dy = random_normal<TokenMatrix<double>>({6, 24}, Seed{1109});
  Rows y(6, 24), expected(18, 8);
  norm(heads(q, 8), heads(y, 8));
  norm(contiguous, expected);
  EXPECT_TRUE(same_bits(apart<Rows>(y, 8), expected));

  Eigen::MatrixXd columns(6, 24), expected_columns(18, 8), dx(6, 24), expected_dx(18, 8);
  TokenStatistics<double> stats, expected_stats;
  NormGradients<float> g, expected_g;
  norm.normalize(heads(q, 8), heads(columns, 8), stats);
  norm.normalize(contiguous, expected_columns, expected_stats);
  EXPECT_TRUE(same_bits(apart<Eigen::MatrixXd>(columns, 8), expected_columns));
  EXPECT_TRUE(same_bits(stats.rstd, expected_stats.rstd));
  EXPECT_TRUE(same_bits(stats.mean, expected_stats.mean));
  norm.backpropagate(heads(q, 8), stats, heads(dy, 8), heads(dx, 8), g);
  norm.backpropagate(contiguous, stats, apart<TokenMatrix<double>>(dy, 8), expected_dx, expected_g);
  EXPECT_TRUE(same_bits(apart<Eigen::MatrixXd>(dx, 8), expected_dx));
  EXPECT_TRUE(same_bits(g.scale, expected_g.scale));
  EXPECT_TRUE(same_bits(g.shift, expected_g.shift));
}

TEST(HeadOperands, OfAnyOtherScalar) {
  using Matrix = TokenMatrix<long double>;
  LayerNorm<long double> norm(5);
  const Matrix x = random_normal<Matrix>({4, 30}, Seed{1110}), dy = x.rightCols(15);
  const Matrix contiguous = apart<Matrix>(x.leftCols(15), 5);
  Matrix y(4, 15), dx(4, 15), expected, expected_dx;
  TokenStatistics<long double> stats, expected_stats;
  NormGradients<long double> g, expected_g;
  norm.normalize(heads(x.leftCols(15), 5), heads(y, 5), stats);
  norm.backpropagate(heads(x.leftCols(15), 5), stats, heads(dy, 5), heads(dx, 5), g);
  norm.normalize(contiguous, expected, expected_stats);
  norm.backpropagate(contiguous, expected_stats, apart<Matrix>(dy, 5), expected_dx, expected_g);
  EXPECT_EQ(apart<Matrix>(y, 5), expected);
  EXPECT_EQ(stats.mean, expected_stats.mean);
  EXPECT_EQ(apart<Matrix>(dx, 5), expected_dx);
  EXPECT_EQ(g.scale, expected_g.scale);
}

TEST(HeadOperands, NoTokens) {
  const LayerNorm<float> norm(4);
  Rows x(0, 12), memory(0, 24);
  TokenStatistics<float> stats;
  NormGradients<float> g;
  norm(heads(x, 4), heads(memory.leftCols(12), 4));
  norm.normalize(heads(x, 4), heads(x, 4), stats);
  EXPECT_EQ(stats.rstd.size(), 0);
  norm.backpropagate(heads(x, 4), stats, heads(x, 4), heads(x, 4), g);
  EXPECT_EQ(g.scale, Eigen::VectorXf::Zero(4));
}

TEST(HeadOperands, OfANormWhoseKindIsChosenAtRunTime) {
  const AnyNorm<float> any(NormKind::rms_norm, 8);
  const RMSNorm<float> norm(8);
  Rows x = random_normal<Rows>({5, 48}, Seed{1111}), y(5, 24), expected(5, 24);
  TokenStatistics<float> stats;
  NormGradients<float> g, expected_g;
  any.normalize(heads(x.leftCols(24), 8), heads(y, 8), stats);
  norm.normalize(heads(x.leftCols(24), 8), heads(expected, 8), stats);
  EXPECT_TRUE(same_bits(y, expected));
  any.backpropagate(heads(x.leftCols(24), 8), stats, heads(y, 8), heads(y, 8), g);
  norm.backpropagate(heads(x.leftCols(24), 8), stats, heads(expected, 8), heads(expected, 8),
                     expected_g, serial);
  EXPECT_TRUE(same_bits(y, expected));
  EXPECT_TRUE(same_bits(g.scale, expected_g.scale));
  any(heads(x, 8), heads(x, 8), serial);
}

// ---- errors -------------------------------------------------------------------------------------

TEST(HeadErrors, SayWhatWasGivenBeforeAnythingIsWritten) {
  const RMSNorm<float> norm(128);
  Rows x = Rows::Ones(4, 3072), memory = Rows::Constant(4, 6144, 5);
  const Rows before = memory;
  const auto refused = [&](const std::string& message, const auto& call) {
    EXPECT_EQ(message_of(call), "tokennorm: RMSNorm(128): " + message);
    EXPECT_EQ(memory, before);
  };
  auto y = memory.leftCols(3072);
  refused("x is 4 x 3072 (tokens x channels) in heads of 64; expected heads of 128 channels",
          [&] { norm(heads(x, 64), heads(y, 64)); });
  refused("x is 4 x 3000 (tokens x channels) in heads of 128; expected a multiple of 128 channels",
          [&] { norm(heads(x.leftCols(3000), 128), heads(y, 128)); });
  refused("x is 4 x 0 (tokens x channels) in heads of 128; expected a multiple of 128 channels",
          [&] { norm(heads(x.leftCols(0), 128), heads(y.leftCols(0), 128)); });
  refused("x is 4 x 3072 (tokens x channels) in heads of 0; expected heads of 128 channels",
          [&] { norm(heads(x, 0), heads(y, 0)); });
  refused("y is 4 x 3072 (tokens x channels) in heads of 64; expected heads of 128 channels",
          [&] { norm(heads(x, 128), heads(y, 64)); });
  refused("y is 4 x 2944 (tokens x channels); expected 4 x 3072",
          [&] { norm(heads(x, 128), heads(y.leftCols(2944), 128)); });
  refused("y is 3 x 3072 (tokens x channels); expected 4 x 3072",
          [&] { norm(heads(x, 128), heads(y.topRows(3), 128)); });

  TokenStatistics<float> stats, of_tokens;
  NormGradients<float> g;
  norm.normalize(heads(x, 128), heads(Rows(x).leftCols(3072), 128), stats);
  of_tokens.rstd = stats.rstd.head(4);
  refused("stats.rstd has 4 values; expected 96, one for each token",
          [&] { norm.backpropagate(heads(x, 128), of_tokens, heads(x, 128), heads(y, 128), g); });
  refused("dy is 3 x 3072 (tokens x channels); expected 4 x 3072", [&] {
    norm.backpropagate(heads(x, 128), stats, heads(x.topRows(3), 128), heads(y, 128), g);
  });
  refused("dx is 4 x 2944 (tokens x channels); expected 4 x 3072", [&] {
    norm.backpropagate(heads(x, 128), stats, heads(x, 128), heads(y.leftCols(2944), 128), g);
  });
  g.scale.setZero(7);
  refused("the gradient of scale has 7 values; expected 128, or none yet",
          [&] { norm.backpropagate(heads(x, 128), stats, heads(x, 128), heads(y, 128), g); });
}

TEST(HeadErrors, AResultIsNotResized) {
  const LayerNorm<float> norm(4);
  const Rows x = Rows::Ones(2, 12);
  Rows y;
  EXPECT_EQ(message_of([&] { norm(heads(x, 4), heads(y, 4)); }),
            "tokennorm: LayerNorm(4): y is 0 x 0 (tokens x channels) in heads of 4; expected a "
            "multiple of 4 channels");
}

TEST(HeadErrors, OverlappingOperands) {
  LayerNorm<float> norm(4);
  TokenStatistics<float> stats;
  NormGradients<float> g;
  Rows memory = random_normal<Rows>({3, 30}, Seed{1112});
  const Rows before = memory;
  auto q = memory.leftCols(12), shifted = memory.middleCols(4, 12), k = memory.rightCols(12);
  const auto refused = [&](const std::string& message, const auto& call) {
    const std::string actual = message_of(call);
    EXPECT_NE(actual.find("LayerNorm(4): " + message), std::string::npos) << actual;
    EXPECT_EQ(memory, before);
  };
  refused("y shares memory with x", [&] { norm(heads(q, 4), heads(shifted, 4)); });
  refused("y shares memory with x",
          [&] { norm.normalize(heads(q.topRows(2), 4), heads(q.bottomRows(2), 4), stats); });
  stats.rstd.setOnes(9);
  stats.mean.setZero(9);
  refused("dx shares memory with x",
          [&] { norm.backpropagate(heads(q, 4), stats, heads(k, 4), heads(shifted, 4), g); });
  refused("dx shares memory with dy",
          [&] { norm.backpropagate(heads(k, 4), stats, heads(q, 4), heads(shifted, 4), g); });
  const Eigen::Map<Rows, 0, Eigen::OuterStride<>> over_itself(memory.data(), 3, 12,
                                                              Eigen::OuterStride<>(8));
  auto writable = over_itself;
  refused("y has elements that share memory with one another",
          [&] { norm(heads(k, 4), heads(writable, 4)); });
  Eigen::Map<Rows, 0, Eigen::OuterStride<>> in_scale(norm.scale().data(), 1, 4,
                                                     Eigen::OuterStride<>(4));
  refused("y shares memory with scale",
          [&] { norm(heads(k.topLeftCorner(1, 4), 4), heads(in_scale, 4)); });
  stats.rstd.setOnes(100);
  Eigen::Map<Rows, 0, Eigen::OuterStride<>> in_stats(stats.rstd.data(), 3, 12,
                                                     Eigen::OuterStride<>(16));
  refused("y shares memory with stats.rstd",
          [&] { norm.normalize(heads(k, 4), heads(in_stats, 4), stats); });
  norm(heads(q, 4), heads(k, 4));  // side by side
  EXPECT_NE(memory, before);
}

TEST(HeadErrors, ParametersOfAnotherSize) {
  RMSNorm<float> norm(4);
  norm.scale().setOnes(5);
  Rows x = Rows::Ones(2, 24);
  TokenStatistics<float> stats;
  stats.rstd.setOnes(6);
  NormGradients<float> g;
  const std::string expected = "tokennorm: RMSNorm(4): scale has 5 values; expected 4";
  auto q = x.leftCols(12);
  EXPECT_EQ(message_of([&] { norm(heads(q, 4), heads(q, 4)); }), expected);
  EXPECT_EQ(message_of([&] { norm(heads(x, 4), heads(x, 4)); }), expected);
  EXPECT_EQ(
      message_of([&] { norm.backpropagate(heads(q, 4), stats, heads(q, 4), heads(q, 4), g); }),
      expected);
}

}  // namespace
}  // namespace tokennorm::test
