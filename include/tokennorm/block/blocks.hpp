// SPDX-License-Identifier: MIT
/// A transformer block: attention, then feed-forward, each with its residual connection.
/// Constructor and template arguments stand in the order in which data meets them.
///
///     PreLN(norm, attention, norm, feed_forward)                h = x + attention(norm(x))
///                                                               y = h + feed_forward(norm(h))
///     PostLN(attention, norm, feed_forward, norm)               h = norm(x + attention(x))
///                                                               y = norm(h + feed_forward(h))
///     SandwichLN(norm, attention, norm, norm, feed_forward, norm)
///                                                               h = x + norm(attention(norm(x)))
///                                                               y = h +
///                                                               norm(feed_forward(norm(h)))
///     ResPostLN(attention, norm, feed_forward, norm)            h = x + norm(attention(x))
///                                                               y = h + norm(feed_forward(h))
///     DeepNorm(attention, norm, feed_forward, norm, alpha)      h = norm(alpha·x + attention(x))
///                                                               y = norm(alpha·h +
///                                                               feed_forward(h))
///
/// Shapes, error, aliasing, what throws and the sources are those of residual_connections.hpp. The
/// residual add and the norms around it run as one fused step.
///
///     auto y = block(x);   block(x, y);   block(x, y, workspace);
///     auto y = block.forward(x);   auto dx = block.backward(dy);
///     block.attention_norm(), attention(), attention_output_norm(),
///     block.feed_forward_norm(), feed_forward(), feed_forward_output_norm(),
///     block.visit_parameters(visitor), block.zero_gradients()
#pragma once

#include "tokennorm/block/residual_connections.hpp"

#include <utility>

namespace tokennorm {

namespace detail {

/// A chain of two connections, with the names of its parts.
template <class Kind, class Attention, class FeedForward>
class Block : public Chain<Kind, Attention, FeedForward> {
 public:
  using Chain<Kind, Attention, FeedForward>::Chain;

  auto& attention_norm() requires(Attention::has_norm) {
    return this->template connection<0>().norm();
  }
  const auto& attention_norm() const requires(Attention::has_norm) {
    return this->template connection<0>().norm();
  }
  auto& attention() { return unwrap(this->template connection<0>().sublayer); }
  const auto& attention() const { return unwrap(this->template connection<0>().sublayer); }
  auto& attention_output_norm() requires(is_norm<typename Attention::PostNorm>) {
    return this->template connection<0>().post.norm;
  }
  const auto& attention_output_norm() const requires(is_norm<typename Attention::PostNorm>) {
    return this->template connection<0>().post.norm;
  }

