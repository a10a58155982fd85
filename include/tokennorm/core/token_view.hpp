// SPDX-License-Identifier: MIT
/// What the kernels see of an Eigen operand: a pointer, a shape and two strides.
#pragma once

#include "tokennorm/core/concepts.hpp"
#include "tokennorm/core/macros.hpp"
#include "tokennorm/core/scalar.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>

namespace tokennorm::detail {

/// Which index is contiguous in memory, and so which kernel runs. It follows from the type alone
/// where it can, so that the result for a token does not depend on how many stand around it.
enum class Layout {
  rows,      // the channels of a token are contiguous
  columns,   // they are not: several tokens are processed at a time, along the other direction
  run_time,  // a row-major operand with an inner stride known only at run time
};

template <class Scalar>
struct TokenView {
  Scalar* data = nullptr;
  Index tokens = 0;
  Index channels = 0;
  Index token_stride = 0;
  Index channel_stride = 1;

  Scalar* row(Index token) const { return data + std::ptrdiff_t{token} * token_stride; }
  bool empty() const { return tokens == 0 || channels == 0; }
};

template <class X>
inline constexpr Layout layout_of = [] {
  constexpr int inner = int(Eigen::internal::inner_stride_at_compile_time<Bare<X>>::ret);
  if (inner == Eigen::Dynamic) {
    return is_vector<X> || bool(Bare<X>::IsRowMajor) ? Layout::run_time : Layout::columns;
  }
  return inner == 1 && (is_vector<X> || bool(Bare<X>::IsRowMajor)) ? Layout::rows : Layout::columns;
}();

/// The view of an operand with direct access; of const elements unless it can be written to.
template <class X>
auto view_of(X&& x) {
  auto* data = x.data();
  using Element = std::remove_pointer_t<decltype(data)>;
  TokenView<Element> view{data, token_count(x), channel_count(x), 0, 1};
  if constexpr (is_vector<X>) {
    view.channel_stride = x.innerStride();
    view.token_stride = view.channels * view.channel_stride;
  } else {
    constexpr bool row_major = bool(Bare<X>::IsRowMajor);
    view.token_stride = row_major ? x.outerStride() : x.innerStride();
    view.channel_stride = row_major ? x.innerStride() : x.outerStride();
  }
  return view;
}

template <class Scalar>
TokenView<const Scalar> as_const(const TokenView<Scalar>& view) {
  return {view.data, view.tokens, view.channels, view.token_stride, view.channel_stride};
}

/// A view of whatever scalar.
struct AnyView {
  const volatile void* data;
  Index tokens, channels, token_stride, channel_stride;
  std::size_t element;  // bytes

  template <class Scalar>
  TOKENNORM_INLINE AnyView(const TokenView<Scalar>& view)
      : data(view.data),
        tokens(view.tokens),
        channels(view.channels),
        token_stride(view.token_stride),
        channel_stride(view.channel_stride),
        element(sizeof(Scalar)) {}
};

/// The elements of a view as bytes: an outer and an inner index with strides of ascending address.
struct Footprint {
  std::intptr_t begin;
  std::intptr_t outer_stride, inner_stride;
  std::intptr_t outer_count, inner_count;
  std::intptr_t element;

  [[gnu::noinline]] explicit Footprint(const AnyView& view)
      : begin(reinterpret_cast<std::intptr_t>(view.data)),
        outer_stride(view.token_stride * static_cast<std::intptr_t>(view.element)),
        inner_stride(view.channel_stride * static_cast<std::intptr_t>(view.element)),
        outer_count(view.tokens),
        inner_count(view.channels),
        element(static_cast<std::intptr_t>(view.element)) {
    make_ascending(outer_stride, outer_count);
    make_ascending(inner_stride, inner_count);
    if (outer_count > 1 && inner_stride > outer_stride) {
      std::swap(inner_stride, outer_stride);
      std::swap(inner_count, outer_count);
    }
  }

  bool empty() const { return outer_count == 0 || inner_count == 0; }
  std::intptr_t inner_extent() const { return (inner_count - 1) * inner_stride + element; }
  std::intptr_t end() const { return begin + (outer_count - 1) * outer_stride + inner_extent(); }

  /// Whether one of the elements shares a byte with [low, high).
  bool touches(std::intptr_t low, std::intptr_t high) const {
    const auto [first, last] =
        indices(low - begin, high - begin, outer_stride, outer_count, inner_extent());
    for (std::intptr_t i = first; i < last; ++i) {
      const std::intptr_t base = begin + i * outer_stride;
      const auto [from, to] = indices(low - base, high - base, inner_stride, inner_count, element);
      if (from < to) return true;
    }
    return false;
  }

 private:
  struct Range {
    std::intptr_t first, last;
  };

  /// The i in [0, count) for which [i·stride, i·stride + extent) meets [low, high).
  static Range indices(std::intptr_t low, std::intptr_t high, std::intptr_t stride,
                       std::intptr_t count, std::intptr_t extent) {
    if (stride == 0) return {0, low < extent && high > 0 ? std::intptr_t{1} : std::intptr_t{0}};
    const std::intptr_t before = low - extent;  // i·stride must exceed this
    const std::intptr_t first = before < 0 ? 0 : before / stride + 1;
    const std::intptr_t last = high <= 0 ? 0 : (high - 1) / stride + 1;
    return {first, std::min(last, count)};
  }

