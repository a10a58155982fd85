// SPDX-License-Identifier: MIT
// Every placement as its equation, in whatever arithmetic `apply` runs its parts.
#pragma once

#include "../norm/norm_kinds.hpp"
#include <tokennorm/block/stack.hpp>

#include <tuple>
#include <type_traits>
#include <variant>

namespace tokennorm::test {

/// Norms by the oracle, sublayers and sums in long double.
struct Exactly {
  using Tokens = ExactMatrix;
  template <class Part>
  static Tokens apply(const Part& part, const Tokens& x) {
    if constexpr (requires { part.options(); })
      return forward_oracle_of(part, x).y;
    else
      return part(x);
  }
  static Tokens apply(NoNorm, const Tokens& x) { return x; }
};

/// One part after the other, each result stored: what a block does in fewer sweeps.
template <class Scalar>
struct StepByStep {
  using Tokens = TokenMatrix<Scalar>;
  template <class Part>
  static Tokens apply(const Part& part, const Tokens& x) {
    return part(x);
  }
  static Tokens apply(NoNorm, const Tokens& x) { return x; }
};

template <class How, class N, class F>
auto equation(const PreLNResidual<N, F>& b, const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  return Tokens(x + How::apply(b.sublayer(), How::apply(b.norm(), x)));
}

template <class How, class F, class N>
auto equation(const PostLNResidual<F, N>& b, const typename How::Tokens& x) {
  return How::apply(b.norm(), x + How::apply(b.sublayer(), x));
}

template <class How, class N, class F, class M>
requires(!requires(F f) { f.layer_scale(); })  //
    auto equation(const SandwichLNResidual<N, F, M>& b, const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  return Tokens(x + How::apply(b.output_norm(), How::apply(b.sublayer(), How::apply(b.norm(), x))));
}

template <class How, class F, class N>
auto equation(const ResPostLNResidual<F, N>& b, const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  return Tokens(x + How::apply(b.output_norm(), How::apply(b.sublayer(), x)));
}

template <class How, class F, class N>
auto equation(const DeepNormResidual<F, N>& b, const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  const auto alpha = static_cast<typename Tokens::Scalar>(b.template connection<0>().alpha);
  return How::apply(b.norm(), alpha * x + How::apply(b.sublayer(), x));
}

template <class How, class N, class F, class M, class G>
auto equation(const PreLN<N, F, M, G>& b, const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  const Tokens h = x + How::apply(b.attention(), How::apply(b.attention_norm(), x));
  return Tokens(h + How::apply(b.feed_forward(), How::apply(b.feed_forward_norm(), h)));
}

template <class How, class F, class N, class G, class M>
auto equation(const PostLN<F, N, G, M>& b, const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  const Tokens h = How::apply(b.attention_norm(), x + How::apply(b.attention(), x));
  return How::apply(b.feed_forward_norm(), h + How::apply(b.feed_forward(), h));
}

template <class How, class N, class F, class P, class M, class G, class Q>
auto equation(const SandwichLN<N, F, P, M, G, Q>& b, const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  const Tokens u = How::apply(b.attention(), How::apply(b.attention_norm(), x));
  const Tokens h = x + How::apply(b.attention_output_norm(), u);
  const Tokens v = How::apply(b.feed_forward(), How::apply(b.feed_forward_norm(), h));
  return Tokens(h + How::apply(b.feed_forward_output_norm(), v));
}

template <class How, class F, class N, class G, class M>
auto equation(const ResPostLN<F, N, G, M>& b, const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  const Tokens h = x + How::apply(b.attention_output_norm(), How::apply(b.attention(), x));
  return Tokens(h + How::apply(b.feed_forward_output_norm(), How::apply(b.feed_forward(), h)));
}

template <class How, class F, class N, class G, class M>
auto equation(const DeepNorm<F, N, G, M>& b, const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  const auto alpha = static_cast<typename Tokens::Scalar>(b.template connection<0>().alpha);
  const Tokens h = How::apply(b.attention_norm(), alpha * x + How::apply(b.attention(), x));
  return How::apply(b.feed_forward_norm(), alpha * h + How::apply(b.feed_forward(), h));
}

template <class How, class N, class F, class G>
auto equation(const ParallelLN<N, F, SameNorm, G>& b, const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  const Tokens n = How::apply(b.attention_norm(), x);
  return Tokens(x + How::apply(b.attention(), n) + How::apply(b.feed_forward(), n));
}

template <class How, class N, class F, class M, class G>
requires(!std::is_same_v<M, SameNorm>)  //
    auto equation(const ParallelLN<N, F, M, G>& b, const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  const Tokens n = How::apply(b.attention_norm(), x), m = How::apply(b.feed_forward_norm(), x);
  return Tokens(x + How::apply(b.attention(), n) + How::apply(b.feed_forward(), m));
}

/// A learned factor is behind the norm on the update, and with it a number within.
template <class How, class N, class F, class P, class M>
auto equation(const SandwichLNResidual<N, LayerScale<Scaled<F>, P>, M>& b,
              const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  using S = typename Tokens::Scalar;
  const auto& f = b.sublayer().sublayer();
  const Tokens u = How::apply(f.sublayer(), How::apply(b.norm(), x));
  const Tokens scaled = (How::apply(b.output_norm(), u) * static_cast<S>(f.factor())) *
                        b.sublayer().layer_scale().template cast<S>().asDiagonal();
  return Tokens(x + scaled);
}

template <class How, class A, class B, class C>
auto equation(const Block<A, B, C>& b, const typename How::Tokens& x) {
  using Tokens = typename How::Tokens;
  const auto& pre = b.template connection<0>();
  const auto& sandwich = b.template connection<1>();
  const auto& post = b.template connection<2>();
  const auto alpha = static_cast<typename Tokens::Scalar>(post.alpha);
  const Tokens h = x + How::apply(pre.sublayer(), How::apply(pre.norm(), x));
  const Tokens u = How::apply(sandwich.sublayer(), How::apply(sandwich.norm(), h));
  const Tokens g = h + How::apply(sandwich.output_norm(), u);
  return How::apply(post.norm(), alpha * g + How::apply(post.sublayer(), g));
}

template <class How, class E, class B, class N>
auto equation(const Stack<E, B, N>& s, const typename How::Tokens& x) {
  typename How::Tokens h = How::apply(s.embedding_norm(), x);
  const auto apply = [&](const auto& block) { h = equation<How>(block, h); };
  if constexpr (requires { s.blocks().size(); }) {
    for (const auto& block : s.blocks()) {
      if constexpr (requires { block.index(); }) {
        std::visit(apply, block);
      } else {
        apply(block);
      }
    }
  } else {
    std::apply([&](const auto&... block) { (apply(block), ...); }, s.blocks());
  }
  return How::apply(s.final_norm(), h);
}

}  // namespace tokennorm::test
