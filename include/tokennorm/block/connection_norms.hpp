// SPDX-License-Identifier: MIT
/// The norms of a connection: each by its name, the first of them, and those that a residual step
/// reads the stream with.
#pragma once

#include "tokennorm/block/connection.hpp"
#include "tokennorm/block/records.hpp"

#include <cstddef>
#include <string>
#include <type_traits>

namespace tokennorm::detail {

/// The first norm among types, or NoNorm.
template <class... Norms>
struct FirstNorm {
  using type = NoNorm;
};
template <class First, class... Rest>
struct FirstNorm<First, Rest...> : FirstNorm<Rest...> {};
template <class First, class... Rest>
requires(is_norm<First>) struct FirstNorm<First, Rest...> {
  using type = First;
};
template <class ConnectionType>
struct NormsOf : NormsOf<typename ConnectionType::Parts> {};
template <class Out, class... Branches>
struct NormsOf<Connection<Out, Branches...>>
    : FirstNorm<typename Branches::PreNorm..., Out, typename Branches::PostNorm...> {};

/// f(norm, what it is) for each norm of a connection, and f(NoNorm) where there is none.
void each_norm_of(auto& connection, const auto& f) {
  bool is_first = true;
  connection.branches.each([&](auto& branch) {
    f(branch.pre, branch.name, "norm");
    if (is_first) f(connection.out, branch.name, "norm");
    f(branch.post, branch.name, "output_norm");
    is_first = false;
  });
}

/// The norms that read the stream before a connection; what they leave for a backward is saved.
template <class S, class U, class Out, class... Branches>
StepReaders<S, U> readers_of(const Connection<Out, Branches...>& connection,
                             SavedStep<S, U>* saved = nullptr) {
  using A = Accumulator<S, U>;
  StepReaders<S, U> readers;
  bool any = false;
  connection.branches.each([&](const auto& branch) {
    if constexpr (is_norm<decltype(branch.pre)>) {
      const auto at = static_cast<std::size_t>(readers.count++);
      readers.pre[at] = StepNorm<A, S, U>(branch.pre, saved == nullptr ? nullptr : &saved->pre[at]);
      any = true;
    }
  });
  readers.copies = !any && !std::is_same_v<S, U>;
  return readers;
}
template <class S, class U, class Param, class Out, class... Branches>
ReaderGradients<S, U, Param> reader_gradients_of(Connection<Out, Branches...>& connection,
                                                 SavedStep<S, U>& saved) {
  using A = Accumulator<S, U>;
  ReaderGradients<S, U, Param> readers;
  connection.branches.each([&](auto& branch) {
    if constexpr (is_norm<decltype(branch.pre)>) {
      const auto at = static_cast<std::size_t>(readers.count++);
      readers.pre[at] = StepNormBackward<A, S, U, S, Param>(branch.pre, saved.pre[at]);
    }
  });
  readers.reads_stream = readers.count == 0;
  readers.share_norm = readers.count < Index{sizeof...(Branches)} && sizeof...(Branches) > 1;
  return readers;
}

}  // namespace tokennorm::detail
