// SPDX-License-Identifier: MIT
/// Norms whose channels are divided over the ranks of an MPI communicator, and gradients of tokens
/// that are.
///
///     #include <tokennorm/adapters/mpi.hpp>
///
///     auto norm = sharded(LayerNorm<float>(384), MPI_COMM_WORLD);   // of 768 on two ranks
///     norm(x, y);                                        // a norm: also of a block or a stack
///     norm.normalize(x, y, statistics);                  // PartialStatistics, of all channels
///     norm.backpropagate(x, statistics, dy, dx, gradients);
///     norm.normalize_sum(residual, update, sum, y);
///
///     auto pending = begin(q_norm, q, k_norm, k);        // one message for both
///     …                                                  // while it is on its way
///     pending.finish(q, k);                              // the results; here in place
///
///     all_reduce_gradients(stack, MPI_COMM_WORLD);       // of tokens that are divided
///     all_reduce_gradients(stack, MPI_COMM_WORLD, sum);  // a ReproducibleSum: the same bits
///                                                        // whatever the number of ranks
///
/// Shapes     x, y (T, C), C the channels of this rank; T the same on all ranks
/// Error      that of the norm, whatever the division of the channels. A sum of gradients is that
///            of MPI_SUM
/// Results    statistics have the same bits on every rank, and in every run on as many ranks: they
///            are merged in the order of the ranks
/// Messages   of a norm one MPI_Allreduce of 1.6 kB, forward or backward, for all tokens together
///            (by `begin` MPI_Iallreduce); where there are more than 64 (backward 96; in double 27
///            and 48) a second one with 24 bytes for each of the others (16; 56 and 32). Of a
///            backward with TokenStatistics, which it takes again, one more
/// Threads    the caller's, one at a time, as MPI_THREAD_FUNNELED has it; in a block with such a
///            norm an executor's threads do not take part in the step around it
/// Throws     as the norms. On all ranks alike, std::invalid_argument where they disagree about the
///            number of tokens, ε or the call, or where one has refused the operands of a norm or
///            of a block that begins with it. (Where a sublayer comes first, as in Post-LN, the
///            other ranks may be waiting in that: they are not told of a refusal.)
///            std::runtime_error with MPI's text where MPI fails
/// Needs      the CMake target tokennorm::mpi; MPI 3, initialized
#pragma once

#include "tokennorm/adapters/mpi_messages.hpp"
#include "tokennorm/core/reproducible_sum.hpp"
#include "tokennorm/core/saved_for_backward.hpp"
#include "tokennorm/norm/layer_norm.hpp"
#include "tokennorm/norm/rms_norm.hpp"
#include "tokennorm/norm/step_norm.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm {

namespace detail::mpi {

template <class S>
void pack(const PartialStatistics<S>& partial, std::vector<MomentsRecord<S>>& records) {
  for (Index t = 0; t < partial.m2.size(); ++t)
    records.push_back({moments_of(partial, t), partial.count});
}
/// The records from `first` on.
template <class S>
void unpack(const std::vector<MomentsRecord<S>>& records, std::size_t first,
            PartialStatistics<S>& partial) {
  for (Index t = 0; t < partial.m2.size(); ++t) {
    const auto& record = records[first + static_cast<std::size_t>(t)];
    set_moments(partial, t, record.moments);
    partial.count = record.count;
  }
}
template <class S>
void pack(const PartialGradientSums<S>& sums, std::vector<SumsRecord<S>>& records) {
  for (Index t = 0; t < sums.g.size(); ++t) records.push_back({sums.g[t], sums.gx[t]});
}
template <class S>
void unpack(const std::vector<SumsRecord<S>>& records, std::size_t first,
            PartialGradientSums<S>& sums) {
  for (Index t = 0; t < sums.g.size(); ++t) {
    const auto& record = records[first + static_cast<std::size_t>(t)];
    sums.g[t] = record.g;
    sums.gx[t] = record.gx;
  }
}

template <class S>
MomentsRecord<S> record_of(const PartialStatistics<S>&);
template <class S>
SumsRecord<S> record_of(const PartialGradientSums<S>&);
template <class Partial>
using RecordOf = decltype(record_of(std::declval<const Partial&>()));

inline void check_numbers_of_gradients(MPI_Comm communicator, std::size_t floats,
                                       std::size_t doubles) {
  const auto number = static_cast<long long>(floats + doubles);
  long long most[] = {number, -number, static_cast<long long>(floats),
                      -static_cast<long long>(floats)};
  check("MPI_Allreduce",
        MPI_Allreduce(MPI_IN_PLACE, most, 4, MPI_LONG_LONG, MPI_MAX, communicator));
  if (most[0] != -most[1] || most[2] != -most[3]) {
    fail({"all_reduce_gradients"},
         {"the ranks have ", static_cast<Index>(-most[1]), " to ", static_cast<Index>(most[0]),
          " gradients, of them ", static_cast<Index>(-most[3]), " to ", static_cast<Index>(most[2]),
          " of float; expected as many on all"});
  }
}

template <class Value>
void all_reduce(MPI_Comm communicator, std::vector<Value>& values, MPI_Datatype type,
                MPI_Op operation) {
  constexpr std::size_t most = std::size_t{1} << 30;  // MPI counts in int
  for (std::size_t i = 0; i < values.size(); i += most) {
    const int count = static_cast<int>(std::min(most, values.size() - i));
    check("MPI_Allreduce",
          MPI_Allreduce(MPI_IN_PLACE, values.data() + i, count, type, operation, communicator));
  }
}

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

