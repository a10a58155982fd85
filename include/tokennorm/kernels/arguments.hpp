// SPDX-License-Identifier: MIT
/// What a kernel is given: norms as pointers and numbers, rows and columns as sources and sinks.
#pragma once

#include "tokennorm/core/token_view.hpp"
#include "tokennorm/kernels/lanes.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

using detail::TokenView;

/// An operand, norm or result that this call does not have.
struct Absent {};

/// A sum that is rounded to T as if it were stored, but is not.
template <class T>
struct NotStored {};

template <class T>
inline constexpr bool is_present = !std::is_same_v<std::remove_cv_t<T>, Absent>;

/// The type in which rows are redone whose sums overflow, underflow or cancel in the arithmetic
/// type.
template <class A>
using Precise = std::conditional_t<std::is_same_v<A, float>, double, long double>;

/// Rows that are worked on together, those of few channels and, after their sums, those of up to
/// grouped_channels: the latency of their roots is paid once, and γ and β are loaded once.
inline constexpr int rows_together = 4;

/// Something for each of N rows.
template <class T, int N>
struct Group {
  Array<T, N> row;
};

/// A row that will be needed soon and is far away: fetched while another one is worked on.
struct Ahead {
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

/// A number of channels, known at compile time or not.
template <int Channels>
struct Extent {
  Index value;
  TOKENNORM_INLINE Index get() const {
    if constexpr (Channels != Eigen::Dynamic) {
      return Channels;
    } else {
      return value;
    }
  }
};

/// A norm: LayerNorm where Centred, RMSNorm where not. Scale and shift are null when switched off;
/// the statistics go where mean and rstd point, if they do.
template <bool Centred, class Parameter, class Statistic>
struct NormArguments {
  static constexpr bool centred = Centred;
  using Param = Parameter;
  const Param* scale = nullptr;
  const Param* shift = nullptr;
  double scale_offset = 0;
  double epsilon = 0;
  Index statistics_channels = 0;
  Statistic* mean = nullptr;
  Statistic* rstd = nullptr;
};

/// Copies of arguments, number by number; see in_register.
template <int Channels>
TOKENNORM_INLINE Extent<Channels> in_registers(const Extent<Channels>& extent) {
  return {in_register(extent.value)};
}
template <class T>
TOKENNORM_INLINE TokenView<T> in_registers(const TokenView<T>& view) {
  return {in_register(view.data), in_register(view.tokens), in_register(view.channels),
          in_register(view.token_stride), in_register(view.channel_stride)};
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
template <class Other>
TOKENNORM_INLINE const Other& in_registers(const Other& other) {
  return other;
}

/// Zeros or ones. (By their bits: half and bfloat16 have no constexpr conversion.)
template <class T, std::size_t N>
constexpr std::array<T, N> repeated(int value) {
  if constexpr (sizeof(T) == 2) {
    constexpr std::uint16_t one = std::is_same_v<T, Eigen::half> ? 0x3c00 : 0x3f80;
    std::array<std::uint16_t, N> bits{};
    bits.fill(value == 0 ? 0 : one);
    return std::bit_cast<std::array<T, N>>(bits);
  } else {
    std::array<T, N> values{};
    values.fill(static_cast<T>(value));
    return values;
  }
}

/// The scale and shift of a norm at some channels. One that is switched off is read from a constant
/// with step 0, so that one loop serves all. To be copied into a loop: what stands elsewhere in
/// memory would be read again after every store.
template <class Level, class A, class Param>
class Affine {
 public:
  static constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;

  template <class Norm>
  TOKENNORM_INLINE explicit Affine(const Norm& norm)
      : offset_(norm.scale == nullptr ? A(0) : static_cast<A>(norm.scale_offset)),
        scale_(norm.scale == nullptr ? ones.data() : norm.scale),
        shift_(norm.shift == nullptr ? zeros.data() : norm.shift),
        scale_mask_(norm.scale == nullptr ? 0 : -1),
        shift_mask_(norm.shift == nullptr ? 0 : -1) {}

  TOKENNORM_INLINE V scale(Index c) const {
    return load<A, width>(scale_ + (c & scale_mask_)) + offset_;
  }
  TOKENNORM_INLINE V scale_first(Index c, Index n) const {
    return load_first<A, width>(scale_ + (c & scale_mask_), n) + offset_;
  }
  TOKENNORM_INLINE V shift_first(Index c, Index n) const {
    return load_first<A, width>(shift_ + (c & shift_mask_), n);
  }

  /// One vector of channels after the other.
  class Iterator {
   public:
    TOKENNORM_INLINE Iterator() {}
    TOKENNORM_INLINE Iterator(const Affine& affine, Index first)
        : offset_(affine.offset_),
          scale_(affine.scale_ + (first & affine.scale_mask_)),
          shift_(affine.shift_ + (first & affine.shift_mask_)),
          scale_step_(width & affine.scale_mask_),
          shift_step_(width & affine.shift_mask_) {}

    TOKENNORM_INLINE V scale() const { return load<A, width>(scale_) + offset_; }
    TOKENNORM_INLINE V shift() const { return load<A, width>(shift_); }
    TOKENNORM_INLINE V scale_first(Index n) const {
      return load_first<A, width>(scale_, n) + offset_;
    }
    TOKENNORM_INLINE V shift_first(Index n) const { return load_first<A, width>(shift_, n); }
    TOKENNORM_INLINE bool has_shift() const { return shift_step_ != 0; }
    TOKENNORM_INLINE void advance() {
      scale_ += scale_step_;
      shift_ += shift_step_;
    }

   private:
    V offset_{A(0)};
    const Param* scale_ = nullptr;
    const Param* shift_ = nullptr;
    Index scale_step_ = 0, shift_step_ = 0;
  };
  TOKENNORM_INLINE Iterator begin(Index first = 0) const { return Iterator(*this, first); }

  // One channel, alone and for all lanes.
  TOKENNORM_INLINE A scale_at(Index c) const {
    return static_cast<A>(scale_[c & scale_mask_]) + offset_[0];
  }
  TOKENNORM_INLINE A shift_at(Index c) const { return static_cast<A>(shift_[c & shift_mask_]); }
  TOKENNORM_INLINE V scale_of(Index c) const { return V(scale_at(c)); }
  TOKENNORM_INLINE V shift_of(Index c) const { return V(shift_at(c)); }

 private:
  alignas(64) static constexpr auto ones = repeated<Param, std::size_t{width}>(1);
  alignas(64) static constexpr auto zeros = repeated<Param, std::size_t{width}>(0);

  V offset_;
  const Param* scale_;
  const Param* shift_;
  Index scale_mask_, shift_mask_;
};

/// That of a norm, which may be absent.
template <class Level, class A, class Norm>
using AffineOf = Affine<Level, A, typename Norm::Param>;

// ---- where values come from and go to -----------------------------------------------------------

/// One row, its channels contiguous: lanes are channels.
template <class T>
struct Row {
  static constexpr bool same_at_every_level = true;
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
  static constexpr int put_together = stored_together<T, A, W>;
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
  template <class A, int = 0>
  TOKENNORM_INLINE A at(Index c) const {
    return static_cast<A>(data[c]);
  }
  template <class A, int = 0>  // the lanes, for the sinks that work through them
  TOKENNORM_INLINE void set(Index c, A value) const {
    store_first(data + c, Lanes<A, Baseline::lanes<A>>(value), 1);
  }
};

/// Some tokens at one channel: lanes are tokens. Read at once where they fill the lanes and are
/// contiguous, as in a column-major matrix; gathered from any other strides.
template <class T>
struct Column {
  static constexpr bool same_at_every_level = true;
  T* data;
  std::ptrdiff_t token_stride;  // of the width of an address, which Index may not have
  std::ptrdiff_t channel_stride;
  Index count;  // tokens there are, at most the lanes

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
  template <class A, int = 0>
  TOKENNORM_INLINE A at(Index c) const {
    return static_cast<A>(data[c * channel_stride]);
  }
  template <class A, int = 0>
  TOKENNORM_INLINE void set(Index c, A value) const {
    store_first(data + c * channel_stride, Lanes<A, Baseline::lanes<A>>(value), 1);
  }
  /// This column's token i, alone.
  TOKENNORM_INLINE Column one(Index i) const {
    return {data + i * token_stride, token_stride, channel_stride, 1};
  }
};

template <class T>
TOKENNORM_INLINE Ahead ahead(const Row<T>& row) {
  return {reinterpret_cast<const char*>(row.data), Index{sizeof(T)}};
}
TOKENNORM_INLINE Ahead ahead(Absent) { return {}; }

template <class T>
TOKENNORM_INLINE Row<T> row_of(const TokenView<T>& view, Index token) {
  return {view.row(token)};
}

template <class T>
TOKENNORM_INLINE Column<T> column_of(const TokenView<T>& view, Index token, Index count) {
  return {view.row(token), view.token_stride, view.channel_stride, count};
}

TOKENNORM_INLINE Absent row_of(Absent, Index) { return {}; }
TOKENNORM_INLINE Absent column_of(Absent, Index, Index) { return {}; }

/// α·h + u, rounded to the type it is, or would be, stored in.
template <class StoredAs, class A, int W>
TOKENNORM_INLINE Lanes<A, W> scaled_sum(A alpha, const Lanes<A, W>& h, const Lanes<A, W>& u) {
  // Without contraction into FMA, so that it is the same sum at every level.
  return rounded_to<StoredAs>(opaque(h * Lanes<A, W>(alpha)) + u);
}

// A subnormal bfloat16 is kept at one level and becomes zero at another.
template <class T>
inline constexpr bool rounds_the_same_at_every_level = !std::is_same_v<T, Eigen::bfloat16>;

/// A source: α·stream + update, rounded to the type it is, or would be, stored in.
template <class StoredAs, class A0, class Stream, class Update>
struct Sum {
  static constexpr bool same_at_every_level =
      Update::same_at_every_level && rounds_the_same_at_every_level<StoredAs>;
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
  /// Through the lanes, so that it has the bits that the lanes have.
  template <class A, int W = Baseline::lanes<A>>
  TOKENNORM_INLINE A at(Index c) const {
    if constexpr (requires { stream.template get_first<A, W>(c, 1); }) {
      return get_first<A, W>(c, 1)[0];
    } else {
      return get<A, W>(c)[0];
    }
  }
  TOKENNORM_INLINE Sum one(Index i) const { return {stream.one(i), update.one(i), alpha}; }
};

/// A row of results that are added to a stream: α·stream + y is stored, y rounded to RoundAs as if
/// it were.
template <class RoundAs, class A0, class Stream, class Summed>
struct AddedRow {
  static constexpr bool same_at_every_level =
      rounds_the_same_at_every_level<RoundAs> && rounds_the_same_at_every_level<Summed>;
  template <class, int>
  static constexpr int put_together = 1;
  Row<const Stream> stream;
  Row<Summed> sum;
  A0 alpha;

  template <class A, int W>
  TOKENNORM_INLINE void put(Index c, const Lanes<A, W>& y) const {
    sum.put(c, added(stream.template get<A, W>(c), y));
  }
  template <class A, int W>
  TOKENNORM_INLINE void put_first(Index c, const Lanes<A, W>& y, Index n) const {
    sum.put_first(c, added(stream.template get_first<A, W>(c, n), y), n);
  }
  template <class A, int W>
  TOKENNORM_INLINE void put_streaming(Index c, const Lanes<A, W>& y) const {
    sum.put_streaming(c, added(stream.template get<A, W>(c), y));
  }
  TOKENNORM_INLINE Index unaligned(Index width) const { return sum.unaligned(width); }
  /// One channel, through the lanes, so that it has the bits that the lanes have.
  template <class A, int W>
  TOKENNORM_INLINE void set(Index c, A value) const {
    put_first(c, Lanes<A, W>(value), 1);
  }

  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> added(const Lanes<A, W>& h, const Lanes<A, W>& y) const {
    return scaled_sum<Summed>(alpha, h, rounded_to<RoundAs>(y));
  }
};

/// Results that are added to a stream.
template <class RoundAs, class A, class Stream, class Summed>
struct AddedView {
  TokenView<const Stream> stream;
  TokenView<Summed> sum;
  A alpha;
};

template <class>
inline constexpr bool is_added_view = false;
template <class... Types>
inline constexpr bool is_added_view<AddedView<Types...>> = true;

template <class RoundAs, class A, class Stream, class Summed>
TOKENNORM_INLINE AddedView<RoundAs, A, Stream, Summed> in_registers(
    const AddedView<RoundAs, A, Stream, Summed>& view) {
  return {in_registers(view.stream), in_registers(view.sum), in_register(view.alpha)};
}
template <class RoundAs, class A, class Stream, class Summed>
TOKENNORM_INLINE AddedRow<RoundAs, A, Stream, Summed> row_of(
    const AddedView<RoundAs, A, Stream, Summed>& view, Index token) {
  return {row_of(view.stream, token), row_of(view.sum, token), view.alpha};
}

template <class RoundAs, class A, class Stream, class Summed>
TOKENNORM_INLINE Ahead ahead(const AddedRow<RoundAs, A, Stream, Summed>& row) {
  return ahead(row.sum);
}

/// Rows [token, token + N) of a view.
template <int N, class View>
TOKENNORM_INLINE auto rows_of(const View& view, Index token) {
  Group<decltype(row_of(view, token)), N> rows;
  if constexpr (is_present<View>) {
    auto* const data = view.row(token);
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r)
      rows.row[r] = {N == 1 ? data : in_register(data + std::ptrdiff_t{r} * view.token_stride)};
  }
  return rows;
}

/// A group of what f gives for each of its rows.
template <int N, class F>
TOKENNORM_INLINE auto group_of(const F& f) {
  if constexpr (N == 1) {
    return Group<decltype(f(0)), N>{{f(0)}};
  } else {
    static_assert(N == rows_together);
    return Group<decltype(f(0)), N>{{f(0), f(1), f(2), f(3)}};
  }
}

template <int N, class RoundAs, class A, class Stream, class Summed>
TOKENNORM_INLINE auto rows_of(const AddedView<RoundAs, A, Stream, Summed>& view, Index token) {
  const auto streams = rows_of<N>(view.stream, token);
  const auto sums = rows_of<N>(view.sum, token);
  return group_of<N>([&](int r) __attribute__((always_inline)) {
    return AddedRow<RoundAs, A, Stream, Summed>{streams.row[r], sums.row[r], view.alpha};
  });
}

/// Whether an operand stands in the memory of a result.
template <class T>
TOKENNORM_INLINE bool is_in(const void* result, const TokenView<T>& view) {
  return result == static_cast<const void*>(view.data);
}
TOKENNORM_INLINE bool is_in(const void*, Absent) { return false; }

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
