// SPDX-License-Identifier: MIT
// Which operands may share memory: equal views where the contract says so, interleaved views that
// share no element anywhere. Every other overlap is refused before anything is written.
#include "../support/exact_bits.hpp"
#include "../support/message_of.hpp"
#include "../support/random_tokens.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class Aliasing : public ::testing::Test {
 protected:
  using Scalar = typename TypedCase::Scalar;
  using RowMajor = typename TypedCase::RowMajor;
  using ColMajor = typename TypedCase::ColMajor;
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  using RowMap = Eigen::Map<RowMajor, 0, Strides>;
  using ColMap = Eigen::Map<ColMajor, 0, Strides>;
  using Buffer = typename TypedCase::Vector;

  static constexpr Index token_count = 6;
  static constexpr Index channels = 18;
  const typename TypedCase::Norm norm_ = random_norm<TypedCase>(channels);
  Buffer buffer_ = random_vector<Scalar>(1000, Seed{501});

  RowMap rows(Index offset, Index row_stride = channels, Index inner = 1,
              Index count = token_count) {
    return RowMap(buffer_.data() + offset, count, channels, Strides(row_stride, inner));
  }
  ColMap columns(Index offset, Index column_stride = token_count, Index inner = 1) {
    return ColMap(buffer_.data() + offset, token_count, channels, Strides(column_stride, inner));
  }

  /// `call` must be refused, and the buffer keep its bits.
  template <class Call>
  void expect_refused(const char* what, const Call& call) {
    SCOPED_TRACE(what);
    const Buffer before = buffer_;
    EXPECT_THROW(call(), std::invalid_argument);
    EXPECT_TRUE(same_bits(buffer_, before)) << "written before it was refused";
  }

  /// x and y share no element: y becomes the norm of x, and x keeps its bits.
  template <class X, class Y>
  void expect_separate(const char* what, const X& x, Y&& y) {
    SCOPED_TRACE(what);
    const auto kept = x.eval();
    const auto expected = norm_(kept);
    ASSERT_NO_THROW(norm_(x, y));
    expect_close(y, expected);
    EXPECT_TRUE(same_bits(x, kept));
  }

  /// Other strides may mean another kernel: equal but for the last bits.
  template <class Y, class Expected>
  void expect_close(const Y& y, const Expected& expected) {
    const ExactMatrix wanted = exact(expected);
    EXPECT_LE((exact(y) - wanted).cwiseAbs().maxCoeff(),
              std::ldexp(8.0L, -ScalarFacts<Scalar>::significant_bits) *
                  (1 + wanted.cwiseAbs().maxCoeff()));
  }
};

TYPED_TEST_SUITE(Aliasing, FusedCases, CaseName);

TYPED_TEST(Aliasing, OutputMayBeTheInput) {
  for (const Shape& shape : {Shape{1, 16}, Shape{5, 33}, Shape{9, 100}, Shape{4, 3}}) {
    SCOPED_TRACE(shape);
    const auto norm = random_norm<TypeParam>(shape.channels);
    const auto check = [&](auto x) {
      const auto expected = norm(x);
      typename TypeParam::Statistics stats;
      auto trained = x;
      norm(x, x);
      EXPECT_TRUE(same_bits(x, expected));
      norm.normalize(trained, trained, stats);
      EXPECT_TRUE(same_bits(trained, expected));
    };
    const auto x = random_normal<typename TypeParam::RowMajor>(shape, Seed{502});
    check(x);
    check(typename TypeParam::ColMajor(x));
    check(typename TypeParam::RowMajor(x).array().eval());
  }
}

TYPED_TEST(Aliasing, InPlaceWorksThroughEqualViewsOfAnyStride) {
  const auto check = [&](const char* what, auto view) {
    SCOPED_TRACE(what);
    const auto expected = this->norm_(view.eval());
    auto again = view;  // a Map copies its address
    this->norm_(view, again);
    this->expect_close(view, expected);
  };
  check("rows apart", this->rows(1, 23));
  check("every other value", this->rows(2, 40, 2));
  check("columns apart", this->columns(3, 11));
}

