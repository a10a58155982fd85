// SPDX-License-Identifier: MIT
/// What a kernel is given: norms as pointers and numbers, rows and columns as sources and sinks.
#pragma once

#include "tokennorm/core/concepts.hpp"
#include "tokennorm/core/token_view.hpp"
#include "tokennorm/kernels/simd/memory.hpp"
#include "tokennorm/kernels/simd/wide_double.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

using detail::TokenView;

using detail::Absent;
using detail::is_present;

#if TOKENNORM_HAS_WIDE_LONG_DOUBLE
using WiderThanDouble = long double;
#else
using WiderThanDouble = WideDouble;
#endif

/// The type in which rows are redone whose sums overflow, underflow or cancel in the arithmetic
/// type.
template <class A>
using Precise = std::conditional_t<std::is_same_v<A, float>, double, WiderThanDouble>;

/// Rows that are worked on together, those of few channels and, after their sums, those of up to
/// grouped_channels: the latency of their roots is paid once, and γ and β are loaded once.
inline constexpr int rows_together = 4;

/// Narrow rows are swept together, four at once, each into one accumulator at a time.
template <class A>
inline constexpr Index narrow_channels = Index{512} / Index{sizeof(A)};

/// Something for each of N rows.
template <class T, int N>
struct Group {
  Array<T, N> row;
};

/// A row that will be needed soon and is far away.
struct Prefetch {
  const char* row = nullptr;  // or null
  Index element = 0;          // bytes

  template <int Write>
  TOKENNORM_INLINE void fetch(Index begin, Index end) const {
    constexpr Index line = 64;
    if (row == nullptr) return;
    for (Index byte = begin * element; byte < end * element; byte += line) {
      __builtin_prefetch(row + byte, Write);
    }
  }
};

/// A norm: LayerNorm where Centred, RMSNorm where not. Scale and shift are null when switched off;
/// the statistics go where mean and rstd point, if they do.
template <bool Centred, class Parameter, class Saved>
struct NormArguments {
  static constexpr bool centred = Centred;
  using Param = Parameter;
  using Statistic = Saved;
  const Param* scale = nullptr;
  const Param* shift = nullptr;
  double scale_offset = 0;
  double epsilon = 0;
  Index statistics_channels = 0;
  Statistic* mean = nullptr;
  Statistic* rstd = nullptr;
};

/// The tokens of a call, of which it says how many there are and of how many channels.
template <class T>
struct Operand {
  T* data = nullptr;
  std::ptrdiff_t token_stride = 0;  // of the width of an address, which Index may not have
  std::ptrdiff_t channel_stride = 1;

  Operand() = default;
  TOKENNORM_INLINE Operand(T* d, std::ptrdiff_t token, std::ptrdiff_t channel)
      : data(d), token_stride(token), channel_stride(channel) {}
  TOKENNORM_INLINE Operand(const TokenView<T>& view)
      : Operand(view.data, view.token_stride, view.channel_stride) {}
  TOKENNORM_INLINE T* row(Index token) const { return data + token * token_stride; }
  /// None, with the strides of another: a call with many zeros in a row is filled by a loop, which
  /// costs more than a row of a few channels.
  template <class Other>
  TOKENNORM_INLINE static Operand none_beside(const Other& other) {
    return {nullptr, in_register(other.token_stride), in_register(other.channel_stride)};
  }
};

/// Copies of arguments, number by number; see in_register.
template <class T>
TOKENNORM_INLINE TokenView<T> in_registers(const TokenView<T>& view) {
  return {in_register(view.data), in_register(view.tokens), in_register(view.channels),
          in_register(view.token_stride), in_register(view.channel_stride)};
}
template <class T>
TOKENNORM_INLINE Operand<T> in_registers(const Operand<T>& operand) {
  return {in_register(operand.data), in_register(operand.token_stride),
          in_register(operand.channel_stride)};
}
template <bool Centred, class Param, class Statistic>
TOKENNORM_INLINE auto in_registers(const NormArguments<Centred, Param, Statistic>& norm) {
  return NormArguments<Centred, Param, Statistic>{in_register(norm.scale),
                                                  in_register(norm.shift),
                                                  in_register(norm.scale_offset),
                                                  in_register(norm.epsilon),
                                                  in_register(norm.statistics_channels),
                                                  in_register(norm.mean),
                                                  in_register(norm.rstd)};
}

// ---- where values come from and go to -----------------------------------------------------------

