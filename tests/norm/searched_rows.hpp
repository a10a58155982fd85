// SPDX-License-Identifier: MIT
// The search of ../support/row_search.hpp for the worst results of a norm.
#pragma once

#include "../support/error_units.hpp"
#include "../support/row_search.hpp"
#include "exact_step.hpp"
#include "norm_kinds.hpp"

#include <functional>
#include <vector>

namespace tokennorm::test {

enum class Searched { normalized, dx, scale_gradient };

inline constexpr Searched all_searched[] = {Searched::normalized, Searched::dx,
                                            Searched::scale_gradient};

/// A narrow row, one of few vectors, the widest narrow row or the next wider one, and a wide row,
/// whatever the level.
inline constexpr Index searched_channels[] = {16, 64, 96, 128, 256};

/// As many tokens as the kernels add up in the arithmetic type.
inline constexpr Index equal_tokens = 16;

inline long double bound_where_searched(Searched what) {
  switch (what) {
    case Searched::normalized:
      return searched_units;
    case Searched::dx:
      return searched_dx_units;
    case Searched::scale_gradient:
      return searched_scale_units;
  }
  return 0;
}

/// A training step on exact tokens, and their incoming gradient.
using StepOf = std::function<ExactStep(const SearchedRows& x, const SearchedRows& dy)>;

/// The worst of so many rows. That of dγ is of equal tokens.
[[gnu::noinline]] inline FoundRow search_worst(Searched what, const NormSpec& spec,
                                               const ErrorUnits& units, const RowSearch& search,
                                               const StepOf& step_of) {
  return search_rows(search, [&](const SearchedRows& x, const SearchedRows& dy) {
    std::vector<long double> of_rows;
    if (what == Searched::scale_gradient) {
      for (Index t = 0; t < x.rows(); ++t) {
        const BackwardOracle one = backward_oracle(spec, exact(x.row(t)), exact(dy.row(t)));
        const ExactStep step =
            step_of(x.row(t).replicate(equal_tokens, 1), dy.row(t).replicate(equal_tokens, 1));
        of_rows.push_back(
            units.gradient(step.scale, equal_tokens * one.scale, equal_tokens * one.scale_size));
      }
      return of_rows;
    }
    const ExactStep step = step_of(x, dy);
    if (what == Searched::normalized) {
      const ForwardOracle expected = forward_oracle(spec, exact(x));
      for (Index t = 0; t < x.rows(); ++t)
        of_rows.push_back(units.normalized(step.y.row(t), expected, t));
    } else {
      const BackwardOracle expected = backward_oracle(spec, exact(x), exact(dy));
      for (Index t = 0; t < x.rows(); ++t) of_rows.push_back(units.dx(step.dx.row(t), expected, t));
    }
    return of_rows;
  });
}

/// `value` as it is after it was a Scalar.
template <class Scalar>
long double rounded_by(long double value) {
  return to_exact(finite<Scalar>(value));
}

/// Of a norm without ε and γ, or with γ = 1 where its gradient is wanted.
template <class TypedCase>
[[gnu::noinline]] FoundRow search_worst(Searched what, Index channels, Index count, Seed seed) {
  using Scalar = typename TypedCase::Scalar;
  auto options = plain_options<typename TypedCase::Kind>(0);
  options.scale = what == Searched::scale_gradient;
  const typename TypedCase::Norm norm(channels, options);
  const RowSearch search{channels, count, seed, ScalarFacts<Scalar>::significant_bits,
                         rounded_by<Scalar>};
  return search_worst(what, spec_of(options), ErrorUnits::of<Scalar>(), search,
                      [&](const SearchedRows& x, const SearchedRows& dy) {
                        const auto round = [](double value) {
                          return finite<Scalar>(static_cast<long double>(value));
                        };
                        return exact_step<typename TypedCase::RowMajor>(norm, x.unaryExpr(round),
                                                                        dy.unaryExpr(round));
                      });
}

}  // namespace tokennorm::test