TYPED_TEST(Aliasing, GradientMayOverwriteTheIncomingOneOrTheInput) {
  for (const Shape& shape :
       {Shape{1, 16}, Shape{5, 33}, Shape{9, 100}, Shape{4, 3}, Shape{2, 1601}, Shape{5, 301}}) {
    SCOPED_TRACE(shape);
    const auto norm = random_norm<TypeParam>(shape.channels);
    const auto check = [&](const auto& x, const auto& dy) {
      using Matrix = std::decay_t<decltype(x)>;
      Matrix y, expected, over_dy = dy, over_x = x;
      typename TypeParam::Statistics stats;
      typename TypeParam::Gradients g, g_dy, g_x;
      norm.normalize(x, y, stats);
      norm.backpropagate(x, stats, dy, expected, g);
      norm.backpropagate(x, stats, over_dy, over_dy, g_dy);
      norm.backpropagate(over_x, stats, dy, over_x, g_x);
      EXPECT_TRUE(same_bits(over_dy, expected));
      EXPECT_TRUE(same_bits(over_x, expected));
      EXPECT_TRUE(same_bits(g_dy.scale, g.scale));
      EXPECT_TRUE(same_bits(g_x.scale, g.scale));
      EXPECT_TRUE(same_bits(g_x.shift, g.shift));

      Matrix all = x;  // x, dy and dx one and the same
      Matrix twin;
      typename TypeParam::Gradients g_all, g_twin;
      norm.backpropagate(x, stats, x, twin, g_twin);
      norm.backpropagate(all, stats, all, all, g_all);
      EXPECT_TRUE(same_bits(all, twin));
      EXPECT_TRUE(same_bits(g_all.scale, g_twin.scale));
    };
    const auto x = random_normal<typename TypeParam::RowMajor>(shape, Seed{503});
    const auto dy = random_normal<typename TypeParam::RowMajor>(shape, Seed{504});
    check(x, dy);
    check(typename TypeParam::ColMajor(x), typename TypeParam::ColMajor(dy));
  }
}

TYPED_TEST(Aliasing, InterleavedViewsThatShareNoElementAreFine) {
  // Two column blocks of one buffer, either way round.
  this->expect_separate("column blocks", this->rows(0, 36), this->rows(18, 36));
  this->expect_separate("column blocks, reversed", this->rows(18, 36), this->rows(0, 36));
  this->expect_separate("column blocks with a gap", this->rows(3, 50), this->rows(27, 50));
  this->expect_separate("even and odd rows", this->rows(0, 36), this->rows(18, 36));
  this->expect_separate("even and odd values", this->rows(0, 36, 2), this->rows(1, 36, 2));
  this->expect_separate("row blocks", this->rows(0), this->rows(6 * 18));
  this->expect_separate("row blocks, reversed", this->rows(6 * 18), this->rows(0));
  this->expect_separate("row blocks of columns", this->columns(0, 12), this->columns(6, 12));
  this->expect_separate("column blocks of columns", this->columns(0), this->columns(6 * 18));
  this->expect_separate("even and odd tokens of columns", this->columns(0, 12, 2),
                        this->columns(1, 12, 2));
  this->expect_separate("rows in, columns out", this->rows(0), this->columns(6 * 18));
  // Every second token of a row-major buffer, the tokens between holding columns.
  typename TypeParam::RowMajor matrix =
      random_normal<typename TypeParam::RowMajor>({6, 36}, Seed{505});
  this->expect_separate("blocks of a matrix", matrix.leftCols(18), matrix.rightCols(18));
}

TYPED_TEST(Aliasing, OverlapOfInputAndOutputIsRefused) {
  auto& norm = this->norm_;
  const auto refused = [&](const char* what, auto x, auto y) {
    this->expect_refused(what, [&] { norm(x, y); });
    typename TypeParam::Statistics stats;
    this->expect_refused(what, [&] { norm.normalize(x, y, stats); });
  };
  refused("shifted by one", this->rows(0), this->rows(1));
  refused("shifted back by one", this->rows(1), this->rows(0));
  refused("shifted by a row", this->rows(0), this->rows(18));
  refused("shifted by all but one row", this->rows(0), this->rows(5 * 18));
  refused("only the corner shared", this->rows(0), this->rows(6 * 18 - 1));
  refused("column blocks that overlap in one channel", this->rows(0, 40), this->rows(17, 40));
  refused("column blocks that overlap across the row's end", this->rows(0, 34), this->rows(17, 34));
  refused("same address, other row stride", this->rows(0), this->rows(0, 20));
  refused("same address, other inner stride", this->rows(0, 36, 2), this->rows(0, 36, 1));
  refused("every other value, shifted by two", this->rows(0, 36, 2), this->rows(2, 36, 2));
  refused("same memory in the other order", this->rows(0), this->columns(0));
  refused("columns shifted by one", this->columns(0), this->columns(1));
  refused("columns shifted by a column", this->columns(0), this->columns(6));
  refused("columns of other stride", this->columns(0), this->columns(0, 7));
  refused("row strides that meet only later", this->rows(0, 20), this->rows(18, 19));
}

TYPED_TEST(Aliasing, TransposeInPlaceIsRefused) {
  const auto norm = random_norm<TypeParam>(7);
  auto square = random_normal<typename TypeParam::RowMajor>({7, 7}, Seed{506});
  const auto before = square;
  EXPECT_THROW(norm(square, square.transpose()), std::invalid_argument);
  EXPECT_TRUE(same_bits(square, before));
}

