// SPDX-License-Identifier: MIT
/// Loads and stores of lanes from and to every memory type, whole or of the first n.
#pragma once

#include "tokennorm/kernels/simd/conversions.hpp"

#include <cstddef>
#include <cstring>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

template <class T, int W>
TOKENNORM_INLINE Lanes<T, W> load_raw(const void* p) {
  Lanes<T, W> result;
  std::memcpy(&result.native, p, sizeof(result.native));
  return result;
}

template <class T, int W>
TOKENNORM_INLINE void store_raw(void* p, const Lanes<T, W>& v) {
  std::memcpy(p, &v.native, sizeof(v.native));
}

/// W values from memory, in the arithmetic type.
template <class A, int W, class T>
TOKENNORM_INLINE Lanes<A, W> load(const T* p) {
  if constexpr (std::is_same_v<T, A>) {
    return load_raw<A, W>(p);
  } else if constexpr (std::is_same_v<T, double>) {
    return join(convert<A>(load_raw<T, W / 2>(p)), convert<A>(load_raw<T, W / 2>(p + W / 2)));
  } else if constexpr (std::is_same_v<T, float>) {
    return convert<A>(load_raw<float, W>(p));
  } else {
    return from_bits<A, T>(load_raw<short, W>(p));
  }
}

/// Stores W values, rounded to the memory type.
template <class A, int W, class T>
TOKENNORM_INLINE void store(T* p, const Lanes<A, W>& v) {
  if constexpr (std::is_same_v<T, A>) {
    store_raw(p, v);
  } else if constexpr (std::is_same_v<T, double>) {
    store_raw(p, convert<double>(lower_half(v)));
    store_raw(p + W / 2, convert<double>(upper_half(v)));
  } else if constexpr (std::is_same_v<T, float>) {
    store_raw(p, convert<float>(v));
  } else {
    store_raw(p, to_bits<T>(v));
  }
}

/// The same past the caches, where the memory type is the arithmetic type; p is aligned to the
/// vector.
template <class A, int W, class T>
TOKENNORM_INLINE void store_streaming(T* p, const Lanes<A, W>& v) {
#if defined(__x86_64__)
  if constexpr (std::is_same_v<T, A>) {
#if TOKENNORM_HAS_BUILTIN(__builtin_nontemporal_store)
    __builtin_nontemporal_store(v.native, reinterpret_cast<typename Lanes<A, W>::Native*>(p));
#else
    using Singles = Lanes<float, int{W * sizeof(A) / sizeof(float)}>;
    stream(p, bit_cast_lanes<Singles>(v).native);
#endif
    return;
  }
#endif
  store(p, v);
}

/// How many vectors had better be stored at once. Where the machine converts to bfloat16, two take
/// the time of one; and with a test for each vector, Clang keeps what the loop needs in memory. GCC
/// has too few registers for that at AVX2.
template <class T, class A, int W>
inline constexpr int stored_together = 1;
template <>
inline constexpr int stored_together<Eigen::bfloat16, float, 16> = 4;
#if defined(__clang__)
template <>
inline constexpr int stored_together<Eigen::bfloat16, float, 8> = 4;
#endif

/// Stores N vectors, rounded to the memory type.
template <class A, int W, class T, std::size_t N>
TOKENNORM_INLINE void store(T* p, const Lanes<A, W> (&v)[N]) {
#if defined(__x86_64__)
  if constexpr (N == 4 && std::is_same_v<T, Eigen::bfloat16> && std::is_same_v<A, float> &&
                W == 16) {
    if (detail::has_bfloat16()) [[likely]] {
      TOKENNORM_UNROLL
      for (int k = 0; k < 4; k += 2) {
        Bits16<2 * W> two;
        narrow_to_bfloat16(two.native, v[k].native, v[k + 1].native);
        store_raw(p + k * W, two);
      }
    } else {
      TOKENNORM_UNROLL
      for (int k = 0; k < 4; ++k) {
        store_raw(p + k * W, lower_bits(round_to_bfloat16(v[k])));
      }
    }
    return;
  }
#endif
  TOKENNORM_UNROLL
  for (std::size_t k = 0; k < N; ++k) store(p + k * W, v[k]);
}

/// Copies the first n < W elements in pieces of fixed size; n is not known at compile time, and a
/// call of memcpy costs more than the row of a small token.
template <int W, class T>
TOKENNORM_INLINE void copy_first(T* to, const T* from, Index n) {
  if constexpr (W > 1) {
    constexpr int piece = W / 2;
    if ((n & piece) != 0) {
      std::memcpy(static_cast<void*>(to), from, piece * sizeof(T));
      to += piece;
      from += piece;
    }
    copy_first<piece>(to, from, n);
  }
}

/// The first n < W values from memory, zero in the other lanes; touches nothing behind them.
template <class A, int W, class T>
TOKENNORM_INLINE Lanes<A, W> load_first(const T* p, Index n) {
  if constexpr (std::is_same_v<T, A> && has_masked_access<A, W* int{sizeof(A)}>) {
    Lanes<A, W> result;
    masked_load(result.native, p, static_cast<int>(n));
    return result;
  } else if constexpr (sizeof(T) == 2 && has_masked_access<short, W * 2>) {
    Bits16<W> bits;
    masked_load(bits.native, p, static_cast<int>(n));
    return from_bits<A, T>(bits);
  }
  alignas(64) Bytes<W * sizeof(T)> bytes = {};
  T* buffer = static_cast<T*>(static_cast<void*>(bytes));
  copy_first<W>(buffer, p, n);
  return load<A, W>(static_cast<const T*>(buffer));
}

/// Stores the first n < W values.
template <class A, int W, class T>
TOKENNORM_INLINE void store_first(T* p, const Lanes<A, W>& v, Index n) {
  if constexpr (std::is_same_v<T, A> && has_masked_access<A, W* int{sizeof(A)}>) {
    masked_store(p, v.native, static_cast<int>(n));
    return;
  } else if constexpr (sizeof(T) == 2 && has_masked_access<short, W * 2>) {
    masked_store(p, to_bits<T>(v).native, static_cast<int>(n));
    return;
  }
  alignas(64) Bytes<W * sizeof(T)> bytes;
  T* buffer = static_cast<T*>(static_cast<void*>(bytes));
  store(buffer, v);
  copy_first<W>(p, static_cast<const T*>(buffer), n);
}

/// The value as it will be read back after a store to memory of type T.
template <class T, class A, int W>
TOKENNORM_INLINE Lanes<A, W> rounded_to(const Lanes<A, W>& v) {
  if constexpr (std::is_same_v<T, A> || std::is_same_v<T, double>) {
    return opaque(
        v);  // not to be contracted with what follows: stored or not, the bits are the same
  } else if constexpr (std::is_same_v<T, Eigen::bfloat16> && W != 16) {
    const Words<W> words(round_to_bfloat16(to_single(v)).native << 16);  // not packed in between
    return convert<A>(bit_cast_lanes<Lanes<float, W>>(words));
  } else if constexpr (sizeof(T) == 2) {
    return from_bits<A, T>(to_bits<T>(v));
  } else {
    alignas(64) Bytes<W * sizeof(T)> bytes;
    T* buffer = static_cast<T*>(static_cast<void*>(bytes));
    store(buffer, v);
    return load<A, W>(static_cast<const T*>(buffer));
  }
}

TOKENNORM_END_KERNELS