  auto& feed_forward_norm() requires(FeedForward::has_norm) {
    return this->template connection<1>().norm();
  }
  const auto& feed_forward_norm() const requires(FeedForward::has_norm) {
    return this->template connection<1>().norm();
  }
  auto& feed_forward() { return unwrap(this->template connection<1>().sublayer); }
  const auto& feed_forward() const { return unwrap(this->template connection<1>().sublayer); }
  auto& feed_forward_output_norm() requires(is_norm<typename FeedForward::PostNorm>) {
    return this->template connection<1>().post.norm;
  }
  const auto& feed_forward_output_norm() const requires(is_norm<typename FeedForward::PostNorm>) {
    return this->template connection<1>().post.norm;
  }
};

struct PreLNKind {
  static constexpr const char* name = "PreLN";
  static constexpr auto& names = block_names;
};
struct PostLNKind {
  static constexpr const char* name = "PostLN";
  static constexpr auto& names = block_names;
};
struct SandwichLNKind {
  static constexpr const char* name = "SandwichLN";
  static constexpr auto& names = block_names;
};
struct ResPostLNKind {
  static constexpr const char* name = "ResPostLN";
  static constexpr auto& names = block_names;
};
struct DeepNormKind {
  static constexpr const char* name = "DeepNorm";
  static constexpr auto& names = block_names;
};

}  // namespace detail

// The sublayers' parameters are not named like their members: GCC's -Wshadow minds where they are
// functions.

/// h = x + attention(norm(x));  y = h + feed_forward(norm(h))
template <class AttentionNorm, class Attention, class FeedForwardNorm, class FeedForward>
class PreLN
    : public detail::Block<detail::PreLNKind, detail::PreLNConnection<AttentionNorm, Attention>,
                           detail::PreLNConnection<FeedForwardNorm, FeedForward>> {
 public:
  PreLN(AttentionNorm attention_norm, Attention attend, FeedForwardNorm feed_forward_norm,
        FeedForward feed)
      : PreLN::Block(detail::pre_ln(std::move(attention_norm), std::move(attend)),
                     detail::pre_ln(std::move(feed_forward_norm), std::move(feed))) {}
};

/// h = norm(x + attention(x));  y = norm(h + feed_forward(h))
template <class Attention, class AttentionNorm, class FeedForward, class FeedForwardNorm>
class PostLN
    : public detail::Block<detail::PostLNKind, detail::PostLNConnection<Attention, AttentionNorm>,
                           detail::PostLNConnection<FeedForward, FeedForwardNorm>> {
 public:
  PostLN(Attention attend, AttentionNorm attention_norm, FeedForward feed,
         FeedForwardNorm feed_forward_norm)
      : PostLN::Block(detail::post_ln(std::move(attend), std::move(attention_norm)),
                      detail::post_ln(std::move(feed), std::move(feed_forward_norm))) {}
};

/// h = x + norm(attention(norm(x)));  y = h + norm(feed_forward(norm(h)))
template <class AttentionNorm, class Attention, class AttentionOutputNorm, class FeedForwardNorm,
          class FeedForward, class FeedForwardOutputNorm>
class SandwichLN
    : public detail::Block<
          detail::SandwichLNKind,
          detail::SandwichLNConnection<AttentionNorm, Attention, AttentionOutputNorm>,
          detail::SandwichLNConnection<FeedForwardNorm, FeedForward, FeedForwardOutputNorm>> {
 public:
  SandwichLN(AttentionNorm attention_norm, Attention attend,
             AttentionOutputNorm attention_output_norm, FeedForwardNorm feed_forward_norm,
             FeedForward feed, FeedForwardOutputNorm feed_forward_output_norm)
      : SandwichLN::Block(detail::sandwich_ln(std::move(attention_norm), std::move(attend),
                                              std::move(attention_output_norm)),
                          detail::sandwich_ln(std::move(feed_forward_norm), std::move(feed),
                                              std::move(feed_forward_output_norm))) {}
};

/// h = x + norm(attention(x));  y = h + norm(feed_forward(h))
template <class Attention, class AttentionOutputNorm, class FeedForward,
          class FeedForwardOutputNorm>
class ResPostLN
    : public detail::Block<detail::ResPostLNKind,
                           detail::ResPostLNConnection<Attention, AttentionOutputNorm>,
                           detail::ResPostLNConnection<FeedForward, FeedForwardOutputNorm>> {
 public:
  ResPostLN(Attention attend, AttentionOutputNorm attention_output_norm, FeedForward feed,
            FeedForwardOutputNorm feed_forward_output_norm)
      : ResPostLN::Block(
            detail::res_post_ln(std::move(attend), std::move(attention_output_norm)),
            detail::res_post_ln(std::move(feed), std::move(feed_forward_output_norm))) {}
};

/// h = norm(alpha·x + attention(x));  y = norm(alpha·h + feed_forward(h)); alpha is one of
/// deep_norm_scales(encoder_layers, decoder_layers).
template <class Attention, class AttentionNorm, class FeedForward, class FeedForwardNorm>
class DeepNorm
    : public detail::Block<detail::DeepNormKind, detail::PostLNConnection<Attention, AttentionNorm>,
                           detail::PostLNConnection<FeedForward, FeedForwardNorm>> {
 public:
  DeepNorm(Attention attend, AttentionNorm attention_norm, FeedForward feed,
           FeedForwardNorm feed_forward_norm, double alpha)
      : DeepNorm::Block(detail::post_ln(std::move(attend), std::move(attention_norm), alpha),
                        detail::post_ln(std::move(feed), std::move(feed_forward_norm), alpha)) {}
};

}  // namespace tokennorm
