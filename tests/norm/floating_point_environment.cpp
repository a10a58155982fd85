// SPDX-License-Identifier: MIT
// Programs that change how the processor calculates: that flush subnormal numbers to zero (audio,
// games, whatever was linked with -ffast-math by an older compiler), round upwards or downwards, or
// trap invalid operations.
#include "../support/edge_shapes.hpp"
#include "../support/hard_rows.hpp"
#include "../support/random_tokens.hpp"
#include "../support/worst_case.hpp"
#include "backward_accuracy.hpp"
#include "exact_step.hpp"
#include "forward_accuracy.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <cfenv>
#include <cmath>
#include <string>
#include <vector>

#if defined(__SSE2__)
#include <xmmintrin.h>

namespace tokennorm::test {
namespace {

/// Subnormal operands and results are zero as long as this lives.
class FlushToZero {
 public:
  FlushToZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040U); }
  FlushToZero(const FlushToZero&) = delete;
  FlushToZero& operator=(const FlushToZero&) = delete;
  ~FlushToZero() { _mm_setcsr(before_); }

 private:
  unsigned before_;
};

class Rounding {
 public:
  explicit Rounding(int mode) { std::fesetround(mode); }
  Rounding(const Rounding&) = delete;
  Rounding& operator=(const Rounding&) = delete;
  ~Rounding() { std::fesetround(FE_TONEAREST); }
};

/// The hard rows without those that have a subnormal value of their arithmetic type.
template <class Scalar>
std::vector<HardRow<Scalar>> normal_hard_rows(Index channels) {
  auto rows = hard_rows<Scalar>(channels);
  std::erase_if(rows, [](const HardRow<Scalar>& row) {
    const ExactVector x = exact_vector(row.x).cwiseAbs();
    return ((x.array() > 0) && (x.array() < smallest_normal<AccumOf<Scalar>>())).any();
  });
  return rows;
}

/// The worst of a forward and a backward pass over rows, in units of their bounds.
template <class Environment, class TypedCase, class... Arguments>
void expect_accuracy_in(bool flushes, long double most, Arguments... arguments) {
  using Tokens = typename TypedCase::RowMajor;
  using Kind = typename TypedCase::Kind;
  using Scalar = typename TypedCase::Scalar;
  const Format format = format_of<Scalar>();
  // Without an instruction for it, a subnormal half is rounded in the direction of the processor.
  const long double lost = flushes
                               ? smallest_normal<AccumOf<Scalar>>()
                               : std::fmax(smallest_subnormal<AccumOf<Scalar>>(),
                                           sizeof(Scalar) == 2 ? smallest_subnormal<Scalar>() : 0);
  auto backward = BackwardAccuracy::of<Scalar>(most * backward_units / forward_units, lost);
  ManyExpectations expectations;
  WorstCase worst;
  for (const Index channels : {1, 2, 3, 16, 33, 100, 768, 4097}) {
    const auto rows = flushes ? normal_hard_rows<Scalar>(channels) : hard_rows<Scalar>(channels);
    const auto names = names_of(rows);
    const auto x = stacked<Tokens>(rows);
    const auto dy = random_normal<Tokens>({x.rows(), channels}, Seed{21}, 0.5, 1);
    for (const double epsilon : {0.0, 1e-40, 1e-5}) {
      if (epsilon > 0 && channels > 100) continue;
      auto options = plain_options<Kind>(epsilon);
      options.scale = options.shift = true;  // 1 and 0
      const typename TypedCase::Norm norm(channels, options);
      const ForwardOracle expected = forward_oracle(spec_of(options), exact(x));
      const BackwardOracle gradients = backward_oracle_of(norm, exact(x), exact(dy));
      const typename TypedCase::ColMajor x_columns = x, dy_columns = dy;
      for (const ExactStep& step : {exact_step<Tokens, Environment>(norm, x, dy, arguments...),
                                    exact_step<typename TypedCase::ColMajor, Environment>(
                                        norm, x_columns, dy_columns, arguments...)}) {
        backward.judge(step, gradients, epsilon, "normal", names);
        for (Index t = 0; t < x.rows(); ++t) {
          long double error = 0;
          for (Index c = 0; c < channels; ++c) {
            const long double wanted = expected.normalized(t, c), actual = step.y(t, c);
            const bool is_flushed =
                flushes && actual == 0 && std::fabs(wanted) < smallest_normal<AccumOf<Scalar>>();
            if (!is_flushed) error = std::max(error, error_before_rounding(format, actual, wanted));
          }
          const long double size = unit<Scalar>() * std::fmax(1.0L, expected.largest(t));
          const std::string& name = names[static_cast<std::size_t>(t)];
          worst.see(error / size, channels, epsilon, name);
          expectations.expect(error <= most * size, [&] {
            return std::to_string(error / size) + " units, C = " + std::to_string(channels) +
                   ", epsilon = " + std::to_string(epsilon) + ", row \"" + name + "\", " +
                   step.order;
          });
        }
      }
    }
  }
  const std::string norm = std::string(Kind::name) + "<" + scalar_name<Scalar>() + "> ";
  worst.report(norm + "forward");
  backward.report(norm);
}