/// One row, its channels contiguous: lanes are channels.
template <class T>
struct Row {
  T* data;

  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> get(Index c) const {
    return load<A, W>(data + c);
  }
  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> get_first(Index c, Index n) const {
    return load_first<A, W>(data + c, n);
  }
  template <class A, int W>
  TOKENNORM_INLINE void put(Index c, const Lanes<A, W>& v) const {
    store(data + c, v);
  }
  template <class A, int W, std::size_t N>
  TOKENNORM_INLINE void put(Index c, const Lanes<A, W> (&v)[N]) const {
    store(data + c, v);
  }
  template <class A, int W>
  TOKENNORM_INLINE void put_first(Index c, const Lanes<A, W>& v, Index n) const {
    store_first(data + c, v, n);
  }
  template <class A, int W>
  TOKENNORM_INLINE void put_streaming(Index c, const Lanes<A, W>& v) const {
    store_streaming(data + c, v);
  }
  /// The channels before the first one that is aligned to so many of them.
  TOKENNORM_INLINE Index unaligned(Index width) const {
    const auto elements = reinterpret_cast<std::uintptr_t>(data) / sizeof(T);
    return static_cast<Index>(-elements & static_cast<std::uintptr_t>(width - 1));
  }
  /// One channel, for the rare paths.
  template <class A>
  TOKENNORM_INLINE A at(Index c) const {
    return static_cast<A>(data[c]);
  }
  template <class A>
  TOKENNORM_INLINE void set(Index c, A value) const {
    store_first(data + c, Lanes<A, Baseline::lanes<A>>(value), 1);
  }
};

/// f(c, n) for each vector of the channels [begin, end): n lanes of it, `width` but for the last.
template <int width, class F>
TOKENNORM_INLINE void for_each_vector(Index begin, Index end, const F& f) {
  Index c = begin;
  for (; c + width <= end; c += width) f(c, std::integral_constant<int, width>{});
  if (c < end) f(c, end - c);
}
/// The n lanes at c of a row, as for_each_vector names them.
template <class A, int W, class Row>
TOKENNORM_INLINE Lanes<A, W> get(const Row& row, Index c, std::integral_constant<int, W>) {
  return row.template get<A, W>(c);
}
template <class A, int W, class Row>
TOKENNORM_INLINE Lanes<A, W> get(const Row& row, Index c, Index n) {
  return row.template get_first<A, W>(c, n);
}
template <class A, int W, class Row>
TOKENNORM_INLINE void put(const Row& row, Index c, const Lanes<A, W>& v,
                          std::integral_constant<int, W>) {
  row.put(c, v);
}
template <class A, int W, class Row>
TOKENNORM_INLINE void put(const Row& row, Index c, const Lanes<A, W>& v, Index n) {
  row.put_first(c, v, n);
}

template <class V>
TOKENNORM_INLINE const V& only_first(const V& v, std::integral_constant<int, V::width>) {
  return v;
}
template <class V>
TOKENNORM_INLINE V only_first(const V& v, Index n) {
  return first_lanes(v, n);
}

/// Some tokens at one channel: lanes are tokens. Read at once where they fill the lanes and are
/// contiguous, as in a column-major matrix; gathered from any other strides.
template <class T>
struct Column {
  T* data = nullptr;
  std::ptrdiff_t token_stride = 0;  // of the width of an address, which Index may not have
  std::ptrdiff_t channel_stride = 0;
  Index count = 0;  // tokens there are, at most the lanes

  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> get(Index c) const {
    const T* p = data + c * channel_stride;
    if (token_stride == 1 && count == W) [[likely]]
      return load<A, W>(p);
    alignas(64) Bytes<sizeof(T)* W> bytes = {};
    auto* buffer = static_cast<std::remove_const_t<T>*>(static_cast<void*>(bytes));
    for (Index i = 0; i < count; ++i) buffer[i] = p[i * token_stride];
    return load<A, W>(static_cast<const T*>(buffer));
  }
  template <class A, int W>
  TOKENNORM_INLINE void put(Index c, const Lanes<A, W>& v) const {
    T* p = data + c * channel_stride;
    if (token_stride == 1 && count == W) [[likely]]
      return store(p, v);
    alignas(64) Bytes<sizeof(T) * W> bytes;
    T* buffer = static_cast<T*>(static_cast<void*>(bytes));
    store(buffer, v);
    for (Index i = 0; i < count; ++i) p[i * token_stride] = buffer[i];
  }
  /// One channel of the first token, for the rare paths.
  template <class A>
  TOKENNORM_INLINE A at(Index c) const {
    return static_cast<A>(data[c * channel_stride]);
  }
  template <class A>
  TOKENNORM_INLINE void set(Index c, A value) const {
    store_first(data + c * channel_stride, Lanes<A, Baseline::lanes<A>>(value), 1);
  }
  /// This column's token i, alone.
  TOKENNORM_INLINE Column one(Index i) const {
    return {data + i * token_stride, token_stride, channel_stride, 1};
  }
};