TYPED_TEST(Aliasing, OverlapInBackpropagateIsRefused) {
  auto& norm = this->norm_;
  using Tokens = typename TypeParam::RowMajor;
  const Tokens apart = random_normal<Tokens>({6, 18}, Seed{507});
  Tokens y;
  typename TypeParam::Statistics stats;
  typename TypeParam::Gradients g;
  norm.normalize(apart, y, stats);
  const auto x = this->rows(0);
  auto shifted = this->rows(1);
  auto transposed = this->columns(0);
  this->expect_refused("dx over x", [&] { norm.backpropagate(x, stats, apart, shifted, g); });
  this->expect_refused("dx over dy", [&] { norm.backpropagate(apart, stats, x, shifted, g); });
  this->expect_refused("dx over dy in the other order",
                       [&] { norm.backpropagate(apart, stats, x, transposed, g); });
  this->expect_refused("dx over dsum",
                       [&] { norm.backpropagate_sum(apart, stats, apart, x, shifted, g); });
  this->expect_refused("dx over the sum",
                       [&] { norm.backpropagate_sum(x, stats, apart, apart, shifted, g); });
  // What is only read may overlap as it likes.
  Tokens dx;
  EXPECT_NO_THROW(norm.backpropagate(x, stats, shifted, dx, g));
}

TYPED_TEST(Aliasing, OverlapInNormalizeSumIsRefused) {
  auto& norm = this->norm_;
  using Tokens = typename TypeParam::RowMajor;
  const Tokens apart = random_normal<Tokens>({6, 18}, Seed{508});
  Tokens free;
  auto x = this->rows(0);
  auto far = this->rows(500);
  auto shifted = this->rows(1);
  this->expect_refused("sum and y the same", [&] { norm.normalize_sum(apart, apart, x, x); });
  this->expect_refused("sum and y overlap", [&] { norm.normalize_sum(apart, apart, x, shifted); });
  this->expect_refused("residual, sum and y the same", [&] { norm.normalize_sum(x, apart, x, x); });
  this->expect_refused("sum over residual", [&] { norm.normalize_sum(x, far, shifted, free); });
  this->expect_refused("sum over update", [&] { norm.normalize_sum(far, x, shifted, free); });
  this->expect_refused("y over residual", [&] { norm.normalize_sum(x, far, free, shifted); });
  this->expect_refused("y over update", [&] { norm.normalize_sum(far, x, free, shifted); });
  this->expect_refused("without sum, y over residual",
                       [&] { norm.normalize_sum(x, far, shifted); });
  this->expect_refused("without sum, y over update", [&] { norm.normalize_sum(far, x, shifted); });
}

TYPED_TEST(Aliasing, OutputThatOverlapsItselfIsRefused) {
  auto& norm = this->norm_;
  using Tokens = typename TypeParam::RowMajor;
  const Tokens apart = random_normal<Tokens>({6, 18}, Seed{509});
  Tokens free, y;
  typename TypeParam::Statistics stats;
  typename TypeParam::Gradients g;
  norm.normalize(apart, y, stats);
  const auto refused = [&](const char* what, auto view) {
    this->expect_refused(what, [&] { norm(apart, view); });
    this->expect_refused(what, [&] { norm(view, view); });
    this->expect_refused(what, [&] { norm.normalize(apart, view, stats); });
    this->expect_refused(what, [&] { norm.normalize_sum(apart, apart, view, free); });
    this->expect_refused(what, [&] { norm.normalize_sum(apart, apart, free, view); });
    this->expect_refused(what, [&] { norm.normalize_sum(apart, apart, view); });
    this->expect_refused(what, [&] { norm.backpropagate(apart, stats, apart, view, g); });
    this->expect_refused(what, [&] { norm.backpropagate(apart, stats, view, view, g); });
    this->expect_refused(what,
                         [&] { norm.backpropagate_sum(apart, stats, apart, apart, view, g); });
  };
  refused("all rows in one place", this->rows(0, 0));
  refused("rows that begin within the one before", this->rows(0, 17));
  refused("the same backwards", this->rows(200, -17));
  refused("all channels in one place", this->rows(0, 1, 0));
  refused("every other value, meeting those of the next row", this->rows(0, 16, 2));
  refused("columns that begin within the one before", this->columns(0, 5));

  // Between one another's elements there is room, and what is only read may overlap.
  auto threaded = this->rows(0, 19, 6, 6);
  EXPECT_NO_THROW(norm(apart, threaded));
  const auto windows = this->rows(300, 3);
  const Tokens copied = windows;
  EXPECT_TRUE(same_bits(Tokens(norm(windows)), Tokens(norm(copied))));
}

