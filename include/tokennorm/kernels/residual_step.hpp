// SPDX-License-Identifier: MIT
// SHIM
#pragma once
#include "tokennorm/kernels/forward.hpp"
namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {
template <int Channels>
struct Extent {
  Index value;
  TOKENNORM_INLINE Index get() const { return value; }
};
template <int Channels>
TOKENNORM_INLINE Extent<Channels> in_registers(const Extent<Channels>& extent) {
  return {in_register(extent.value)};
}
namespace step {
using kernels::statistics_count;
using kernels::bytes_of;
using kernels::l1_bytes;
template <class View>
using Element = std::remove_cvref_t<decltype(*View::data)>;
}
template <class StoredAs, class A0, class Stream, class Update>
struct Sum {
  Stream stream;
  Update update;
  A0 alpha;
  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> get(Index c) const {
    return scaled_sum<StoredAs>(alpha, stream.template get<A, W>(c), update.template get<A, W>(c));
  }
  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> get_first(Index c, Index n) const {
    return scaled_sum<StoredAs>(alpha, stream.template get_first<A, W>(c, n),
                                update.template get_first<A, W>(c, n));
  }
  template <class A, int W = Baseline::lanes<A>>
  TOKENNORM_INLINE A at(Index c) const {
    if constexpr (requires { stream.template get_first<A, W>(c, 1); }) {
      return get_first<A, W>(c, 1)[0];
    } else {
      return get<A, W>(c)[0];
    }
  }
};
/// An operand that is read as the sum of two.
template <class T>
struct SumOfViews {
  TokenView<const T> first, second;
};

template <class T>
TOKENNORM_INLINE SumOfViews<T> in_registers(const SumOfViews<T>& sum) {
  return {in_registers(sum.first), in_registers(sum.second)};
}
template <class T>
TOKENNORM_INLINE auto column_of(const SumOfViews<T>& sum, Index token, Index count) {
  using A = Accumulator<T>;
  return Sum<T, A, Column<const T>, Column<const T>>{column_of(sum.first, token, count),
                                                     column_of(sum.second, token, count), A(1)};
}
template <class T>
TOKENNORM_INLINE auto row_of(const SumOfViews<T>& sum, Index token) {
  using A = Accumulator<T>;
  return Sum<T, A, Row<const T>, Row<const T>>{row_of(sum.first, token), row_of(sum.second, token),
                                               A(1)};
}

template <class T>
TOKENNORM_INLINE bool is_in(const void* result, const SumOfViews<T>& sum) {
  return is_in(result, sum.first) || is_in(result, sum.second);
}
template <int N, class F>
TOKENNORM_INLINE auto group_of(const F& f) {
  if constexpr (N == 1) {
    return Group<decltype(f(0)), N>{{f(0)}};
  } else {
    return Group<decltype(f(0)), N>{{f(0), f(1), f(2), f(3)}};
  }
}
template <int N, class T>
TOKENNORM_INLINE auto rows_of(const SumOfViews<T>& sum, Index token) {
  const auto first = rows_of<N>(sum.first, token), second = rows_of<N>(sum.second, token);
  return group_of<N>([&](int r) __attribute__((always_inline)) {
    auto row = row_of(sum, token);
    row.stream = first.row[r];
    row.update = second.row[r];
    return row;
  });
}
}