  /// Turns a dimension with a negative stride round; one of a single element has no stride.
  void make_ascending(std::intptr_t& stride, std::intptr_t& count) {
    if (count <= 1) stride = 0;
    if (stride < 0) {
      begin += (count - 1) * stride;
      stride = -stride;
    }
  }
};

/// Whether two views whose ranges of addresses meet share an element: exact for any strides.
[[gnu::noinline]] inline bool share_elements(const Footprint& a, const Footprint& b) {
  if (a.outer_stride == b.outer_stride && a.outer_count > 1 && b.outer_count > 1 &&
      a.inner_extent() <= a.outer_stride && b.inner_extent() <= b.outer_stride &&
      a.inner_stride <= a.element && b.inner_stride <= b.element) {
    // Column blocks of one buffer: where each begins within the common row decides.
    const std::intptr_t stride = a.outer_stride;
    const std::intptr_t offset = ((b.begin - a.begin) % stride + stride) % stride;
    if (offset >= a.inner_extent() && offset + b.inner_extent() <= stride) return false;
  }
  const bool contiguous = a.inner_stride <= a.element;
  for (std::intptr_t i = 0; i < a.outer_count; ++i) {
    const std::intptr_t run = a.begin + i * a.outer_stride;
    if (contiguous) {
      if (b.touches(run, run + a.inner_extent())) return true;
      continue;
    }
    for (std::intptr_t j = 0; j < a.inner_count; ++j) {
      const std::intptr_t at = run + j * a.inner_stride;
      if (b.touches(at, at + a.element)) return true;
    }
  }
  return false;
}

[[gnu::noinline]] inline bool share_memory(const Footprint& a, const Footprint& b) {
  if (a.empty() || b.empty() || a.end() <= b.begin || b.end() <= a.begin) return false;
  return share_elements(a, b);
}

/// The addresses from a first byte to behind the last, of one operand or of several. Inlined, as a
/// call of one token feels each check that it makes.
struct Addresses {
  std::intptr_t begin = std::numeric_limits<std::intptr_t>::max();  // none
  std::intptr_t end = std::numeric_limits<std::intptr_t>::min();

  TOKENNORM_INLINE bool meet(const Addresses& other) const {
    return begin < other.end && other.begin < end;
  }
  /// Those of an Eigen vector too.
  TOKENNORM_INLINE void include(const auto& vector) {
    if (vector.size() == 0) return;
    const auto first = reinterpret_cast<std::intptr_t>(vector.data());
    begin = std::min(begin, first);
    end =
        std::max(end, first + std::intptr_t{vector.size()} * std::intptr_t{sizeof(*vector.data())});
  }
};

/// Those of a view; where a stride is negative, which takes a closer look, all that there are. In
/// bytes, and of the width of an address: Eigen's index may be narrower.
TOKENNORM_INLINE Addresses addresses_of(const AnyView& view) {
  if ((view.token_stride | view.channel_stride) < 0) {
    return {std::numeric_limits<std::intptr_t>::min(), std::numeric_limits<std::intptr_t>::max()};
  }
  const auto begin = reinterpret_cast<std::intptr_t>(view.data);
  const std::intptr_t last = std::intptr_t{view.tokens - 1} * view.token_stride +
                             std::intptr_t{view.channels - 1} * view.channel_stride;
  return {begin, begin + (last + 1) * static_cast<std::intptr_t>(view.element)};
}

/// Whether the ranges of addresses are sure not to meet.
template <class A, class B>
TOKENNORM_INLINE bool are_apart(const TokenView<A>& a, const TokenView<B>& b) {
  return !addresses_of(a).meet(addresses_of(b));
}

/// Whether two elements of a view are one in memory: i·token_stride = j·channel_stride for some
/// numbers of tokens i and channels j, not both 0, that the view has. Exact for any strides.
[[gnu::noinline]] inline bool shares_own_elements(Index tokens, Index channels, Index token_stride,
                                                  Index channel_stride) {
  if (tokens == 0 || channels == 0) return false;
  if (tokens == 1 || channels == 1) {
    return (tokens > 1 && token_stride == 0) || (channels > 1 && channel_stride == 0);
  }
  const Index common = std::gcd(token_stride, channel_stride);
  return common == 0 ||
         (std::abs(channel_stride) / common < tokens && std::abs(token_stride) / common < channels);
}

/// The same, decided here for rows one behind the other.
template <class Scalar>
TOKENNORM_INLINE bool overlaps_itself(const TokenView<Scalar>& view) {
  if (view.channel_stride > 0 &&
      (view.tokens <= 1 ||
       view.token_stride >= std::ptrdiff_t{view.channels} * view.channel_stride)) [[likely]] {
    return false;
  }
  return shares_own_elements(view.tokens, view.channels, view.token_stride, view.channel_stride);
}

/// The same elements in the same places: address, shape, strides and scalar.
template <class A, class B>
TOKENNORM_INLINE bool same_view(const TokenView<A>& a, const TokenView<B>& b) {
  return std::is_same_v<std::remove_const_t<A>, std::remove_const_t<B>> &&
         static_cast<const void*>(a.data) == static_cast<const void*>(b.data) &&
         a.tokens == b.tokens && a.channels == b.channels &&
         (a.tokens <= 1 || a.token_stride == b.token_stride) &&
         (a.channels <= 1 || a.channel_stride == b.channel_stride);
}

}  // namespace tokennorm::detail
