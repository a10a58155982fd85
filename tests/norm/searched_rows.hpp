// SPDX-License-Identifier: MIT
// The search of ../support/row_search.hpp for the worst results of a norm.
#pragma once

#include "../support/error_units.hpp"
#include "../support/row_search.hpp"
#include "exact_step.hpp"
#include "norm_kinds.hpp"

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

/// The norm that is searched: without γ, or with γ = 1 where its gradient is wanted.
template <class TypedCase>
typename TypedCase::Norm searched_norm(Searched what, Index channels) {
  auto options = plain_options<typename TypedCase::Kind>(0);
  options.scale = what == Searched::scale_gradient;
  return typename TypedCase::Norm(channels, options);
}

/// The worst of `count` rows. That of dγ is of equal tokens.
template <class TypedCase>
[[gnu::noinline]] FoundRow<typename TypedCase::Scalar> search_worst(Searched what, Index channels,
                                                                    Index count, Seed seed) {
  using Scalar = typename TypedCase::Scalar;
  using Tokens = typename TypedCase::RowMajor;
  const auto norm = searched_norm<TypedCase>(what, channels);
  const NormSpec spec = spec_of(norm.options());
  const ErrorUnits units = ErrorUnits::of<Scalar>();
  return search_rows<Scalar>(channels, count, seed, [&](const Tokens& x, const Tokens& dy) {
    std::vector<long double> of_rows;
    if (what == Searched::normalized) {
      const ForwardOracle expected = forward_oracle(spec, exact(x));
      const ExactMatrix y = exact(norm(x));
      for (Index t = 0; t < x.rows(); ++t)
        of_rows.push_back(units.normalized(y.row(t), expected, t));
    } else if (what == Searched::dx) {
      const BackwardOracle expected = backward_oracle(spec, exact(x), exact(dy));
      const ExactStep step = exact_step<Tokens>(norm, x, dy);
      for (Index t = 0; t < x.rows(); ++t) of_rows.push_back(units.dx(step.dx.row(t), expected, t));
    } else {
      for (Index t = 0; t < x.rows(); ++t) {
        const BackwardOracle one = backward_oracle(spec, exact(x.row(t)), exact(dy.row(t)));
        const ExactStep step = exact_step<Tokens>(norm, x.row(t).replicate(equal_tokens, 1),
                                                  dy.row(t).replicate(equal_tokens, 1));
        of_rows.push_back(
            units.gradient(step.scale, equal_tokens * one.scale, equal_tokens * one.scale_size));
      }
    }
    return of_rows;
  });
}

}  // namespace tokennorm::test
