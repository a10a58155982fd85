// SPDX-License-Identifier: MIT
/// Blocks: attention, then feed-forward, each with its residual connection; and blocks of any
/// number of connections. Constructor and template arguments stand in the order in which data meets
/// them.
///
// clang-format off
///     PreLN(norm, attention, norm, feed_forward)                  h = x + attention(norm(x))
///                                                                 y = h + feed_forward(norm(h))
///     PostLN(attention, norm, feed_forward, norm)                 h = norm(x + attention(x))
///                                                                 y = norm(h + feed_forward(h))
///     SandwichLN(norm, attention, norm, norm, feed_forward, norm) h = x + norm(attention(norm(x)))
///                                                                 y = h + norm(feed_forward(norm(h)))
///     ResPostLN(attention, norm, feed_forward, norm)              h = x + norm(attention(x))
///                                                                 y = h + norm(feed_forward(h))
///     DeepNorm(attention, norm, feed_forward, norm, alpha)        h = norm(alpha·x + attention(x))
///                                                                 y = norm(alpha·h + feed_forward(h))
///     ParallelLN(norm, attention, feed_forward)                   y = x + attention(n) + feed_forward(n),
///                                                                 n = norm(x)
///     ParallelLN(norm, attention, norm, feed_forward)             y = x + attention(norm(x))
///                                                                       + feed_forward(norm(x))
///     Block(connection, connection, …)                            one after the other
// clang-format on
///
/// Shapes, error, aliasing, what throws and the sources are those of residual_connections.hpp. The
/// residual add and the norms around it run as one fused step. Source of the parallel ones: Wang,
/// Komatsuzaki 2021 (GPT-J: one norm); Black et al. 2022, arXiv:2204.06745, section 2.1 (GPT-NeoX).
///
///     auto y = block(x);   block(x, y);   block(x, y, workspace);
///     auto y = block.forward(x);   auto dx = block.backward(dy);
///     block.forward(x, y, record);   block.backward(dy, dx, record);
///     block.attention_norm(), attention(), attention_output_norm(),
///     block.feed_forward_norm(), feed_forward(), feed_forward_output_norm(),
///     block.connection<1>(), block.visit_parameters(visitor), block.zero_gradients()
///
/// With behind x or y or the workspace what sublayers need: see with.hpp.
#pragma once

#include "tokennorm/block/residual_connections.hpp"

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

namespace tokennorm {

/// The names of attention and feed-forward, which are two connections, or the branches of one.
template <class... Connections>
class TransformerBlock : public detail::Chain<Connections...> {
  static constexpr bool is_parallel = sizeof...(Connections) == 1;
  template <std::size_t At>
  static auto& part(auto& block) {
    if constexpr (is_parallel) {
      return block.template connection<0>().template branch<At>();
    } else {
      return block.template connection<At>().branch();
    }
  }
  template <std::size_t At>
  static auto& norm_of(auto& block) {
    if constexpr (detail::is_norm<decltype(part<At>(block).pre)>) {
      return part<At>(block).pre;
    } else {
      return block.template connection<At>().out;
    }
  }
  template <std::size_t At>
  using PartType =
      std::remove_cvref_t<decltype(part<At>(std::declval<detail::Chain<Connections...>&>()))>;
  template <std::size_t At>
  static constexpr bool has_norm = [] {
    if constexpr (detail::is_norm<typename PartType<At>::PreNorm>) {
      return true;
    } else if constexpr (is_parallel) {
      return false;
    } else {
      return detail::is_norm<typename detail::Nth<At, Connections...>::type::OutNorm>;
    }
  }();
  template <std::size_t At>
  static constexpr bool has_output_norm = detail::is_norm<typename PartType<At>::PostNorm>;

 public:
  /// For the constructors of placements.
  using Base = TransformerBlock;

  /// Its connections: two of a sublayer each, or one of both.
  TransformerBlock(const char* name, Connections... connections)
      : TransformerBlock(name, std::index_sequence_for<Connections...>{},
                         std::move(connections)...) {}

  /// The parts around attention; the norms where the placement has them.
  auto& attention_norm() requires(has_norm<0>) { return norm_of<0>(*this); }
  const auto& attention_norm() const requires(has_norm<0>) { return norm_of<0>(*this); }
  auto& attention() { return detail::unwrap(part<0>(*this).f); }
  const auto& attention() const { return detail::unwrap(part<0>(*this).f); }
  auto& attention_output_norm() requires(has_output_norm<0>) { return part<0>(*this).post; }
  const auto& attention_output_norm() const requires(has_output_norm<0>) {
    return part<0>(*this).post;
  }

