// SPDX-License-Identifier: MIT
/// Whether the sublayers of connections can be called, or trained, with what a call gives them.
#pragma once

#include "tokennorm/block/connection.hpp"

#include <type_traits>
#include <utility>

namespace tokennorm::detail {

struct IgnoresFactors {
  void operator()(const auto&) const {}
};
/// The sublayer that a step calls of what a branch is given.
template <class A, class F>
using Called = std::remove_reference_t<decltype(without_factors<A>(
    std::declval<F&>(), std::declval<const IgnoresFactors&>()))>;

/// The first of some branches or connections, in order, whose sublayer Rule does not find right; or
/// void.
template <class Rule>
constexpr std::type_identity<void> first_not_right(Sequence<>*) {
  return {};
}
template <class Rule, class First, class... Rest>
constexpr auto first_not_right(Sequence<First, Rest...>*) {
  if constexpr (requires { typename First::Sublayer; }) {
    if constexpr (!Rule::template is_right<typename First::Sublayer>()) {
      return std::type_identity<typename First::Sublayer>{};
    } else {
      return first_not_right<Rule>(static_cast<Sequence<Rest...>*>(nullptr));
    }
  } else {
    using Branches = decltype(First::branches);
    using Here = decltype(first_not_right<Rule>(static_cast<Branches*>(nullptr)));
    if constexpr (!std::is_same_v<Here, std::type_identity<void>>) {
      return Here{};
    } else {
      return first_not_right<Rule>(static_cast<Sequence<Rest...>*>(nullptr));
    }
  }
}
template <class A, class Tokens, class... Args>
struct IsCallable {
  template <class F>
  static constexpr bool is_right() {
    return is_callable<Called<A, const F>, Tokens, Args...>();
  }
};
template <class A, class Tokens, class... Args>
struct IsTrainable {
  template <class F>
  static constexpr bool is_right() {
    return is_trainable<Called<A, F>, Tokens, Args...>();
  }
};

}  // namespace tokennorm::detail
