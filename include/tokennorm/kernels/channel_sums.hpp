// SPDX-License-Identifier: MIT
/// Sums over tokens, one for each channel: dγ and dβ. They are gathered over chunks of tokens whose
/// borders do not depend on who computes them, and the chunks are added up in their order, so that
/// the bits do not depend on the number of threads.
#pragma once

#include "tokennorm/kernels/arguments.hpp"

#include <algorithm>
#include <cstddef>
#include <new>
#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// Tokens whose parameter gradients make one partial result; the partial results are added in the
/// wider type. Within a chunk the rounding of equal terms must not add up either: every few tokens
/// the sums move from the arithmetic type into double.
inline constexpr Index tokens_per_chunk = 64;
inline constexpr Index tokens_per_fold = 16;

inline Index chunk_count(Index tokens) {
  return (tokens + tokens_per_chunk - 1) / tokens_per_chunk;
}

/// Memory for a call, not initialized, at the start of a cache line: a store that crosses lines
/// costs two. A little of it is on the stack.
template <class T>
class Scratch {
 public:
  explicit Scratch(Index count)
      : data_(count <= few ? few_
                           : static_cast<T*>(::operator new(
                                 static_cast<std::size_t>(count) * sizeof(T), line))) {}
  ~Scratch() {
    if (data_ != few_) ::operator delete(data_, line);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() { return data_; }

 private:
  static constexpr Index few = 2048;
  static constexpr std::align_val_t line{64};
  alignas(64) Array<T, int{few}> few_;
  T* data_;
};

/// Sums over the tokens of a chunk, one for each channel.
template <class A>
struct ChannelSums {
  A* recent = nullptr;       // of up to tokens_per_fold tokens
  double* total = nullptr;   // of those before, in a chunk of more
  bool is_gradient = false;  // recent is what the sums are to be added to in the end

  TOKENNORM_INLINE bool wanted() const { return recent != nullptr; }
  TOKENNORM_INLINE ChannelSums of_chunk(Index chunk, Index channels) const {
    if (!wanted()) return {};
    return {recent + chunk * channels, total + chunk * channels, is_gradient};
  }
  /// To what is there, unless the sums start here.
  template <int W>
  TOKENNORM_INLINE void add(Index c, const Lanes<A, W>& v, bool start) const {
    store(recent + c,
          start && !is_gradient ? v : load<A, W>(static_cast<const A*>(recent + c)) + v);
  }
  template <int W>
  TOKENNORM_INLINE void add_first(Index c, const Lanes<A, W>& v, Index n, bool start) const {
    store_first(
        recent + c,
        start && !is_gradient ? v : load_first<A, W>(static_cast<const A*>(recent + c), n) + v, n);
  }
  TOKENNORM_INLINE void add(Index c, A value, bool start) const {
    recent[c] = start && !is_gradient ? value : recent[c] + value;
  }
  template <class Level>
  TOKENNORM_INLINE void fold(Index channels, bool start) const {
    if (!wanted()) return;
    constexpr int W = Level::template lanes<double>;
    Index c = 0;
    for (; c + W <= channels; c += W) {
      auto v = load<double, W>(static_cast<const A*>(recent + c));
      if (!start) v += load<double, W>(static_cast<const double*>(total + c));
      store(total + c, v);
    }
    for (; c < channels; ++c) {
      total[c] = static_cast<double>(recent[c]) + (start ? 0.0 : total[c]);
    }
  }
};

/// gradient[c] += the sum of the partial results, in their order.
template <class A, class G>
struct AddPartialsTask {
  ChannelSums<A> sums;
  Index tokens, channels;
  G* gradient;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using P = Precise<A>;
    const Index chunks = chunk_count(tokens);
    // The last chunk has no total where it is short.
    const Index tokens_of_last = tokens - (chunks - 1) * tokens_per_chunk;
    const Index totals = tokens_of_last > tokens_per_fold ? chunks : chunks - 1;
    Index c = 0;
    if constexpr (std::is_same_v<P, double> && !std::is_same_v<G, long double>) {
      constexpr int W = Level::template lanes<double>;
      for (; c + W <= channels; c += W) {
        auto total = load<double, W>(static_cast<const G*>(gradient + c));
        for (Index chunk = 0; chunk < totals; ++chunk) {
          total += load<double, W>(static_cast<const double*>(sums.total + chunk * channels + c));
        }
        if (totals < chunks) {
          total += load<double, W>(static_cast<const A*>(sums.recent + totals * channels + c));
        }
        store(gradient + c, total);
      }
    }
    for (; c < channels; ++c) {
      P total = static_cast<P>(gradient[c]);
      for (Index chunk = 0; chunk < totals; ++chunk) {
        total += static_cast<P>(sums.total[chunk * channels + c]);
      }
      if (totals < chunks) total += static_cast<P>(sums.recent[totals * channels + c]);
      gradient[c] = static_cast<G>(total);
    }
  }
};

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
