// SPDX-License-Identifier: MIT
/// A norm whose channels are divided over the ranks of a communicator; see mpi.hpp.
#pragma once

#include "tokennorm/adapters/mpi_messages.hpp"
#include "tokennorm/core/saved_for_backward.hpp"
#include "tokennorm/norm/layer_norm.hpp"
#include "tokennorm/norm/rms_norm.hpp"
#include "tokennorm/norm/step_norm.hpp"

#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm {

namespace detail::mpi {

template <class S>
MomentsRecord<S> record_of(const PartialStatistics<S>&);
template <class S>
SumsRecord<S> record_of(const PartialGradientSums<S>&);
template <class Partial>
using RecordOf = decltype(record_of(std::declval<const Partial&>()));

}  // namespace detail::mpi

template <class... NormsAndTokens>
class PendingNorms;

/// A norm of which this rank has some of the channels: see the top of this file. Its parameters and
/// their gradients are those of the channels here.
template <class NormType>
class Sharded {
 public:
  /// Those of the norm here.
  using ParamScalar = typename NormType::ParamScalar;
  using Vector = typename NormType::Vector;
  using GradientScalar = typename NormType::GradientScalar;
  using GradientVector = typename NormType::GradientVector;
  static_assert(NativeScalar<ParamScalar>,
                "tokennorm: a sharded norm is of float, double, half or bfloat16.");

  /// See `sharded`.
  explicit Sharded(NormType norm, MPI_Comm communicator)
      : norm_(std::move(norm)), communicator_(detail::mpi::own_communicator(communicator)) {}

