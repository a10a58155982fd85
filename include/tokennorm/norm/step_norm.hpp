// SPDX-License-Identifier: MIT
/// A norm as a residual step sees it: data, whatever its type, with the function that runs it. So a
/// step is compiled once for all placements, and which kinds of norms it has is known when it runs.
#pragma once

#include "tokennorm/core/internals.hpp"
#include "tokennorm/norm/backward_pass.hpp"
#include "tokennorm/norm/norm_calls.hpp"

#include <new>
#include <type_traits>

namespace tokennorm {

/// Leaves a norm out.
struct NoNorm {};

/// In a connection of two sublayers: the second reads what the norm of the first gives.
struct SameNorm {};

namespace detail {

template <class NormType>
inline constexpr bool is_norm = !std::is_same_v<std::remove_cvref_t<NormType>, NoNorm> &&
                                !std::is_same_v<std::remove_cvref_t<NormType>, SameNorm>;

/// Whether the parameters are of that scalar, in which a block is trained.
template <class NormType, class Param>
inline constexpr bool trains_in = [] {
  if constexpr (is_norm<NormType>) {
    return std::is_same_v<typename NormType::ParamScalar, Param>;
  } else {
    return true;
  }
}();

/// What a norm leaves for its backward beside its input; and the memory that its backward needs.
template <class A>
struct SavedNorm {
  TokenStatistics<A> stats;
  kernels::KeptSums<A> kept;
};

/// Rows of a step: contiguous, and of its tokens and channels. Not initialized: a step has many
/// that it does not use.
template <class T>
struct StepRows {
  T* data;
  Index token_stride;

  StepRows() = default;
  TOKENNORM_INLINE StepRows(T* d, Index stride) : data(d), token_stride(stride) {}
  TOKENNORM_INLINE StepRows(const TokenView<T>& view) : StepRows(view.data, view.token_stride) {}
  TOKENNORM_INLINE operator StepRows<const T>() const { return {data, token_stride}; }
  TOKENNORM_INLINE TokenView<T> view(Index tokens, Index channels) const {
    return {data, tokens, channels, token_stride, 1};
  }
  TOKENNORM_INLINE kernels::Operand<T> operand() const { return {data, token_stride, 1}; }
};

/// The operands of a norm in a step: y = N(s), s = α·residual + x; or, where the result is added,
/// y = α·residual + N(x). A null residual is none, a sum that is null is not wanted.
template <class A, class X, class Y>
struct NormRows {
  Index tokens, channels;
  StepRows<const X> x, residual;
  A alpha;
  StepRows<X> sum;
  StepRows<Y> y;
  bool adds_result, is_read_next;
};

/// A norm that takes rows of X to rows of Y.
template <class A, class X, class Y>
class StepNorm {
 public:
  StepNorm() = default;
  /// Statistics are saved where there is a place for them.
  template <class NormType>
  explicit StepNorm(const NormType& norm, SavedNorm<A>* saved = nullptr)
      : norm_(nullptr), stats_(saved == nullptr ? nullptr : &saved->stats), run_(nullptr) {
    if constexpr (is_norm<NormType>) {
      Internals::with_kind(norm, [&](const auto& of_kind) {
        using Kind = std::remove_cvref_t<decltype(of_kind)>;
        norm_ = &of_kind;
        run_ = &run_norm<Kind>;
        if (stats_ != nullptr) has_mean_ = Kind::centred;
      });
    }
  }

  explicit operator bool() const { return norm_ != nullptr; }
  /// Makes room for the statistics of so many tokens.
  void start(Index tokens) const {
    if (norm_ == nullptr || stats_ == nullptr) return;
    stats_->rstd.resize(tokens);
    stats_->mean.resize(has_mean_ ? tokens : 0);
  }
  /// Rows [begin, end).
  void run(const NormRows<A, X, Y>& rows, Index begin, Index end) const {
    run_(*this, rows, begin, end);
  }

 private:
  template <class NormType>
  static void run_norm(const StepNorm& step, const NormRows<A, X, Y>& rows, Index begin,
                       Index end) {
    const auto norm =
        Internals::arguments<A>(*static_cast<const NormType*>(step.norm_), step.stats_);
    if constexpr (NativeScalar<A>) {
      using Norm = std::remove_const_t<decltype(norm)>;
      const kernels::Forward<Norm::centred, A, X, X, X, Y, typename Norm::Param, A> call{
          rows.tokens,
          rows.channels,
          rows.x.operand(),
          rows.residual.operand(),
          rows.alpha,
          rows.sum.operand(),
          norm,
          rows.y.operand(),
          rows.adds_result,
          rows.is_read_next};
      kernels::normalize_rows(call, begin, end);
    } else {
      kernels::generic::normalize(rows.x.view(rows.tokens, rows.channels),
                                  rows.y.view(rows.tokens, rows.channels), norm, begin, end);
    }
  }

