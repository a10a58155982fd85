// SPDX-License-Identifier: MIT
// Asserts the documented forward bound, that of ../support/error_units.hpp, over all hard rows.
#pragma once

#include "../support/edge_shapes.hpp"
#include "../support/error_units.hpp"
#include "../support/hard_rows.hpp"
#include "../support/worst_case.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace tokennorm::test {

/// Judges x̂ of tokens row by row.
class ForwardAccuracy {
 public:
  explicit ForwardAccuracy(const ErrorUnits& units) : units_(units) {}

  void judge(const std::string* names, double epsilon, const ForwardOracle& expected,
             const ExactMatrix& y, const char* order) {
    for (Index t = 0; t < y.rows(); ++t) {
      const std::string& name = names[t];
      const long double units = units_.normalized(y.row(t), expected, t);
      worst_.see(units, y.cols(), epsilon, name);
      expectations_.expect(units <= forward_units, [&] {
        return std::to_string(units) + " units, C = " + std::to_string(y.cols()) +
               ", epsilon = " + std::to_string(epsilon) + ", row \"" + name + "\", " + order;
      });
    }
  }

  const WorstCase& worst() const { return worst_; }

 private:
  ErrorUnits units_;
  WorstCase worst_;
  ManyExpectations expectations_;
};

/// All hard rows of each channel count as one batch, in both storage orders.
template <class Kind, class Scalar>
void expect_forward_accuracy() {
  using C = Case<Kind, Scalar>;
  ForwardAccuracy accuracy(ErrorUnits::of<Scalar>());
  for (const Index channels : edge_channels()) {
    const auto rows = hard_rows<Scalar>(channels);
    const auto names = names_of(rows);
    const auto x = stacked<typename C::RowMajor>(rows);
    for (const double epsilon : {0.0, 1e-12, 1e-5}) {
      if (epsilon > 0 && channels > 5000) continue;
      const typename C::Norm norm(channels, plain_options<Kind>(epsilon));
      const auto y = norm(x);
      const auto y_columns = norm(typename C::ColMajor(x));
      const Index few = 8;  // at a time, for the sake of memory
      for (Index first = 0; first < x.rows(); first += few) {
        const Index count = std::min(few, x.rows() - first);
        const ForwardOracle expected =
            forward_oracle(spec_of(norm.options()), exact(x.middleRows(first, count)));
        accuracy.judge(&names[static_cast<std::size_t>(first)], epsilon, expected,
                       exact(y.middleRows(first, count)), "row-major");
        accuracy.judge(&names[static_cast<std::size_t>(first)], epsilon, expected,
                       exact(y_columns.middleRows(first, count)), "column-major");
      }
    }
  }
  accuracy.worst().report(std::string(Kind::name) + "<" + scalar_name<Scalar>() + "> forward");
}

/// With γ and β: the bound on x̂ times |o + γ|, and one rounding each for o + γ, the product and the
/// sum; then rounded once to Scalar.
template <class Kind, class Scalar>
void expect_affine_accuracy() {
  using C = Case<Kind, Scalar>;
  ManyExpectations expectations;
  for (const Index channels : {1, 3, 16, 33, 100, 768, 4097}) {
    const auto rows = hard_rows<Scalar>(channels);
    const auto x = stacked<typename C::RowMajor>(rows);
    for (const double offset : {0.0, 1.0}) {
      auto options = affine_options<Kind>();
      options.scale_offset = offset;
      const auto norm = random_norm<C>(channels, Seed{3}, options);
      const ForwardOracle expected = forward_oracle_of(norm, exact(x));
      const ExactVector factor =
          applied_scale(spec_of(options), exact_vector(norm.scale()), channels);
      const auto y = norm(x);
      for (Index t = 0; t < y.rows(); ++t) {
        Index wrong = 0;
        for (Index c = 0; c < channels; ++c) {
          const long double product = std::fabs(expected.normalized(t, c) * factor(c));
          const long double bound = unit<Scalar>() * (std::fabs(factor(c)) * forward_units *
                                                          std::fmax(1.0L, expected.largest(t)) +
                                                      2 * product + std::fabs(expected.y(t, c)));
          wrong += !rounds_from(y(t, c), expected.y(t, c), 1.001L * bound);
        }
        expectations.expect(wrong == 0, [&] {
          return std::to_string(wrong) + " values, C = " + std::to_string(channels) +
                 ", scale offset " + std::to_string(offset) + ", row \"" +
                 rows[static_cast<std::size_t>(t)].name + '"';
        });
      }
    }
  }
}

/// The statistics of hard rows: rstd within the bound of x̂, the mean rounded about once.
template <class Kind, class Scalar>
void expect_statistics_accuracy() {
  using C = Case<Kind, Scalar>;
  using Accum = typename C::Accum;
  for (const Index channels : {1, 3, 16, 33, 100, 768, 4097}) {
    const auto rows = hard_rows<Scalar>(channels);
    const auto x = stacked<typename C::RowMajor>(rows);
    for (const double epsilon : {0.0, 1e-5}) {
      const typename C::Norm norm(channels, plain_options<Kind>(epsilon));
      const ForwardOracle expected = forward_oracle(spec_of(norm.options()), exact(x));
      typename C::RowMajor y;
      typename C::Statistics stats;
      norm.normalize(x, y, stats);
      ASSERT_EQ(stats.rstd.size(), x.rows());
      ASSERT_EQ(stats.mean.size(), Kind::centred ? x.rows() : 0);
      for (Index t = 0; t < x.rows(); ++t) {
        SCOPED_TRACE(rows[static_cast<std::size_t>(t)].name + ", C = " + std::to_string(channels));
        const long double rstd = expected.rstd(t);
        if (rstd > largest<Accum>()) {
          EXPECT_FALSE(std::isnan(to_exact(stats.rstd(t))));
        } else {
          EXPECT_LE(std::fabs(to_exact(stats.rstd(t)) - rstd),
                    forward_units * unit<Scalar>() * rstd + smallest_subnormal<Accum>());
        }
        if (Kind::centred) {
          const long double spread = rstd > 0 ? 1 / rstd : 0;
          EXPECT_LE(std::fabs(to_exact(stats.mean(t)) - expected.mean(t)),
                    forward_units * unit<Scalar>() * (std::fabs(expected.mean(t)) + spread) +
                        smallest_subnormal<Accum>());
        }
      }
    }
  }
}

}  // namespace tokennorm::test