template <class TypedCase>
class FloatingPointEnvironment : public ::testing::Test {};

TYPED_TEST_SUITE(FloatingPointEnvironment, AllCases, CaseName);

TYPED_TEST(FloatingPointEnvironment, FlushedSubnormalsLeaveTheBounds) {
  expect_accuracy_in<FlushToZero, TypeParam>(true, forward_units);
}

TYPED_TEST(FloatingPointEnvironment, DirectedRoundingDoublesTheBounds) {
  expect_accuracy_in<Rounding, TypeParam>(false, 2 * forward_units, FE_UPWARD);
  expect_accuracy_in<Rounding, TypeParam>(false, 2 * forward_units, FE_DOWNWARD);
}

/// What a program that traps invalid operations would be ended by. Of rows whose squares neither
/// overflow nor underflow.
TYPED_TEST(FloatingPointEnvironment, OrdinaryRowsRaiseNoInvalidOperation) {
  using Scalar = typename TypeParam::Scalar;
  using Kind = typename TypeParam::Kind;
  const auto expect_none = [](const char* what, const auto& call) {
    std::feclearexcept(FE_ALL_EXCEPT);
    call();
    EXPECT_FALSE(std::fetestexcept(FE_INVALID)) << what << ": invalid operation";
    EXPECT_FALSE(std::fetestexcept(FE_DIVBYZERO)) << what << ": division by zero";
  };
  const auto check = [&](auto x, const typename TypeParam::Norm& norm) {
    using Matrix = decltype(x);
    const Shape shape{x.rows(), x.cols()};
    SCOPED_TRACE(shape);
    Matrix dy = random_normal<Matrix>({x.rows(), x.cols()}, Seed{31}), y, dx;
    typename TypeParam::Statistics stats;
    typename TypeParam::Gradients g;
    expect_none("norm(x, y)", [&] { norm(x, y); });
    expect_none("normalize", [&] { norm.normalize(x, y, stats); });
    expect_none("backpropagate", [&] { norm.backpropagate(x, stats, dy, dx, g); });
  };
  for (const Index channels : {1, 2, 8, 19, 100, 600}) {
    for (const Index tokens : {1, 2, 3, 4, 5, 7, 17}) {
      auto x = random_normal<typename TypeParam::RowMajor>({tokens, channels}, Seed{32});
      for (Index t = 1; t < tokens; t += 3) x.row(t).setConstant(Scalar(t % 2 == 0 ? 0.1f : -3.0f));
      for (const double epsilon : {0.0, 1e-5}) {
        SCOPED_TRACE(epsilon);
        const typename TypeParam::Norm norm =
            random_norm<TypeParam>(channels, Seed{33}, affine_options<Kind>(epsilon));
        check(x, norm);
        check(typename TypeParam::ColMajor(x), norm);
        x.row(0).setZero();
      }
    }
  }
}

}  // namespace
}  // namespace tokennorm::test

#endif
