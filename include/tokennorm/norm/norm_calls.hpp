// SPDX-License-Identifier: MIT
/// The calls of LayerNorm and RMSNorm. Each checks the operands, chooses the kernel by their
/// layout, and hands tokens to the executor.
#pragma once

#include "tokennorm/kernels/backward/call.hpp"
#include "tokennorm/kernels/backward/rows.hpp"
#include "tokennorm/kernels/compiled.hpp"
#include "tokennorm/kernels/forward/rows.hpp"
#include "tokennorm/kernels/generic/norms.hpp"
#include "tokennorm/kernels/strided/backward.hpp"
#include "tokennorm/kernels/strided/forward.hpp"
#include "tokennorm/norm/backward_pass.hpp"
#include "tokennorm/norm/norm.hpp"

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>

namespace tokennorm::detail {

/// The layout of a call, whose kernel takes rows where all operands do.
template <class... Operands>
inline constexpr Layout common_layout = ((layout_of<Operands> == Layout::columns) || ...)
                                            ? Layout::columns
                                        : ((layout_of<Operands> == Layout::rows) && ...)
                                            ? Layout::rows
                                            : Layout::run_time;

template <class... Views>
bool all_contiguous(const Views&... views) {
  return ((views.channel_stride == 1) && ...);
}

/// The kernel of a call for the layout of its operands, of which no other is compiled than their
/// types leave possible.
template <class... Operands, class Call>
auto forward_kernel(const Call& call, bool contiguous)
    -> void (*)(const Call&, Index, Index) noexcept {
  constexpr Layout layout = common_layout<Operands...>;
  if constexpr (!Call::may_sum_in_y) {
    if (!kernels::has_place_for_sums(call)) return kernels::normalize_strided;
  }
  if constexpr (layout == Layout::rows) return kernels::normalize_rows;
  if constexpr (layout == Layout::columns) return kernels::normalize_strided;
  if constexpr (layout == Layout::run_time) {
    return contiguous ? kernels::normalize_rows<Call> : kernels::normalize_strided<Call>;
  }
}

/// Runs a call over all its tokens.
template <class... Operands, class Call, class E>
void run_forward(const Call& call, bool contiguous, E& executor) {
  const auto kernel = forward_kernel<Operands...>(call, contiguous);
  executor.parallel_for(call.tokens, token_grain(call.channels),
                        [&](Index begin, Index end) { kernel(call, begin, end); });
}

// ---- forward ------------------------------------------------------------------------------------

/// The scalar of a sum, or of what it would be stored with.
template <class Sum, class Otherwise>
struct SumScalar {
  using type = Otherwise;
};
template <class Sum, class Otherwise>
requires(is_dense<Sum>) struct SumScalar<Sum, Otherwise> {
  using type = ScalarOf<Sum>;
};

template <class Kind, class Param, int Channels>
template <class X, Executor E>
auto Norm<Kind, Param, Channels>::operator()(const X& x, E&& executor) const {
  if constexpr (check_operands<Channels, Read<X>>()) {
    PlainLike<X, ScalarOf<X>> y;
    (*this)(x, y, executor);
    return y;
  } else {
    return Refused{};
  }
}

template <class Kind, class Param, int Channels>
template <class S, class X, class Y, class E>
void Norm<Kind, Param, Channels>::forward_call(const X& x, Y& y, TokenStatistics<S>* stats,
                                               E& executor) const {
  using A = Accumulator<ScalarOf<X>, ScalarOf<Y>>;
  const auto& operand = addressable(x);
  const auto in = as_const(view_of(operand));
  check_input("x", in);
  const Output output(who(), "y", y, in.tokens, channels());
  output.check_apart("x", in);
  const OwnMemory<S, GradientScalar> own(*this, stats, nullptr);
  own.check_apart("y", output.view(), true);
  if (stats != nullptr) {
    own.check_apart("x", in, false);
    size_statistics(*stats, in.tokens);
  }
  const auto out = output.take();
  const auto pre = arguments<A>(stats);
  if constexpr (NativeScalar<A>) {
    using X0 = ScalarOf<X>;
    const kernels::Forward<centred, A, X0, X0, X0, ScalarOf<Y>, Param, S> call{
        in.tokens, channels(),
        in,        kernels::Operand<const X0>::none_beside(in),
        A(1),      kernels::Operand<X0>::none_beside(in),
        pre,       out};
    run_forward<decltype(operand), Y>(call, all_contiguous(in, out), executor);
  } else {
    executor.parallel_for(in.tokens, token_grain(channels()), [&](Index begin, Index end) {
      kernels::generic::normalize(in, out, pre, begin, end);
    });
  }
}

template <class Kind, class Param, int Channels>
template <class S, class R, class U, class Sum, class Y, class E>
void Norm<Kind, Param, Channels>::sum_call(const R& residual, const U& update, Sum&& sum, Y& y,
                                           TokenStatistics<S>* stats, E& executor) const {
  constexpr bool has_sum = is_dense<Sum>;
  const auto& residual_operand = addressable(residual);
  const auto& update_operand = addressable(update);
  const auto h = as_const(view_of(residual_operand));
  const auto u = as_const(view_of(update_operand));
  check_input("residual", h);
  check_shape(who(), "update", u, h.tokens, h.channels);
  const OwnMemory<S, GradientScalar> own(*this, stats, nullptr);
  if (stats != nullptr) {
    own.check_apart("residual", h, false);
    own.check_apart("update", u, false);
  }
  const auto check_output = [&](const char* name, const auto& output)
      __attribute__((always_inline)) {
    output.check_apart("residual", h);
    output.check_apart("update", u);
    own.check_apart(name, output.view(), true);
  };
  const Output output(who(), "y", y, h.tokens, channels());
  check_output("y", output);
  // Where the sum is not wanted it is still rounded as if it were stored with the residual.
  using Stored = typename SumScalar<Sum, ScalarOf<R>>::type;
  TokenView<Stored> s;
  if constexpr (has_sum) {
    const Output sum_output(who(), "sum", sum, h.tokens, channels());
    check_output("sum", sum_output);
    if (static_cast<const void*>(&sum) == static_cast<const void*>(&y)) {
      fail_overlap(who(), "y", "sum", false);
    }
    output.check_apart("sum", sum_output.view(), false);
    s = sum_output.take();
  }
  const auto out = output.take();
  if (stats != nullptr) size_statistics(*stats, h.tokens);
  using A = Accumulator<ScalarOf<R>, ScalarOf<U>, Stored, ScalarOf<Y>>;
  const auto pre = arguments<A>(stats);
  if constexpr (NativeScalar<A>) {
    const kernels::Forward<centred, A, ScalarOf<U>, ScalarOf<R>, Stored, ScalarOf<Y>, Param, S>
        call{h.tokens, channels(), u, h, A(1), s, pre, out};
    const bool contiguous = all_contiguous(h, u, s, out);
    if constexpr (has_sum) {
      run_forward<decltype(residual_operand), decltype(update_operand), Sum, Y>(call, contiguous,
                                                                                executor);
    } else {
      run_forward<decltype(residual_operand), decltype(update_operand), Y>(call, contiguous,
                                                                           executor);
    }
  } else {
    const auto stored = has_sum ? s : out;
    executor.parallel_for(h.tokens, token_grain(channels()), [&](Index begin, Index end) {
      kernels::generic::add(h, u, A(1), {}, stored, begin, end);
      kernels::generic::normalize(as_const(stored), out, pre, begin, end);
    });
  }
}

// ---- backward -----------------------------------------------------------------------------------

/// Of the scalar of the arithmetic; there are none of another.
template <class A, class S>
const kernels::DividedTokens<A>* divided_of(const kernels::DividedTokens<S>* divided) {
  if constexpr (std::is_same_v<A, S>) return divided;
  return nullptr;
}

template <class Kind, class Param, int Channels>
template <class X, class S, class DY, class DSum, class DX, class G, class E>
void Norm<Kind, Param, Channels>::backward_call(const char* x_name, const X& x,
                                                const TokenStatistics<S>& stats, const DY& dy,
                                                const DSum& dsum, DX& dx,
                                                NormGradients<G>& gradients, E& executor,
                                                const kernels::DividedTokens<S>* divided) const {
  constexpr bool has_dsum = is_present<DSum>;
  const auto& x_operand = addressable(x);
  const auto& dy_operand = addressable(dy);
  const auto in = as_const(view_of(x_operand));
  const auto out_gradient = as_const(view_of(dy_operand));
  check_input(x_name, in);
  check_shape(who(), "dy", out_gradient, in.tokens, channels());
  const auto check_statistics = [&](const char* which, Index size, Index expected) {
    if (size != expected) [[unlikely]]
      fail_size(who(), which, size, expected, ", one for each token");
  };
  check_statistics("stats.rstd", stats.rstd.size(), in.tokens);
  if constexpr (centred) check_statistics("stats.mean", stats.mean.size(), in.tokens);

  const auto& dsum_operand = [&]() -> decltype(auto) {
    if constexpr (has_dsum) {
      return addressable(dsum);
    } else {
      return (dsum);
    }
  }();
  const auto skip = [&] {
    if constexpr (has_dsum) {
      const auto view = as_const(view_of(dsum_operand));
      check_shape(who(), "dsum", view, in.tokens, channels());
      return view;
    } else {
      return TokenView<const ScalarOf<DX>>{};
    }
  }();
  check_gradients(gradients);
  const Output output(who(), "dx", dx, in.tokens, channels());
  const OwnMemory<S, G> own(*this, &stats, &gradients);
  const auto check_read = [&](const char* name, const auto& view) __attribute__((always_inline)) {
    output.check_apart(name, view);
    own.check_apart(name, view, false);
  };
  check_read(x_name, in);
  check_read("dy", out_gradient);
  if constexpr (has_dsum) check_read("dsum", skip);
  own.check_apart("dx", output.view(), true);
  size_gradients(gradients);
  const auto result = output.take();

  using X0 = ScalarOf<X>;
  if constexpr (NativeScalar<X0>) {
    using A = Accumulator<X0, ScalarOf<DY>, ScalarOf<DX>>;
    using Skip = std::conditional_t<has_dsum, decltype(dsum_operand), DX>;
    using Call =
        BackwardCall<A, X0, ScalarOf<DY>, ScalarOf<DX>, S, std::remove_cvref_t<ScalarOf<Skip>>>;
    const auto kernel = [&]() -> typename Call::Kernel {
      constexpr Layout layout = common_layout<decltype(x_operand), decltype(dy_operand), Skip, DX>;
      if constexpr (layout == Layout::rows) return kernels::run_backward_rows;
      if constexpr (layout == Layout::columns) return kernels::run_backward_columns;
      if constexpr (layout == Layout::run_time) {
        if (all_contiguous(in, out_gradient, skip, result)) return kernels::run_backward_rows;
        return kernels::run_backward_columns;
      }
    }();
    BackwardPass<Call, G> pass(kernel, saved_arguments<A>(stats), in, out_gradient, {}, skip,
                               result, options_.scale ? gradients.scale.data() : nullptr,
                               options_.shift ? gradients.shift.data() : nullptr, nullptr,
                               divided_of<A>(divided));
    for_chunks(in.tokens, channels(), executor,
               [&](Index begin, Index end) { pass.run(begin, end); });
    pass.finish();
  } else {
    kernels::generic::backward(in, out_gradient, skip, result, saved_arguments<X0>(stats),
                               options_.scale ? gradients.scale.data() : nullptr,
                               options_.shift ? gradients.shift.data() : nullptr);
  }
}

// ---- module -------------------------------------------------------------------------------------

template <class Kind, class Param, int Channels>
template <class X, Executor E>
auto Norm<Kind, Param, Channels>::forward(const X& x, E&& executor) {
  if constexpr (check_operands<Channels, Read<X>>()) {
    memory_->valid = false;  // nothing to go back from where this throws
    const auto& operand = addressable(x);
    check_input("x", view_of(operand));
    copy_tokens(operand, memory_->x);
    PlainLike<X, Param> y;
    normalize(memory_->x, y, memory_->stats, executor);
    memory_->valid = true;
    return y;
  } else {
    return Refused{};
  }
}

template <class Kind, class Param, int Channels>
template <class DY, Executor E>
auto Norm<Kind, Param, Channels>::backward(const DY& dy, E&& executor) {
  if constexpr (check_operands<Channels, Read<DY>>()) {
    if (!memory_->valid) fail_backward_first(who());
    const auto& operand = addressable(dy);
    check_shape(who(), "dy", view_of(operand), memory_->x.rows(), channels());
    check_parameters();
    memory_->valid = false;  // used up, whatever becomes of it
    PlainLike<DY, Param> dx;
    backpropagate(memory_->x, memory_->stats, operand, dx, gradients(), executor);
    return dx;
  } else {
    return Refused{};
  }
}

template <class Kind, class Param, int Channels>
template <class Visitor>
void Norm<Kind, Param, Channels>::visit_parameters(Visitor&& visitor) {
  check_parameters();
  const auto visit = [&](const char* name, Vector& value, GradientVector& gradient) {
    const std::string parameter = name;
    Eigen::Map<Vector> value_map(value.data(), value.size());
    Eigen::Map<GradientVector> gradient_map(gradient.data(), gradient.size());
    visitor(parameter, value_map, gradient_map);
  };
  if (options_.scale) visit("scale", scale_, gradients().scale);
  if (options_.shift) visit("shift", shift_, gradients().shift);
}

}  // namespace tokennorm::detail
