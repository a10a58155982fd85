// SPDX-License-Identifier: MIT
// The residual step does more than the named placements ask of it: α ≠ 1 and every combination of
// its norms. One relative, a residual-post-norm with an α, is written here in a few lines.
#include "../norm/norm_kinds.hpp"
#include "../support/exact_bits.hpp"
#include "executors.hpp"
#include "sublayers.hpp"
#include <tokennorm/block/residual_connections.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<double>;
constexpr Index channels = 5;

/// y = α·x + output_norm(f(x)), from public names alone.
template <class F, class Norm>
using PostNormConnection = ResidualConnection<NoNorm, F, Norm, NoNorm>;
template <class F, class Norm>
struct PostNormResidual : Residual<PostNormConnection<F, Norm>> {
  PostNormResidual(double alpha, F f, Norm norm)
      : PostNormResidual::Residual(
            "PostNormResidual",
            PostNormConnection<F, Norm>(NoNorm{}, std::move(f), std::move(norm), NoNorm{}, alpha)) {
  }
};

/// dx of Σ dy∘block(x), against central differences of the equation in long double.
template <class Block, class Equation>
void expect_gradient(Block& block, const Equation& equation, const Tokens& x) {
  const auto dy = random_normal<Tokens>({x.rows(), x.cols()}, Seed{9001});
  const Tokens y = block.forward(x);
  EXPECT_LE((exact(y) - equation(exact(x))).cwiseAbs().maxCoeff(), 1e-14L);
  EXPECT_TRUE(same_bits(y, block(x)));
  const Tokens dx = block.backward(dy);
  ExactMatrix at = exact(x);
  for (Index t = 0; t < x.rows(); ++t)
    for (Index c = 0; c < x.cols(); ++c) {
      const long double value = at(t, c), step = 0x1p-20L;
      at(t, c) = value + step;
      const long double above = exact(dy).cwiseProduct(equation(at)).sum();
      at(t, c) = value - step;
      const long double below = exact(dy).cwiseProduct(equation(at)).sum();
      at(t, c) = value;
      EXPECT_NEAR(dx(t, c), static_cast<double>((above - below) / (2 * step)), 1e-9);
    }
}

TEST(NewPlacement, ResPostLNWithAlphaIsItsEquation) {
  const auto norm = random_norm<Case<RMSKind, double>>(channels, {1});
  const Linear<double> f(channels, {2});
  for (const double alpha : {1.0, 0.75}) {
    SCOPED_TRACE(alpha);
    PostNormResidual block(alpha, f, norm);
    const auto equation = [&](const ExactMatrix& x) {
      return ExactMatrix(static_cast<long double>(alpha) * x + forward_oracle_of(norm, f(x)).y);
    };
    expect_gradient(block, equation, random_normal<Tokens>({4, channels}, Seed{9021}));
  }
}

TEST(NewPlacement, ParallelWithAlphaIsItsEquation) {
  const auto norm = random_norm<Case<LayerKind, double>>(channels, {3});
  const Linear<double> f(channels, {4}), g(channels, {5});
  using Parallel = ParallelConnection<LayerNorm<double>, Linear<double>, SameNorm, Linear<double>>;
  for (const double alpha : {1.0, 0.75}) {
    SCOPED_TRACE(alpha);
    Residual<Parallel> block("Parallel", Parallel(norm, f, SameNorm{}, g, alpha));
    const auto equation = [&](const ExactMatrix& x) {
      const ExactMatrix n = forward_oracle_of(norm, x).y;
      return ExactMatrix(static_cast<long double>(alpha) * x + f(n) + g(n));
    };
    expect_gradient(block, equation, random_normal<Tokens>({4, channels}, Seed{9022}));
  }
}

// ---- the kernel, with everything switched on
// -----------------------------------------------------

template <class Scalar>
class ResidualStep : public ::testing::Test {
 protected:
  using Matrix = TokenMatrix<Scalar>;

  /// h ← α·h + post(update), h ← out(h), n ← pre(h), in place or apart.
  static void check(Shape shape, bool in_place) {
    SCOPED_TRACE(::testing::Message() << shape << (in_place ? ", in place" : ""));
    using Layer = Case<LayerKind, Scalar>;
    const auto post = random_norm<Case<RMSKind, Scalar>>(shape.channels, {11});
    const auto out = random_norm<Layer>(shape.channels, {12});
    const auto pre = random_norm<Layer>(shape.channels, {13});
    const double alpha = 1.5;
    const auto h = random_normal<Matrix>(shape, Seed{9031}, 1, 2);
    const auto update = random_normal<Matrix>(shape, Seed{9032}, -3, 5);

    Matrix stream = h, given = update;
    Matrix sum(h.rows(), h.cols()), streamed(h.rows(), h.cols()), normed(h.rows(), h.cols());
    Matrix& to_stream = in_place ? stream : streamed;
    Matrix& to_normed = in_place ? given : normed;
    using Norm = detail::StepNorm<Accumulator<Scalar>, Scalar, Scalar>;
    detail::ResidualStep<Scalar, Scalar> step;
    step.tokens = shape.tokens;
    step.channels = shape.channels;
    step.h = detail::as_const(detail::view_of(stream));
    step.alpha = alpha;
    step.updates[0].value = detail::as_const(detail::view_of(given));
    step.updates[0].post = Norm(post);
    step.update_count = 1;
    step.out = Norm(out);
    step.readers.pre[0] = Norm(pre);
    step.readers.count = 1;
    step.sum = detail::view_of(sum);
    step.stream = detail::view_of(to_stream);
    step.normed[0] = detail::view_of(to_normed);
    const TestExecutor executor{Division::odd_pieces_backwards};
    detail::run_step(step, executor);

    // Each result from what was stored before it, so that each is judged by its own rounding.
    const auto expect_near = [](const Matrix& actual, const ExactMatrix& expected,
                                const char* what) {
      const long double rounding = std::ldexp(1.0L, -ScalarFacts<Scalar>::significant_bits);
      const long double tolerance = 16 * unit<Scalar>() + (sizeof(Scalar) == 2 ? rounding : 0);
      EXPECT_LE((exact(actual) - expected).cwiseAbs().maxCoeff(),
                tolerance * (1 + expected.cwiseAbs().maxCoeff()))
          << what;
    };
    const Matrix posted = post(update);
    expect_near(sum, static_cast<long double>(alpha) * exact(h) + exact(posted), "the sum");
    expect_near(to_stream, forward_oracle_of(out, exact(sum)).y, "the stream");
    expect_near(to_normed, forward_oracle_of(pre, exact(to_stream)).y, "the norm");
    EXPECT_TRUE(same_bits(to_stream, out(sum))) << "fused or not";
    EXPECT_TRUE(same_bits(to_normed, pre(to_stream))) << "fused or not";
  }
};

using StepScalars = ::testing::Types<double, Eigen::half>;
struct StepScalarName {
  template <class Scalar>
  static std::string GetName(int) {
    return scalar_name<Scalar>();
  }
};
TYPED_TEST_SUITE(ResidualStep, StepScalars, StepScalarName);

TYPED_TEST(ResidualStep, WithThreeNormsAndAlphaIsItsEquation) {
  for (const Shape shape : {Shape{1, 1}, Shape{1, 7}, Shape{5, 16}, Shape{4, 33}, Shape{9, 129},
                            Shape{3, 1000}, Shape{2, 4097}})
    for (const bool in_place : {false, true}) this->check(shape, in_place);
}

}  // namespace
}  // namespace tokennorm::test
