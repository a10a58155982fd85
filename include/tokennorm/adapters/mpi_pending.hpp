// SPDX-License-Identifier: MIT
/// Several sharded norms in one message, which is on its way while the caller does something else;
/// see mpi.hpp.
#pragma once

#include "tokennorm/adapters/mpi_sharded.hpp"

#include <array>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

namespace tokennorm {

/// Results of norms whose messages are one, on its way; from `begin`, until `finish`.
template <class... NormsAndTokens>
class PendingNorms {
  static constexpr std::size_t count = sizeof...(NormsAndTokens) / 2;
  using Arguments = std::tuple<const NormsAndTokens&...>;
  template <std::size_t i>
  using TokensAt = std::tuple_element_t<2 * i + 1, Arguments>;
  template <std::size_t... i>
  static Accumulator<detail::ScalarOf<TokensAt<i>>...> arithmetic(std::index_sequence<i...>);
  using S = decltype(arithmetic(std::make_index_sequence<count>()));

 public:
  /// See `begin`.
  explicit PendingNorms(const NormsAndTokens&... norms_and_tokens)
      : arguments_(norms_and_tokens...),
        exchange_(norm<0>().who(), norm<0>().communicator_, detail::mpi::Waits::later) {
    exchange_.prepare([&] {
      each([&](const auto& norm, const auto& x, PartialStatistics<S>& partial, auto) {
        norm.norm_.partial_statistics(x, partial);
        exchange_.add(norm, partial);
      });
    });
    exchange_.begin();
  }

  /// y of each norm, in their order; each may be its x.
  template <class... Y>
  void finish(Y&&... y) {
    static_assert(sizeof...(Y) == count, "tokennorm: finish takes one result for each norm.");
    exchange_.finish();
    const auto results = std::tie(y...);
    std::size_t first = 0;
    each([&](const auto& norm, const auto& x, PartialStatistics<S>& partial, auto i) {
      detail::mpi::unpack(exchange_.records(), first, partial);
      first += static_cast<std::size_t>(partial.m2.size());
      norm.norm_.apply(x, partial, std::get<i()>(results));
    });
  }

 private:
  template <std::size_t i>
  const auto& norm() const {
    return std::get<2 * i>(arguments_);
  }
  /// f(norm, x, statistics, number) of each.
  void each(const auto& f) {
    [&]<std::size_t... i>(std::index_sequence<i...>) {
      (f(norm<i>(), std::get<2 * i + 1>(arguments_), partials_[i],
         std::integral_constant<std::size_t, i>()),
       ...);
    }
    (std::make_index_sequence<count>());
  }

  Arguments arguments_;
  std::array<PartialStatistics<S>, count> partials_;
  detail::mpi::Exchange<detail::mpi::MomentsRecord<S>> exchange_;
};

/// begin(norm, x, other_norm, z, …): the statistics of sharded norms, all in one message, on its
/// way when this returns; up to then only where it is longer than a first one. Norms and tokens are
/// to live, and to stay what they are, until `finish` of what is returned: call it, or be left with
/// a message that the other ranks wait for.
///
/// Throws   as the norms do
template <class NormType, class X, class... Others>
requires(sizeof...(Others) % 2 == 0)
    [[nodiscard]] PendingNorms<Sharded<NormType>, X, Others...> begin(const Sharded<NormType>& norm,
                                                                      const X& x,
                                                                      const Others&... others) {
  return PendingNorms<Sharded<NormType>, X, Others...>(norm, x, others...);
}

}  // namespace tokennorm