  /// The parts around the feed-forward layer.
  auto& feed_forward_norm() requires(has_norm<1>) { return norm_of<1>(*this); }
  const auto& feed_forward_norm() const requires(has_norm<1>) { return norm_of<1>(*this); }
  auto& feed_forward() { return detail::unwrap(part<1>(*this).f); }
  const auto& feed_forward() const { return detail::unwrap(part<1>(*this).f); }
  auto& feed_forward_output_norm() requires(has_output_norm<1>) { return part<1>(*this).post; }
  const auto& feed_forward_output_norm() const requires(has_output_norm<1>) {
    return part<1>(*this).post;
  }

 private:
  template <std::size_t... At>
  TransformerBlock(const char* name, std::index_sequence<At...>, Connections&&... connections)
      : TransformerBlock::Chain(name, with_names<At>(std::move(connections))...) {}

  template <std::size_t At, class C>
  static C with_names(C&& connection) {
    std::size_t part = At;
    connection.branches.each(
        [&](auto& branch) { branch.name = part++ == 0 ? "attention" : "feed_forward"; });
    return std::move(connection);
  }
};

// The sublayers' parameters are not named like their members: GCC's -Wshadow minds where they are
// functions.

/// h = x + attention(norm(x));  y = h + feed_forward(norm(h))
template <class AttentionNorm, class Attention, class FeedForwardNorm, class FeedForward>
class PreLN : public detail::Accepted<TransformerBlock, PreLNConnection<AttentionNorm, Attention>,
                                      PreLNConnection<FeedForwardNorm, FeedForward>> {
  TOKENNORM_NORM_ARGUMENTS("PreLN", "norm, attention, norm, feed_forward", AttentionNorm, "1",
                           FeedForwardNorm, "3");

 public:
  /// The parts, in data order.
  PreLN(AttentionNorm attention_norm, Attention attend, FeedForwardNorm feed_forward_norm,
        FeedForward feed)
      : PreLN::Base("PreLN",
                    PreLNConnection<AttentionNorm, Attention>(
                        std::move(attention_norm), std::move(attend), NoNorm{}, NoNorm{}),
                    PreLNConnection<FeedForwardNorm, FeedForward>(
                        std::move(feed_forward_norm), std::move(feed), NoNorm{}, NoNorm{})) {}
};

/// h = norm(x + attention(x));  y = norm(h + feed_forward(h))
template <class Attention, class AttentionNorm, class FeedForward, class FeedForwardNorm>
class PostLN : public detail::Accepted<TransformerBlock, PostLNConnection<Attention, AttentionNorm>,
                                       PostLNConnection<FeedForward, FeedForwardNorm>> {
  TOKENNORM_NORM_ARGUMENTS("PostLN", "attention, norm, feed_forward, norm", AttentionNorm, "2",
                           FeedForwardNorm, "4");

 public:
  /// The parts, in data order.
  PostLN(Attention attend, AttentionNorm attention_norm, FeedForward feed,
         FeedForwardNorm feed_forward_norm)
      : PostLN::Base("PostLN",
                     PostLNConnection<Attention, AttentionNorm>(
                         NoNorm{}, std::move(attend), NoNorm{}, std::move(attention_norm)),
                     PostLNConnection<FeedForward, FeedForwardNorm>(
                         NoNorm{}, std::move(feed), NoNorm{}, std::move(feed_forward_norm))) {}
};

/// h = x + norm(attention(norm(x)));  y = h + norm(feed_forward(norm(h)))
template <class AttentionNorm, class Attention, class AttentionOutputNorm, class FeedForwardNorm,
          class FeedForward, class FeedForwardOutputNorm>
class SandwichLN
    : public detail::Accepted<
          TransformerBlock, SandwichLNConnection<AttentionNorm, Attention, AttentionOutputNorm>,
          SandwichLNConnection<FeedForwardNorm, FeedForward, FeedForwardOutputNorm>> {
  TOKENNORM_NORM_ARGUMENT(AttentionNorm, 1, "1", "SandwichLN",
                          "norm, attention, norm, norm, feed_forward, norm", AttentionNorm,
                          AttentionOutputNorm, FeedForwardNorm, FeedForwardOutputNorm);
  TOKENNORM_NORM_ARGUMENT(AttentionOutputNorm, 2, "3", "SandwichLN",
                          "norm, attention, norm, norm, feed_forward, norm", AttentionNorm,
                          AttentionOutputNorm, FeedForwardNorm, FeedForwardOutputNorm);
  TOKENNORM_NORM_ARGUMENT(FeedForwardNorm, 3, "4", "SandwichLN",
                          "norm, attention, norm, norm, feed_forward, norm", AttentionNorm,
                          AttentionOutputNorm, FeedForwardNorm, FeedForwardOutputNorm);
  TOKENNORM_NORM_ARGUMENT(FeedForwardOutputNorm, 4, "6", "SandwichLN",
                          "norm, attention, norm, norm, feed_forward, norm", AttentionNorm,
                          AttentionOutputNorm, FeedForwardNorm, FeedForwardOutputNorm);

 public:
  /// The parts, in data order.
  SandwichLN(AttentionNorm attention_norm, Attention attend,
             AttentionOutputNorm attention_output_norm, FeedForwardNorm feed_forward_norm,
             FeedForward feed, FeedForwardOutputNorm feed_forward_output_norm)
      : SandwichLN::Base("SandwichLN",
                         SandwichLNConnection<AttentionNorm, Attention, AttentionOutputNorm>(
                             std::move(attention_norm), std::move(attend),
                             std::move(attention_output_norm), NoNorm{}),
                         SandwichLNConnection<FeedForwardNorm, FeedForward, FeedForwardOutputNorm>(
                             std::move(feed_forward_norm), std::move(feed),
                             std::move(feed_forward_output_norm), NoNorm{})) {}
};

/// h = x + norm(attention(x));  y = h + norm(feed_forward(h))
template <class Attention, class AttentionOutputNorm, class FeedForward,
          class FeedForwardOutputNorm>
class ResPostLN
    : public detail::Accepted<TransformerBlock, ResPostLNConnection<Attention, AttentionOutputNorm>,
                              ResPostLNConnection<FeedForward, FeedForwardOutputNorm>> {
  TOKENNORM_NORM_ARGUMENTS("ResPostLN", "attention, norm, feed_forward, norm", AttentionOutputNorm,
                           "2", FeedForwardOutputNorm, "4");

 public:
  /// The parts, in data order.
  ResPostLN(Attention attend, AttentionOutputNorm attention_output_norm, FeedForward feed,
            FeedForwardOutputNorm feed_forward_output_norm)
      : ResPostLN::Base(
            "ResPostLN",
            ResPostLNConnection<Attention, AttentionOutputNorm>(
                NoNorm{}, std::move(attend), std::move(attention_output_norm), NoNorm{}),
            ResPostLNConnection<FeedForward, FeedForwardOutputNorm>(
                NoNorm{}, std::move(feed), std::move(feed_forward_output_norm), NoNorm{})) {}
};

/// h = norm(alpha·x + attention(x));  y = norm(alpha·h + feed_forward(h)); alpha is one of
/// deep_norm_scales(encoder_layers, decoder_layers).
template <class Attention, class AttentionNorm, class FeedForward, class FeedForwardNorm>
class DeepNorm
    : public detail::Accepted<TransformerBlock, PostLNConnection<Attention, AttentionNorm>,
                              PostLNConnection<FeedForward, FeedForwardNorm>> {
  TOKENNORM_NORM_ARGUMENTS("DeepNorm", "attention, norm, feed_forward, norm, alpha", AttentionNorm,
                           "2", FeedForwardNorm, "4");

 public:
  /// The parts, in data order, and α.
  DeepNorm(Attention attend, AttentionNorm attention_norm, FeedForward feed,
           FeedForwardNorm feed_forward_norm, double alpha)
      : DeepNorm::Base(
            "DeepNorm",
            PostLNConnection<Attention, AttentionNorm>(NoNorm{}, std::move(attend), NoNorm{},
                                                       std::move(attention_norm), alpha),
            PostLNConnection<FeedForward, FeedForwardNorm>(NoNorm{}, std::move(feed), NoNorm{},
                                                           std::move(feed_forward_norm), alpha)) {}
};

/// y = x + attention(norm(x)) + feed_forward(norm(x)), with a norm for each, or, of three
/// arguments, one for both.
template <class Norm, class Attention, class SecondNorm, class FeedForward>
class ParallelLN
    : public detail::Accepted<TransformerBlock,
                              ParallelConnection<Norm, Attention, SecondNorm, FeedForward>> {
  TOKENNORM_NORM_ARGUMENTS("ParallelLN",
                           "norm, attention, feed_forward or norm, attention, norm, feed_forward",
                           Norm, "1", SecondNorm, "3");

 public:
  /// The parts, in data order.
  ParallelLN(Norm attention_norm, Attention attend, SecondNorm feed_forward_norm, FeedForward feed)
      : ParallelLN::Base("ParallelLN", ParallelConnection<Norm, Attention, SecondNorm, FeedForward>(
                                           std::move(attention_norm), std::move(attend),
                                           std::move(feed_forward_norm), std::move(feed))) {}
  ParallelLN(Norm norm, Attention attend,
             FeedForward feed) requires(std::is_same_v<SecondNorm, SameNorm>)
      : ParallelLN(std::move(norm), std::move(attend), SameNorm{}, std::move(feed)) {}
};
/// Of three arguments.
template <class Norm, class Attention, class FeedForward>
ParallelLN(Norm, Attention, FeedForward) -> ParallelLN<Norm, Attention, SameNorm, FeedForward>;

// ---- blocks of any connections ------------------------------------------------------------------

/// A connection with a name for its parts: cross_attention_norm.scale, cross_attention.…
template <class ConnectionType>
struct Named {
  std::string name;           ///< "cross_attention"
  ConnectionType connection;  ///< with its parts
};

namespace detail {

template <class C>
C take_connection(Residual<C>&& residual) {
  return std::move(residual.template connection<0>());
}
template <class C>
C take_connection(TransformerBlock<C>&& parallel) {
  return std::move(parallel.template connection<0>());
}
template <class Out, class... Branches>
Connection<Out, Branches...> take_connection(Connection<Out, Branches...>&& connection) {
  return std::move(connection);
}
/// The parts take the name; those of a connection with two sublayers keep theirs behind it.
template <class C>
C with_name(const std::string& name, C&& connection) {
  connection.branches.each(
      [&](auto& branch) { branch.name = C::branch_count == 1 ? name : name + "_" + branch.name; });
  return std::move(connection);
}
template <class C>
C take_connection(Named<C>&& named) {
  return with_name(named.name, std::move(named.connection));
}

template <class T>
concept ConnectionSource = requires(T&& source) {
  take_connection(std::move(source));
};
template <class T>
using ConnectionIn = decltype(take_connection(std::declval<T&&>()));

}  // namespace detail

/// Names a connection's parts in a Block.
template <detail::ConnectionSource Source>
Named<detail::ConnectionIn<Source>> named(std::string name, Source connection) {
  return {std::move(name), detail::take_connection(std::move(connection))};
}

/// Connections of any placements, one after the other: encoder-decoders, macaron, hybrid norms.
///
///     Block(PreLNResidual(norm, self_attention), PreLNResidual(norm, cross_attention),
///           named("feed_forward", PreLNResidual(norm, feed_forward)))
///     block.connection<1>().norm(), .output_norm(), .sublayer()
///
/// Those without a name are sublayer_0, sublayer_1, …, by their place.
template <class... Connections>
class Block : public detail::Accepted<detail::Chain, Connections...> {
 public:
  /// The connections, in data order.
  template <detail::ConnectionSource... Sources>
  requires(sizeof...(Sources) == sizeof...(Connections)) explicit Block(Sources... connections)
      : Block(std::index_sequence_for<Sources...>{}, std::move(connections)...) {}

 private:
  template <std::size_t... At, class... Sources>
  Block(std::index_sequence<At...>, Sources&&... connections)
      : Block::Base("Block", placed(At, detail::take_connection(std::move(connections)))...) {}

  template <class C>
  static C placed(std::size_t at, C&& connection) {
    if (!connection.branch().name.empty()) return std::move(connection);
    return detail::with_name("sublayer_" + std::to_string(at), std::move(connection));
  }
};
/// Of anything that is a connection.
template <detail::ConnectionSource... Sources>
Block(Sources...) -> Block<detail::ConnectionIn<Sources>...>;

}  // namespace tokennorm