  /// What the norm is, its parameters and their gradients: those of the channels here.
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
    pack(partial, exchange.records());
    exchange.begin(static_cast<int>(kind()), static_cast<Index>(exchange.records().size()),
                   options().epsilon);
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
    Index kinds = 1;
    exchange_.prepare([&] {
      each([&](const auto& norm, const auto& x, PartialStatistics<S>& partial, auto) {
        norm.norm_.partial_statistics(x, partial);
        detail::mpi::pack(partial, exchange_.records());
        kinds = 2 * kinds + static_cast<Index>(norm.kind());
      });
    });
    exchange_.begin(static_cast<int>(kinds), static_cast<Index>(exchange_.records().size()),
                    norm<0>().options().epsilon);
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

/// The gradients of a norm, block or stack, of the tokens here, become those of the tokens of all
/// ranks: every gradient that visit_parameters visits, in one message for those of float and one
/// for those of double, and a short one before.
///
/// Results  the same bits on every rank, and in every run on as many ranks with the same tokens
/// Throws   std::invalid_argument, on all ranks, where they have different numbers of gradients;
///          std::runtime_error where MPI fails
template <class Module>
void all_reduce_gradients(Module& module, MPI_Comm communicator) {
  using namespace detail::mpi;
  const MPI_Comm own = own_communicator(communicator);
  std::tuple<std::vector<float>, std::vector<double>> gradients;
  const auto of = [&](const auto& gradient) -> auto& {
    using Scalar = detail::ScalarOf<decltype(gradient)>;
    static_assert(std::is_same_v<Scalar, float> || std::is_same_v<Scalar, double>,
                  "tokennorm: gradients that are summed over ranks are of float or double.");
    return std::get<std::vector<Scalar>>(gradients);
  };
  module.visit_parameters([&](const std::string&, auto&, auto& gradient) {
    auto& all = of(gradient);
    all.insert(all.end(), gradient.data(), gradient.data() + gradient.size());
  });
  auto& [floats, doubles] = gradients;
  check_numbers_of_gradients(own, floats.size(), doubles.size());
  all_reduce(own, floats, MPI_FLOAT, MPI_SUM);
  all_reduce(own, doubles, MPI_DOUBLE, MPI_SUM);
  std::size_t next_float = 0, next_double = 0;
  module.visit_parameters([&](const std::string&, auto&, auto& gradient) {
    auto& all = of(gradient);
    std::size_t& next = sizeof(all[0]) == sizeof(float) ? next_float : next_double;
    std::copy_n(all.data() + next, gradient.size(), gradient.data());
    next += static_cast<std::size_t>(gradient.size());
  });
}

/// The same of sums that do not depend on how tokens are divided among ranks: those of all ranks
/// are merged, and become the module's gradients. One message of 32 bytes for each gradient (40 in
/// double), and a short one before.
template <class Module, class Scalar>
void all_reduce_gradients(Module& module, MPI_Comm communicator, ReproducibleSum<Scalar>& sum) {
  using namespace detail::mpi;
  const MPI_Comm own = own_communicator(communicator);
  auto& sums = sum.sums();
  check_numbers_of_gradients(own, sums.size(), 0);
  const auto& merging = Operation<detail::SumOfDigits<Scalar>>::get();
  all_reduce(own, sums, merging.type, merging.op);
  sum.move_to(module);
}

}  // namespace tokennorm