  /// Each as of LayerNorm, of the channels here.
  Index channels() const { return norm_.channels(); }
  decltype(auto) options() const { return norm_.options(); }
  NormKind kind() const { return norm_.kind(); }
  Vector& scale() { return norm_.scale(); }
  const Vector& scale() const { return norm_.scale(); }
  Vector& shift() { return norm_.shift(); }
  const Vector& shift() const { return norm_.shift(); }
  NormGradients<GradientScalar>& gradients() { return norm_.gradients(); }
  void zero_gradients() { norm_.zero_gradients(); }
  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    norm_.visit_parameters(std::forward<Visitor>(visitor));
  }

  /// The calls of a norm; statistics are those of all channels.
  template <class X, Executor E = const Serial&>
  auto operator()(const X& x, E&& executor = serial) const {
    detail::PlainLike<X, detail::ScalarOf<X>> y;
    (*this)(x, y, executor);
    return y;
  }
  template <class X, class Y, Executor E = const Serial&>
  requires(!Executor<Y>) void operator()(const X& x, Y&& y, E&& executor = serial) const {
    PartialStatistics<Accumulator<detail::ScalarOf<X>, detail::ScalarOf<Y>>> partial;
    normalize(x, y, partial, executor);
  }
  template <class X, class Y, class S, Executor E = const Serial&>
  void normalize(const X& x, Y&& y, PartialStatistics<S>& merged, E&& executor = serial) const {
    merge(merged, [&] {
      check_result("y", y, x);
      norm_.partial_statistics(x, merged, executor);
    });
    norm_.apply(x, merged, y, executor);
  }
  template <class X, class Y, class S, Executor E = const Serial&>
  void normalize(const X& x, Y&& y, TokenStatistics<S>& stats, E&& executor = serial) const {
    PartialStatistics<S> merged;
    normalize(x, y, merged, executor);
    const Index tokens = merged.m2.size();
    stats.rstd.resize(tokens);
    stats.mean.resize(merged.mean.size());
    with_kind([&](const auto& part) {
      constexpr bool centred = std::remove_cvref_t<decltype(part)>::centred;
      for (Index t = 0; t < tokens; ++t) {
        const auto of_token = kernels::statistics_of<centred, S>(detail::moments_of(merged, t),
                                                                 merged.count, options().epsilon);
        stats.rstd(t) = static_cast<S>(of_token.precise_rstd[0]);
        if (centred) stats.mean(t) = static_cast<S>(of_token.mean[0]);
      }
    });
  }
  template <class X, class S, class DY, class DX, class G, Executor E = const Serial&>
  void backpropagate(const X& x, const TokenStatistics<S>&, const DY& dy, DX&& dx,
                     NormGradients<G>& gradients, E&& executor = serial) const {
    PartialStatistics<S> merged;
    merge(merged, [&] { norm_.partial_statistics(x, merged, executor); });
    backpropagate(x, merged, dy, dx, gradients, executor);
  }
  template <class X, class S, class DY, class DX, class G, Executor E = const Serial&>
  void backpropagate(const X& x, const PartialStatistics<S>& merged, const DY& dy, DX&& dx,
                     NormGradients<G>& gradients, E&& executor = serial) const {
    PartialGradientSums<S> sums;
    merge(sums, [&] {
      check_result("dx", dx, x);
      norm_.partial_gradient_sums(x, merged, dy, sums, executor);
    });
    norm_.backpropagate(x, merged, dy, sums, dx, gradients, executor);
  }
  template <class R, class U, class Sum, class Y, class S, Executor E = const Serial&>
  void normalize_sum(const R& residual, const U& update, Sum&& sum, Y&& y,
                     PartialStatistics<S>& merged, E&& executor = serial) const {
    merge(merged, [&] {
      check_result("y", y, residual);
      norm_.partial_statistics_sum(residual, update, sum, merged, executor);
    });
    norm_.apply(sum, merged, y, executor);
  }
  template <class R, class U, class Sum, class Y>
  requires(detail::is_dense<Sum>&& detail::is_dense<Y>) void normalize_sum(const R& residual,
                                                                           const U& update,
                                                                           Sum&& sum, Y&& y) const {
    PartialStatistics<Accumulator<detail::ScalarOf<R>, detail::ScalarOf<U>, detail::ScalarOf<Sum>,
                                  detail::ScalarOf<Y>>>
        merged;
    normalize_sum(residual, update, sum, y, merged);
  }
  template <class Sum, class S, class DY, class DSum, class DX, class G, Executor E = const Serial&>
  void backpropagate_sum(const Sum& sum, const PartialStatistics<S>& merged, const DY& dy,
                         const DSum& dsum, DX&& dx, NormGradients<G>& gradients,
                         E&& executor = serial) const {
    PartialGradientSums<S> sums;
    merge(sums, [&] {
      check_result("dx", dx, sum);
      norm_.partial_gradient_sums(sum, merged, dy, sums, executor);
    });
    norm_.backpropagate_sum(sum, merged, dy, sums, dsum, dx, gradients, executor);
  }

  /// As a module, in Param.
  template <class X>
  auto forward(const X& x) {
    memory_->valid = false;
    detail::copy_tokens(x, memory_->x);
    detail::PlainLike<X, ParamScalar> y;
    normalize(memory_->x, y, memory_->merged);
    memory_->valid = true;
    return y;
  }
  template <class DY>
  auto backward(const DY& dy) {
    if (!memory_->valid) detail::fail_backward_first(who());
    memory_->valid = false;
    detail::PlainLike<DY, ParamScalar> dx;
    backpropagate(memory_->x, memory_->merged, dy, dx, gradients());
    return dx;
  }

 private:
  friend struct detail::Internals;
  template <class... NormsAndTokens>
  friend class PendingNorms;

  struct Memory {
    TokenMatrix<ParamScalar> x;
    PartialStatistics<GradientScalar> merged;
    bool valid = false;
  };

  detail::Who who() const { return detail::Internals::who(norm_); }
  MPI_Comm divided_over() const { return communicator_; }
  decltype(auto) with_kind(const auto& f) { return detail::Internals::with_kind(norm_, f); }
  decltype(auto) with_kind(const auto& f) const { return detail::Internals::with_kind(norm_, f); }

  /// For a block that refuses its operands before this norm.
  void refuse() const {
    using namespace detail::mpi;
    Exchange<MomentsRecord<double>>(who(), communicator_, Waits::at_once).refuse();
  }

  void check_result(const char* name, auto& y, const auto& x) const {
    const auto in = detail::view_of(detail::addressable(x));
    const detail::Output output(who(), name, y, in.tokens, channels());
    output.check_apart("x", in);
  }

  /// What is made of the channels here becomes what it is of all of them.
  template <class Partial>
  void merge_parts(Partial& partial) const {
    merge(partial, [] {});
  }
  /// The same; where `make` throws, the other ranks are told.
  template <class Partial, class Make>
  void merge(Partial& partial, const Make& make) const {
    using namespace detail::mpi;
    Exchange<RecordOf<Partial>> exchange(who(), communicator_, Waits::at_once);
    exchange.prepare(make);
    exchange.add(*this, partial);
    exchange.begin();
    exchange.finish();
    unpack(exchange.records(), 0, partial);
  }

  NormType norm_;
  MPI_Comm communicator_;
  detail::SavedForBackward<Memory> memory_;
};

/// The norm of all channels, of which the ranks have those of their norms, in the order of ranks.
/// Called on all ranks of the communicator, whose first use it may be.
///
/// Throws   std::runtime_error where MPI fails
template <class NormType>
Sharded<NormType> sharded(NormType norm, MPI_Comm communicator) {
  return Sharded<NormType>(std::move(norm), communicator);
}

}  // namespace tokennorm
