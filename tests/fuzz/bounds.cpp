// SPDX-License-Identifier: MIT
#include "bounds.hpp"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <sstream>
#include <string>

namespace tokennorm::test {
namespace {

struct Worst {
  long double units = 0;
  std::string where = {};
};

std::map<std::string, Worst>& worst_cases() {
  static std::map<std::string, Worst> worst;
  return worst;
}

void see(const FuzzedCase& fuzzed, const Precision& precision, const NormSpec& spec,
         const char* what, long double units) {
  const std::string name = std::string(spec.centre ? "LayerNorm" : "RMSNorm") + ", " +
                           std::to_string(precision.stored.significant_bits) + " bits, " + what;
  Worst& worst = worst_cases()[name];
  if (units > worst.units) worst = {units, fuzzed.name()};
}

template <class Name>
void require_within(const FuzzedCase& fuzzed, const char* promise, long double actual,
                    long double expected, long double bound, bool holds, const Name& name) {
  fuzzed.require(holds, promise, [&] {
    std::ostringstream found;
    found << std::hexfloat << name() << " is " << actual << ", expected " << expected
          << " to within " << bound << std::defaultfloat << " (" << actual << ", " << expected
          << ", " << bound << ")";
    return found.str();
  });
}

std::string at(const char* what, Index t, Index c) {
  return std::string(what) + "(" + std::to_string(t) + ", " + std::to_string(c) + ")";
}

bool is_finite(const ExactMatrix& x) { return x.allFinite(); }

void require_statistics_bounds(const FuzzedCase& fuzzed, const Precision& precision,
                               const NormSpec& spec, const ForwardOracle& expected,
                               const ExactStep& actual, Index t) {
  const long double step = precision.accumulator.smallest_subnormal, rstd = expected.rstd(t);
  const long double relative = searched_units * precision.unit;
  if (rstd > precision.accumulator.largest) {
    fuzzed.require(!std::isnan(actual.rstd(t)), "rstd is never NaN");
  } else {
    const long double bound = relative * rstd + step;
    require_within(fuzzed, "rstd is within its bound", actual.rstd(t), rstd, bound,
                   std::fabs(actual.rstd(t) - rstd) <= bound, [&] { return at("rstd", t, 0); });
  }
  if (!spec.centre) return;
  const long double mean = expected.mean(t), spread = rstd > 0 ? 1 / rstd : 0;
  const long double bound = relative * (std::fabs(mean) + spread) + step;
  require_within(fuzzed, "the mean is within its bound", actual.mean(t), mean, bound,
                 std::fabs(actual.mean(t) - mean) <= bound, [&] { return at("mean", t, 0); });
}

}  // namespace

void require_forward_bounds(const FuzzedCase& fuzzed, const Precision& precision,
                            const ExactNorm& norm, const ExactMatrix& x, const ExactStep& actual) {
  const ForwardOracle expected = forward_oracle(norm.spec, x, norm.scale, norm.shift);
  const ExactVector factor = applied_scale(norm.spec, norm.scale, x.cols());
  for (Index t = 0; t < x.rows(); ++t) {
    if (!is_finite(x.row(t))) {
      fuzzed.require(!is_finite(actual.y.row(t)) || norm.spec.statistics_channels != 0,
                     "a token with a NaN or an infinity is not finite",
                     [&] { return at("token", t, 0); });
      continue;
    }
    if (actual.rstd.size() > 0)
      require_statistics_bounds(fuzzed, precision, norm.spec, expected, actual, t);
    for (Index c = 0; c < x.cols(); ++c) {
      // One rounding each for o + γ, the product and the sum; a product may be subnormal.
      const long double wanted = expected.y(t, c);
      // Where x̂ (of a channel that a partial norm does not count) or its product with the scale may
      // be infinite, so may y.
      const long double product = std::fabs(expected.normalized(t, c) * factor(c));
      const long double largest = precision.accumulator.largest / 2;
      if (std::fabs(expected.normalized(t, c)) > largest || product > largest) continue;
      const long double size =
          std::fabs(factor(c)) * precision.unit * std::fmax(1.0L, expected.largest(t));
      const long double roundings = precision.unit * (2 * product + std::fabs(wanted)) +
                                    2 * precision.accumulator.smallest_subnormal;
      const long double bound = 1.001L * (searched_units * size + roundings);
      require_within(fuzzed, "y is within its bound", actual.y(t, c), wanted, bound,
                     rounds_from(precision.stored, actual.y(t, c), wanted, bound),
                     [&] { return at("y", t, c); });
      const long double error =
          error_before_rounding(precision.stored, actual.y(t, c), wanted) - roundings;
      if (error > 0 && std::isfinite(error / size))
        see(fuzzed, precision, norm.spec, "y", error / size);
    }
  }
}

void require_backward_bounds(const FuzzedCase& fuzzed, const Precision& precision,
                             const ExactNorm& norm, const ExactMatrix& x, const ExactMatrix& dy,
                             const ExactStep& actual, const ExactMatrix& dsum) {
  BackwardOracle expected = backward_oracle(norm.spec, x, dy, norm.scale);
  if (dsum.size() > 0) {  // is one more rounding
    expected.dx += dsum;
    for (Index t = 0; t < x.rows(); ++t)
      expected.dx_size(t) += expected.dx.row(t).cwiseAbs().maxCoeff() / searched_dx_units;
  }
  for (Index t = 0; t < x.rows(); ++t) {
    if (!is_finite(x.row(t)) || !is_finite(expected.dx.row(t))) continue;
    const long double units = precision.units.dx(actual.dx.row(t), expected, t, searched_dx_units);
    fuzzed.require(units <= searched_dx_units, "dx is within its bound", [&] {
      std::ostringstream found;
      found << "token " << t << " is wrong by " << units << " units; rstd " << expected.rstd(t)
            << ", size " << expected.dx_size(t) << "\n  x "
            << x.row(t).leftCols(std::min<Index>(8, x.cols())) << "\n  dy "
            << dy.row(t).leftCols(std::min<Index>(8, x.cols())) << "\n  dx "
            << actual.dx.row(t).leftCols(std::min<Index>(8, x.cols())) << "\n  expected "
            << expected.dx.row(t).leftCols(std::min<Index>(8, x.cols()));
      return found.str();
    });
    if (dsum.size() == 0) see(fuzzed, precision, norm.spec, "dx", units);
  }
  if (!is_finite(x) || !is_finite(dy)) return;
  const auto require_gradient = [&](const char* what, const ExactVector& gradient,
                                    const ExactVector& wanted, const ExactVector& sizes,
                                    long double units) {
    const long double size = units * precision.unit;  // of the bound, in parts of `sizes`
    for (Index c = 0; c < gradient.size(); ++c) {
      // A sum of double may overflow, as may one whose bound is beyond the range.
      const bool may_overflow =
          precision.accumulator.significant_bits > 24
              ? sizes(c) * (1 + size) > precision.accumulator.largest
              : std::fabs(wanted(c)) + size * sizes(c) > precision.accumulator.largest;
      if (may_overflow) continue;
      // A term may be subnormal.
      const long double bound = size * sizes(c) + static_cast<long double>(2 + x.rows()) *
                                                      precision.accumulator.smallest_subnormal;
      require_within(fuzzed, "a gradient of a parameter is within its bound", gradient(c),
                     wanted(c), bound, std::fabs(gradient(c) - wanted(c)) <= bound,
                     [&] { return at(what, 0, c); });
      if (sizes(c) > precision.accumulator.smallest_normal / precision.unit)
        see(fuzzed, precision, norm.spec, what,
            std::fabs(gradient(c) - wanted(c)) / (precision.unit * sizes(c)));
    }
  };
  require_gradient("dgamma", actual.scale, expected.scale, expected.scale_size,
                   searched_scale_units);
  require_gradient("dbeta", actual.shift, expected.shift, expected.shift_size, backward_units);
}

void print_worst_cases() {
  for (const auto& [name, worst] : worst_cases())
    std::cout << "worst of " << name << ": " << worst.units << " units, " << worst.where << '\n';
}

}  // namespace tokennorm::test
