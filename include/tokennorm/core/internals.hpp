// SPDX-License-Identifier: MIT
/// The one door to what norms and blocks keep to themselves. They are friends of Internals, through
/// which the library's other folders, and nobody else, reach it.
#pragma once

#include "tokennorm/core/checks.hpp"
#include "tokennorm/core/scalar.hpp"

#include <utility>

namespace tokennorm::detail {

struct Internals {
  /// "LayerNorm(768)", "PreLN(768)", "Stack(768)"
  static Who who(const auto& part) { return part.who(); }

  // ---- of a norm

  /// Fails unless the parameters still have their size.
  static void check_parameters(const auto& norm) { norm.check_parameters(); }
  /// Fails where the output of a block stands in the memory of the parameters.
  static void check_output(const auto& norm, const auto& y) { norm.check_output(y); }
  /// The norm for the kernels; the statistics of each token go to `stats`, if there are any.
  template <class A>
  static auto arguments(const auto& norm, auto* stats) {
    return norm.template arguments<A>(stats);
  }
  /// Makes room for the statistics of so many tokens.
  static void size_statistics(const auto& norm, auto& stats, Index tokens) {
    norm.size_statistics(stats, tokens);
  }
  /// dx = the gradient of dx + dy through the norm.
  static void backpropagate_with(const auto& norm, const auto& x, const auto& stats, const auto& dy,
                                 auto& dx, auto& gradients, auto& executor) {
    norm.backpropagate_with(x, stats, dy, dx, gradients, executor);
  }

  // ---- of a block

  /// f(connection, names) for each connection.
  static void each(auto& block, const auto& f) { block.each(f); }
};

}  // namespace tokennorm::detail
