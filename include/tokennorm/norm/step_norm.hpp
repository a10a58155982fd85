// SPDX-License-Identifier: MIT
/// A norm as a residual step sees it: data, whatever its type, with the function that runs it. So a
/// step is compiled once for all placements, and which kinds of norms it has is known when it runs.
#pragma once

#include "tokennorm/core/internals.hpp"
#include "tokennorm/norm/backward_pass.hpp"
#include "tokennorm/norm/norm_calls.hpp"
#include "tokennorm/norm/partial_statistics.hpp"

#include <functional>
#include <memory>
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
  PartialStatistics<A> merged;  // instead, of a norm whose channels are divided
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
      : norm_(nullptr), saved_(saved), run_(nullptr) {
    if constexpr (Internals::is_divided<NormType>) {
      norm_ = &norm;
      run_ = &run_divided_norm<NormType>;
      is_divided_ = true;
    } else if constexpr (is_norm<NormType>) {
      Internals::with_kind(norm, [&](const auto& of_kind) {
        using Kind = std::remove_cvref_t<decltype(of_kind)>;
        norm_ = &of_kind;
        run_ = &run_norm<Kind>;
        has_mean_ = Kind::centred;
      });
      is_divided_ = false;
    }
  }

  explicit operator bool() const { return norm_ != nullptr; }
  /// Whether it takes all rows at once.
  bool is_divided() const { return norm_ != nullptr && is_divided_; }
  /// Makes room for the statistics of so many tokens.
  void start(Index tokens) const {
    if (norm_ == nullptr || saved_ == nullptr || is_divided_) return;
    saved_->stats.rstd.resize(tokens);
    saved_->stats.mean.resize(has_mean_ ? tokens : 0);
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
        Internals::arguments<A>(*static_cast<const NormType*>(step.norm_),
                                step.saved_ == nullptr ? nullptr : &step.saved_->stats);
    if constexpr (NativeScalar<A>) {
      kernels::normalize_rows(call_of(norm, rows), begin, end);
    } else {
      kernels::generic::normalize(rows.x.view(rows.tokens, rows.channels),
                                  rows.y.view(rows.tokens, rows.channels), norm, begin, end);
    }
  }

  template <class NormType>
  static void run_divided_norm(const StepNorm& step, const NormRows<A, X, Y>& rows, Index, Index) {
    const auto& norm = *static_cast<const NormType*>(step.norm_);
    PartialStatistics<A> own;
    PartialStatistics<A>& partial = step.saved_ == nullptr ? own : step.saved_->merged;
    Internals::with_kind(norm, [&](const auto& part) {
      run_divided(call_of(Internals::arguments<A>(part), rows), partial,
                  [&] { Internals::merge_parts(norm, partial); });
    });
  }

  template <class Norm>
  static auto call_of(const Norm& norm, const NormRows<A, X, Y>& rows) {
    return kernels::Forward<Norm::centred, A, X, X, X, Y, typename Norm::Param, A>{
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
  }

  const void* norm_;
  SavedNorm<A>* saved_;
  void (*run_)(const StepNorm&, const NormRows<A, X, Y>&, Index, Index);
  bool has_mean_, is_divided_;
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
  void start(const Norm& norm, G* scale, G* shift, const Rows& rows, kernels::KeptSums<A>* kept,
             const kernels::DividedTokens<A>* divided = nullptr) {
    using Pass = typename PassOf<Norm::centred>::type;
    if constexpr (NativeScalar<A>) {
      ::new (&memory_) Pass(kernels::run_backward_rows, norm, rows.x, rows.dy, rows.dy_addend,
                            rows.dsum, rows.dx, scale, shift, kept, divided);
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

  /// The same over tokens whose channels are divided: `merge_parts(sums)` makes the sums those of
  /// all channels, when the pass runs, which takes all chunks at once.
  template <class Norm, class G, class MergeParts>
  void start_divided(const Norm& norm, const PartialStatistics<A>& merged, G* scale, G* shift,
                     const Rows& rows, kernels::KeptSums<A>* kept, const MergeParts& merge_parts) {
    struct Divided {
      DividedStatistics<Norm::centred, A> statistics;
      PartialGradientSums<A> sums{};
      kernels::DividedTokens<A> tokens{};
    };
    const auto divided = std::make_shared<Divided>(
        Divided{DividedStatistics<Norm::centred, A>(merged, norm.options().epsilon)});
    const auto arguments = Internals::saved_arguments<A>(norm, divided->statistics.rounded());
    start(arguments, scale, shift, rows, kept, &divided->tokens);
    prepare_ = [=] {
      take_gradient_sums(arguments, divided->statistics, rows.x, rows.dy, divided->sums, serial);
      merge_parts(divided->sums);
      divided->tokens = divided->statistics.with(divided->sums);
    };
  }

  explicit operator bool() const { return run_ != nullptr; }
  /// Chunks [begin, end).
  void run(Index begin, Index end) const {
    if (prepare_) prepare_();
    run_(*this, begin, end);
  }
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
  std::function<void()> prepare_;
};

/// A norm whose backward takes rows of DY to rows of DX; its own gradients are added to.
template <class A, class X, class DY, class DX, class Param>
class StepNormBackward {
 public:
  using Pass = StepBackward<A, X, DY, DX, Param>;

  StepNormBackward() = default;
  template <class NormType>
  StepNormBackward(NormType& norm, SavedNorm<A>& saved) {
    if constexpr (Internals::is_divided<NormType>) {
      norm_ = &norm;
      start_ = &start_divided<NormType>;
      saved_ = &saved;
      is_divided_ = true;
    } else if constexpr (is_norm<NormType>) {
      Internals::with_kind(norm, [&](auto& of_kind) {
        norm_ = &of_kind;
        start_ = &start_norm<std::remove_cvref_t<decltype(of_kind)>>;
      });
      saved_ = &saved;
    }
  }

  explicit operator bool() const { return norm_ != nullptr; }
  /// Whether its passes take all chunks at once.
  bool is_divided() const { return is_divided_; }
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
    pass.start(Internals::saved_arguments<A>(norm, stats),
               data(norm.options().scale, gradients.scale),
               data(norm.options().shift, gradients.shift), rows, &step.saved_->kept);
  }

  template <class NormType>
  static void start_divided(const StepNormBackward& step, Pass& pass,
                            const typename Pass::Rows& rows) {
    auto& norm = *static_cast<NormType*>(step.norm_);
    auto& gradients = norm.gradients();
    const auto& merged = step.saved_->merged;
    Internals::with_kind(norm, [&](auto& part) {
      using Kind = std::remove_cvref_t<decltype(part)>;
      if (merged.m2.size() != rows.x.tokens ||
          merged.mean.size() != (Kind::centred ? rows.x.tokens : 0)) [[unlikely]] {
        fail_backward_first(Internals::who(norm));
      }
      pass.start_divided(part, merged, data(norm.options().scale, gradients.scale),
                         data(norm.options().shift, gradients.shift), rows, &step.saved_->kept,
                         [&norm](auto& sums) { Internals::merge_parts(norm, sums); });
    });
  }

  static auto data(bool on, auto& gradient) { return on ? gradient.data() : nullptr; }

  void* norm_ = nullptr;
  SavedNorm<A>* saved_ = nullptr;
  void (*start_)(const StepNormBackward&, Pass&, const typename Pass::Rows&) = nullptr;
  bool is_divided_ = false;
};

}  // namespace detail
}  // namespace tokennorm
