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

  /// f(norm), of what is inside where the kind is chosen at run time: a LayerNorm or an RMSNorm.
  static decltype(auto) with_kind(auto& norm, const auto& f) {
    if constexpr (requires { norm.with_kind(f); }) {
      return norm.with_kind(f);
    } else {
      return f(norm);
    }
  }
  /// Fails unless the parameters still have their size.
  static void check_parameters(const auto& norm) { norm.check_parameters(); }
  /// Fails where the output of a block stands in the memory of the parameters.
  static void check_output(const auto& norm, const auto& y) { norm.check_output(y); }
  /// The norm for the kernels; the statistics of each token go to `stats`, if there are any.
  template <class A>
  static auto arguments(const auto& norm, auto* stats) {
    return norm.template arguments<A>(stats);
  }
  /// The same without any.
  template <class A>
  static auto arguments(const auto& norm) {
    return norm.template arguments<A>();
  }
  /// The same for a backward, which reads the statistics.
  template <class A>
  static auto saved_arguments(const auto& norm, const auto& stats) {
    return norm.template saved_arguments<A>(stats);
  }

  /// What is known of the channels here becomes what is known of all: of a norm whose channels are
  /// divided.
  static void merge_parts(const auto& norm, auto& partial) { norm.merge_parts(partial); }
  template <class Norm>
  static constexpr bool is_divided = requires(const Norm& norm) {
    norm.divided_over();
  };
  /// Tells those who have the other channels that they wait in vain, if there are any.
  template <class Norm>
  static void refuse(const Norm& norm) {
    if constexpr (is_divided<Norm>) norm.refuse();
  }

  // ---- of a block

  /// f(connection) for each connection.
  static void each(auto& block, const auto& f) { block.each(f); }
  /// f(block, number) for each block of a stack.
  static void each_block(auto& stack, const auto& f) { stack.each_block(stack, f); }
  /// The last forward that went through a block.
  static auto& last_forward(auto& block) { return block.own_->last_forward; }
  /// What a forward left in a record.
  static auto& saved(auto& record) { return record.saved_; }
};

}  // namespace tokennorm::detail