TEST(AliasingMessage, NamesBothStrides) {
  Eigen::VectorXf memory = Eigen::VectorXf::Zero(100);
  const TokenMatrix<float> x = TokenMatrix<float>::Ones(3, 8);
  Eigen::Map<TokenMatrix<float>, 0, Eigen::OuterStride<>> y(memory.data(), 3, 8,
                                                            Eigen::OuterStride<>(5));
  EXPECT_EQ(message_of([&] { LayerNorm<float>(8)(x, y); }),
            "tokennorm: LayerNorm(8): y has elements that share memory with one another: its "
            "strides are 5 (tokens) and 1 (channels); expected a place of its own for each");
}

/// Operands in the memory of the parameters, the statistics and the gradients of the call.
template <class Kind>
void expect_refused_in_the_memory_of_a_norm() {
  using Norm = typename Kind::template Norm<float>;
  using Tokens = TokenMatrix<float>;
  constexpr Index tokens = 4, channels = 4;  // as many, so that statistics have room for a token
  Norm norm(channels, affine_options<Kind>());
  const Tokens x = random_normal<Tokens>({1, channels}, Seed{510});
  const auto in = [&](auto& vector) { return Eigen::Map<Tokens>(vector.data(), 1, channels); };
  TokenStatistics<float> stats, of_many;
  NormGradients<float> g;
  Tokens y, sum, dx;
  norm.normalize(random_normal<Tokens>({tokens, channels}, Seed{511}), y, of_many);
  norm.normalize(x, y, stats);
  norm.backpropagate(x, stats, x, dx, g);
  y = sum = dx = Tokens();
  const auto refused = [&](const std::string& message, const auto& call) {
    const Tokens kept = in(of_many.rstd), scale = in(norm.scale()), gradient = in(g.scale);
    const std::string found = message_of(call);
    EXPECT_NE(found.find(message), std::string::npos) << found << "; expected " << message;
    EXPECT_EQ(in(of_many.rstd), kept);
    EXPECT_EQ(in(norm.scale()), scale);
    EXPECT_EQ(in(g.scale), gradient);
    EXPECT_EQ(y.size() + sum.size() + dx.size(), 0) << "resized before it was refused";
  };
  for (auto* const parameter : {&norm.scale(), &norm.shift()}) {
    const std::string name = parameter == &norm.scale() ? "scale" : "shift";
    refused("y shares memory with " + name, [&] { norm(x, in(*parameter)); });
    refused("y shares memory with " + name, [&] { norm.normalize(x, in(*parameter), stats); });
    refused("y shares memory with " + name, [&] { norm.normalize_sum(x, x, sum, in(*parameter)); });
    refused("sum shares memory with " + name, [&] { norm.normalize_sum(x, x, in(*parameter), y); });
    refused("dx shares memory with " + name,
            [&] { norm.backpropagate(x, stats, x, in(*parameter), g); });
    EXPECT_NO_THROW(norm(in(*parameter)));  // to read them is fine
  }
  const auto with_statistics = [&](const std::string& name, auto& vector) {
    refused("x shares memory with " + name, [&] { norm.normalize(in(vector), y, of_many); });
    refused("y shares memory with " + name, [&] { norm.normalize(x, in(vector), of_many); });
    refused("residual shares memory with " + name,
            [&] { norm.normalize_sum(in(vector), x, sum, y, of_many); });
    refused("update shares memory with " + name,
            [&] { norm.normalize_sum(x, in(vector), y, of_many); });
    refused("sum shares memory with " + name,
            [&] { norm.normalize_sum(x, x, in(vector), y, of_many); });
  };
  with_statistics("stats.rstd", of_many.rstd);
  if (Kind::centred) with_statistics("stats.mean", of_many.mean);
  Tokens many = random_normal<Tokens>({tokens, channels}, Seed{512});
  Eigen::Map<Tokens> inside(of_many.rstd.data(), 1, channels);
  refused("dx is 1 x 4", [&] { norm.backpropagate(many, of_many, many, inside, g); });
  for (auto* const gradient : {&g.scale, &g.shift}) {
    const std::string name =
        gradient == &g.scale ? "the gradient of scale" : "the gradient of shift";
    refused("x shares memory with " + name,
            [&] { norm.backpropagate(in(*gradient), stats, x, dx, g); });
    refused("dy shares memory with " + name,
            [&] { norm.backpropagate(x, stats, in(*gradient), dx, g); });
    refused("dsum shares memory with " + name,
            [&] { norm.backpropagate_sum(x, stats, x, in(*gradient), dx, g); });
    refused("dx shares memory with " + name,
            [&] { norm.backpropagate(x, stats, x, in(*gradient), g); });
  }
}

TEST(Aliasing, OperandsInTheMemoryOfTheNormAreRefused) {
  expect_refused_in_the_memory_of_a_norm<LayerKind>();
  expect_refused_in_the_memory_of_a_norm<RMSKind>();
}

}  // namespace
}  // namespace tokennorm::test