  const void* norm_;
  TokenStatistics<A>* stats_;
  void (*run_)(const StepNorm&, const NormRows<A, X, Y>&, Index, Index);
  bool has_mean_;
};

// ---- backward -----------------------------------------------------------------------------------

/// The operands of a norm's backward: dx = dsum + the gradient of dy + dy_addend through the norm.
template <class X, class DY, class DX>
struct NormGradientRows {
  TokenView<const X> x;
  TokenView<const DY> dy;
  TokenView<const DY> dy_addend{};  // null: none
  TokenView<const DX> dsum{};
  TokenView<DX> dx{};
};

/// A pass of one kind or the other.
template <class A, class X, class DY, class DX, class Param>
class StepBackward {
  template <bool Centred>
  using Call = kernels::Backward<Centred, A, X, DY, DX, Param, A>;
  template <bool Centred>
  struct PassOf {
    using type = BackwardPass<Call<Centred>, Accumulator<Param>>;
  };
  template <bool Centred>
  requires(!NativeScalar<A>) struct PassOf<Centred> {
    using type = GenericBackwardPass<Centred, A>;
  };

 public:
  using Rows = NormGradientRows<X, DY, DX>;

  /// `norm` is what the kernels are given of it.
  template <class Norm, class G>
  void start(const Norm& norm, G* scale, G* shift, const Rows& rows, kernels::KeptSums<A>* kept) {
    using Pass = typename PassOf<Norm::centred>::type;
    if constexpr (NativeScalar<A>) {
      ::new (&memory_) Pass(kernels::run_backward_rows, norm, rows.x, rows.dy, rows.dy_addend,
                            rows.dsum, rows.dx, scale, shift, kept);
    } else {
      ::new (&memory_) Pass(norm, rows.x, rows.dy, rows.dsum, rows.dx, scale, shift);
    }
    run_ = [](const StepBackward& step, Index begin, Index end) {
      step.template pass<Pass>().run(begin, end);
    };
    finish_ = [](StepBackward& step) { step.template pass<Pass>().finish(); };
    destroy_ = [](StepBackward& step) { step.template pass<Pass>().~Pass(); };
  }

  StepBackward() {}
  ~StepBackward() {
    if (destroy_ != nullptr) destroy_(*this);
  }
  StepBackward(const StepBackward&) = delete;
  StepBackward& operator=(const StepBackward&) = delete;

  explicit operator bool() const { return run_ != nullptr; }
  /// Chunks [begin, end).
  void run(Index begin, Index end) const { run_(*this, begin, end); }
  void finish() {
    if (run_ != nullptr) finish_(*this);
  }

 private:
  template <class Pass>
  Pass& pass() {
    return *static_cast<Pass*>(static_cast<void*>(&memory_));
  }
  template <class Pass>
  const Pass& pass() const {
    return *static_cast<const Pass*>(static_cast<const void*>(&memory_));
  }

  // Not a std::variant, which fills it with zeros: it has room for sums.
  union Memory {
    Memory() {}
    ~Memory() {}
    typename PassOf<true>::type centred;
    typename PassOf<false>::type not_centred;
  } memory_;
  void (*run_)(const StepBackward&, Index, Index) = nullptr;
  void (*finish_)(StepBackward&) = nullptr;
  void (*destroy_)(StepBackward&) = nullptr;
};

/// A norm whose backward takes rows of DY to rows of DX; its own gradients are added to.
template <class A, class X, class DY, class DX, class Param>
class StepNormBackward {
 public:
  using Pass = StepBackward<A, X, DY, DX, Param>;

  StepNormBackward() = default;
  template <class NormType>
  StepNormBackward(NormType& norm, SavedNorm<A>& saved) {
    if constexpr (is_norm<NormType>) {
      Internals::with_kind(norm, [&](auto& of_kind) {
        norm_ = &of_kind;
        start_ = &start_norm<std::remove_cvref_t<decltype(of_kind)>>;
      });
      saved_ = &saved;
    }
  }

  explicit operator bool() const { return norm_ != nullptr; }
  void start(Pass& pass, const typename Pass::Rows& rows) const { start_(*this, pass, rows); }

 private:
  template <class NormType>
  static void start_norm(const StepNormBackward& step, Pass& pass,
                         const typename Pass::Rows& rows) {
    auto& norm = *static_cast<NormType*>(step.norm_);
    auto& gradients = norm.gradients();
    const auto& stats = step.saved_->stats;
    if (stats.rstd.size() != rows.x.tokens ||
        stats.mean.size() != (NormType::centred ? rows.x.tokens : 0)) [[unlikely]] {
      fail_backward_first(Internals::who(norm));  // it has become a norm of the other kind
    }
    const auto data = [](bool on, auto& gradient) { return on ? gradient.data() : nullptr; };
    pass.start(Internals::saved_arguments<A>(norm, stats),
               data(norm.options().scale, gradients.scale),
               data(norm.options().shift, gradients.shift), rows, &step.saved_->kept);
  }

  void* norm_ = nullptr;
  SavedNorm<A>* saved_ = nullptr;
  void (*start_)(const StepNormBackward&, Pass&, const typename Pass::Rows&) = nullptr;
};

}  // namespace detail
}  // namespace tokennorm