template <class T>
TOKENNORM_INLINE Prefetch prefetch_of(const Row<T>& row) {
  return {reinterpret_cast<const char*>(row.data), Index{sizeof(T)}};
}

template <class T>
TOKENNORM_INLINE Row<T> row_of(const TokenView<T>& view, Index token) {
  return {view.row(token)};
}

template <class T>
TOKENNORM_INLINE Operand<const T> as_const(const Operand<T>& operand) {
  return {operand.data, operand.token_stride, operand.channel_stride};
}
template <class T>
TOKENNORM_INLINE Row<T> row_of(const Operand<T>& operand, Index token) {
  return {operand.row(token)};
}
template <class T>
TOKENNORM_INLINE Column<T> column_of(const Operand<T>& operand, Index token, Index count) {
  return {operand.row(token), operand.token_stride, operand.channel_stride, count};
}
template <class T>
TOKENNORM_INLINE Column<T> column_of(const TokenView<T>& view, Index token, Index count) {
  return {view.row(token), view.token_stride, view.channel_stride, count};
}

/// α·h + u, rounded to the type it is, or would be, stored in.
template <class StoredAs, class A, int W>
TOKENNORM_INLINE Lanes<A, W> scaled_sum(A alpha, const Lanes<A, W>& h, const Lanes<A, W>& u) {
  // Without contraction into FMA, so that it is the same sum at every level.
  return rounded_to<StoredAs>(opaque(h * Lanes<A, W>(alpha)) + u);
}

/// A row that is read as the sum of two: α·residual + x, rounded to the type it is, or would be,
/// stored in.
template <class StoredAs, class A0, class Residual, class X>
struct SumRow {
  Residual residual;
  X x;
  A0 alpha;

  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> get(Index c) const {
    return scaled_sum<StoredAs>(alpha, residual.template get<A, W>(c), x.template get<A, W>(c));
  }
  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> get_first(Index c, Index n) const {
    return scaled_sum<StoredAs>(alpha, residual.template get_first<A, W>(c, n),
                                x.template get_first<A, W>(c, n));
  }
};

template <class StoredAs, class A, class H, class X>
TOKENNORM_INLINE SumRow<StoredAs, A, Row<const H>, Row<const X>> sum_row(
    A alpha, const Operand<const H>& residual, const Operand<const X>& x, Index token) {
  return {row_of(residual, token), row_of(x, token), alpha};
}

/// Rows [token, token + N) of a view.
template <int N, class View>
TOKENNORM_INLINE auto rows_of(const View& view, Index token) {
  Group<decltype(row_of(view, token)), N> rows;
  auto* const data = view.row(token);
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r)
    rows.row[r] = {N == 1 ? data : in_register(data + std::ptrdiff_t{r} * view.token_stride)};
  return rows;
}

/// s∘x: what each channel and each token of an update is multiplied by. What is absent is null.
template <class A>
struct Factors {
  A number = 1;
  const A* channels = nullptr;
  const A* tokens = nullptr;

  bool are_given() const { return number != A(1) || channels != nullptr || tokens != nullptr; }
  TOKENNORM_INLINE A of_token(Index t) const {
    return tokens == nullptr ? number : number * tokens[t];
  }
};

/// The channels that the statistics are taken of.
template <class Norm>
TOKENNORM_INLINE Index statistics_count(const Norm& norm, Index channels) {
  return Norm::centred || norm.statistics_channels == 0 ? channels : norm.statistics_channels;
}

/// Whether an operand stands in the memory of a result.
template <class T>
TOKENNORM_INLINE bool is_in(const void* result, const TokenView<T>& view) {
  return result == static_cast<const void*>(view.data);
}
template <class T>
TOKENNORM_INLINE bool is_in(const void* result, const Operand<T>& operand) {
  return result == static_cast<const void*>(operand.data);
}

TOKENNORM_END_KERNELS
