// SPDX-License-Identifier: MIT
/// One residual connection: all there is to say of a placement.
///
///     h ← out(α·h + Σₖ postₖ(fₖ(preₖ(h))))
///
/// The public placements are cases of it, and so is a new one:
///
///     // y = x + output_norm(f(x))
///     template <class F, class Norm>
///     struct ResPostLNResidual : Residual<ResidualConnection<NoNorm, F, Norm, NoNorm>> {
///       ResPostLNResidual(F f, Norm output_norm)
///           : ResPostLNResidual::Residual("ResPostLNResidual",
///                                         {NoNorm{}, std::move(f), std::move(output_norm),
///                                          NoNorm{}}) {}
///     };
#pragma once

#include "tokennorm/block/scaled_sublayers.hpp"
#include "tokennorm/norm/step_norm.hpp"

#include <string>
#include <type_traits>
#include <utility>

namespace tokennorm {

namespace detail {

template <std::size_t At, class First, class... Rest>
struct Nth : Nth<At - 1, Rest...> {};
template <class First, class... Rest>
struct Nth<0, First, Rest...> {
  using type = First;
};

/// Objects one behind the other: a std::tuple that costs little to compile.
template <class...>
struct Sequence {
  void each(const auto&) const {}
};
template <class First, class... Rest>
struct Sequence<First, Rest...> {
  First first;
  [[no_unique_address]] Sequence<Rest...> rest;

  explicit Sequence(First&& f, Rest&&... r) : first(std::move(f)), rest(std::move(r)...) {}

  template <std::size_t At>
  auto& get() {
    if constexpr (At == 0) {
      return first;
    } else {
      return rest.template get<At - 1>();
    }
  }
  template <std::size_t At>
  const auto& get() const {
    return const_cast<Sequence&>(*this).template get<At>();
  }
  void each(const auto& f) {
    f(first);
    rest.each(f);
  }
  void each(const auto& f) const {
    f(first);
    rest.each(f);
  }
};

}  // namespace detail

/// post(f(pre(h)))
template <class Pre, class F, class Post = NoNorm>
struct Branch {
  /// The types of its parts.
  using PreNorm = Pre;
  using Sublayer = F;
  using PostNorm = Post;

  /// NoNorm{} leaves a norm out.
  Branch(Pre pre_norm, F sublayer, Post post_norm, std::string called = {})
      : pre(std::move(pre_norm)),
        f(std::move(sublayer)),
        post(std::move(post_norm)),
        name(std::move(called)) {}

  Pre pre;           ///< the norm before the sublayer, or NoNorm
  F f;               ///< the sublayer, or a std::ref to it
  Post post;         ///< the norm on its update, or NoNorm
  std::string name;  ///< "attention"; empty in a lone connection
};

namespace detail {

/// What stands in a branch, itself or by std::ref.
template <class Branch>
using SublayerOf = std::remove_reference_t<decltype(unwrap(std::declval<Branch&>().f))>;

}  // namespace detail

/// h ← out(α·h + Σₖ postₖ(fₖ(preₖ(h)))) of one or two branches, which read the same h.
template <class Out, class... Branches>
class Connection {
  static_assert(sizeof...(Branches) == 1 || sizeof...(Branches) == 2,
                "tokennorm: a connection has one sublayer or two.");

 public:
  /// The types of its parts, and which of them there are.
  using OutNorm = Out;
  static constexpr std::size_t branch_count = sizeof...(Branches);
  template <std::size_t At = 0>
  using BranchType = typename detail::Nth<At, Branches...>::type;
  static constexpr bool has_norm =
      detail::is_norm<typename BranchType<>::PreNorm> || detail::is_norm<Out>;
  static constexpr bool has_output_norm = detail::is_norm<typename BranchType<>::PostNorm>;

  /// α is the scale of the stream.
  Connection(Out out_norm, double scale_of_stream, Branches... parts)
      : branches(std::move(parts)...), out(std::move(out_norm)), alpha(scale_of_stream) {}

  /// A branch, by its place.
  template <std::size_t At = 0>
  auto& branch() {
    return branches.template get<At>();
  }
  template <std::size_t At = 0>
  const auto& branch() const {
    return branches.template get<At>();
  }

  /// The norm on the stream, before the sublayer or after the sum; placements have one or none.
  auto& norm() requires(has_norm) { return norm_of(*this); }
  const auto& norm() const requires(has_norm) { return norm_of(*this); }
  auto& output_norm() requires(has_output_norm) { return branch().post; }
  const auto& output_norm() const requires(has_output_norm) { return branch().post; }
  auto& sublayer() { return detail::unwrap(branch().f); }
  const auto& sublayer() const { return detail::unwrap(branch().f); }

  detail::Sequence<Branches...> branches;  ///< the sublayers with their norms
  Out out;                                 ///< the norm on the sum, or NoNorm
  double alpha;                            ///< what the stream is multiplied with

 private:
  static auto& norm_of(auto& connection) {
    if constexpr (detail::is_norm<typename BranchType<>::PreNorm>) {
      return connection.branch().pre;
    } else {
      return connection.out;
    }
  }
};

/// h ← out(α·h + post(f(pre(h)))): its parts in the order in which data meets them.
template <class Pre, class F, class Post, class Out>
class ResidualConnection : public Connection<Out, Branch<Pre, F, Post>> {
 public:
  /// What it is made of, and from what, in data order.
  using Parts = Connection<Out, Branch<Pre, F, Post>>;
  ResidualConnection(Pre pre, F f, Post post, Out out_norm, double scale_of_stream = 1)
      : ResidualConnection::Connection(
            std::move(out_norm), scale_of_stream,
            Branch<Pre, F, Post>(std::move(pre), std::move(f), std::move(post))) {}
};

/// h ← α·h + f(n) + g(m), n = pre(h), m = second_pre(h), or n with SameNorm.
template <class Pre, class F, class SecondPre, class G>
class ParallelConnection : public Connection<NoNorm, Branch<Pre, F>, Branch<SecondPre, G>> {
 public:
  /// What it is made of, and from what, in data order.
  using Parts = Connection<NoNorm, Branch<Pre, F>, Branch<SecondPre, G>>;
  ParallelConnection(Pre pre, F f, SecondPre second_pre, G g, double scale_of_stream = 1)
      : ParallelConnection::Connection(
            NoNorm{}, scale_of_stream, Branch<Pre, F>(std::move(pre), std::move(f), NoNorm{}),
            Branch<SecondPre, G>(std::move(second_pre), std::move(g), NoNorm{})) {}
};

}  // namespace tokennorm
