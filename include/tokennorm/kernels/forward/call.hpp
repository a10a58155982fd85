// SPDX-License-Identifier: MIT
/// A forward call is data: what is absent is null.
///
///     s = α·residual + x,   y = N(s)                 without a residual: y = N(x)
///     y = α·residual + N(x)                          where the result is added
#pragma once

#include "tokennorm/kernels/operands.hpp"

#include <type_traits>

TOKENNORM_BEGIN_KERNELS

/// A norm of tokens. S is what a sum is rounded to, stored or not; without one, or where the result
/// is added, it is X: then a norm alone and a norm of a sum are one kernel.
template <bool Centred, class A, class X, class H, class S, class Y, class Param, class Statistic>
struct Forward {
  static constexpr bool centred = Centred;
  using Arithmetic = A;
  using Input = X;
  using Stream = H;
  using Normalized = S;
  using Output = Y;
  using Norm = NormArguments<Centred, Param, Statistic>;
  static constexpr bool may_be_plain = std::is_same_v<X, S>;
  static constexpr bool may_sum_in_y = std::is_same_v<S, Y>;

  Index tokens, channels;
  Operand<const X> x;
  Operand<const H> residual;  // null: none
  A alpha;
  Operand<S> sum;  // null: not wanted
  Norm norm;
  Operand<Y> y;
  bool adds_result = false;   // to the residual
  bool is_read_next = false;  // y, at once: it is to stay in a cache

  TOKENNORM_INLINE bool makes_sums() const { return residual.data != nullptr && !adds_result; }
  TOKENNORM_INLINE Index counted() const { return statistics_count(norm, channels); }
  TOKENNORM_INLINE void each_read(const auto& f) const {
    f(x);
    f(residual);
  }
  TOKENNORM_INLINE void each_written(const auto& f) const {
    f(sum);
    f(y);
  }
};

/// The rows of x as a place to be normalized in: they are not written to.
template <class Call>
TOKENNORM_INLINE Operand<typename Call::Normalized> rows_of_x(const Call& call) {
  static_assert(Call::may_be_plain);
  return {const_cast<typename Call::Normalized*>(call.x.data), call.x.token_stride, 1};
}

/// A copy that no store can change, and of which no load waits for a store.
template <class Call>
TOKENNORM_INLINE Call copy_of(const Call& call) {
  return {in_register(call.tokens), in_register(call.channels),
          in_registers(call.x),     in_registers(call.residual),
          in_register(call.alpha),  in_registers(call.sum),
          in_registers(call.norm),  in_registers(call.y),
          call.adds_result,         call.is_read_next};
}

TOKENNORM_END_KERNELS
