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
#include <utility>

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

/// Sums over the tokens of a chunk, one for each channel; in the memory of all chunks, a slot for
/// each but for those that for_each_fold adds up.
template <class A>
struct ChannelSums {
  A* recent = nullptr;       // of up to tokens_per_fold tokens
  double* total = nullptr;   // of all those of a chunk; unused if these are all tokens there are
  bool is_gradient = false;  // recent is what the sums are to be added to in the end

  TOKENNORM_INLINE bool wanted() const { return recent != nullptr; }
  TOKENNORM_INLINE ChannelSums at(Index recent_slot, Index total_slot, Index channels) const {
    if (!wanted()) return {};
    return {recent + recent_slot * channels, total + total_slot * channels, is_gradient};
  }
  /// Whether nothing is there yet, at the first token of a fold or not.
  TOKENNORM_INLINE bool is_empty(bool at_first) const {
    return !wanted() || (at_first && !is_gradient);
  }
  /// What is there. One token after the other is added to it: the bits do not depend on how many
  /// are added before it is put back.
  template <int W>
  TOKENNORM_INLINE Lanes<A, W> get(Index c, bool empty) const {
    return empty ? Lanes<A, W>(A(0)) : load<A, W>(static_cast<const A*>(recent + c));
  }
  template <int W>
  TOKENNORM_INLINE Lanes<A, W> get_first(Index c, Index n, bool empty) const {
    return empty ? Lanes<A, W>(A(0)) : load_first<A, W>(static_cast<const A*>(recent + c), n);
  }
  template <int W>
  TOKENNORM_INLINE void put(Index c, const Lanes<A, W>& v) const {
    if (wanted()) store(recent + c, v);
  }
  template <int W>
  TOKENNORM_INLINE void put_first(Index c, const Lanes<A, W>& v, Index n) const {
    if (wanted()) store_first(recent + c, v, n);
  }
  TOKENNORM_INLINE void add(Index c, A value, bool empty) const {
    recent[c] = empty ? value : recent[c] + value;
  }
  /// Moves what is recent to the total, which starts here or not.
  template <class Level>
  TOKENNORM_INLINE void fold(Index channels, bool start) const {
    if (!wanted()) return;
    if (start) {
      add_up<Level, A, true>(total, recent, channels);
    } else {
      add_up<Level, A, false>(total, recent, channels);
    }
  }
  /// Adds the total of the chunk in slot 1 to that of those before it, in slot 0.
  template <class Level>
  TOKENNORM_INLINE void add_next(Index channels) const {
    if (wanted()) add_up<Level, double, false>(total, total + channels, channels);
  }

 private:
  template <class Level, class From, bool start>
  TOKENNORM_INLINE static void add_up(double* to, const From* from, Index channels) {
    constexpr int W = Level::template lanes<double>;
    Index c = 0;
    for (; c + W <= channels; c += W) {
      auto v = load<double, W>(from + c);
      if constexpr (!start) v += load<double, W>(static_cast<const double*>(to + c));
      store(to + c, v);
    }
    for (; c < channels; ++c) to[c] = static_cast<double>(from[c]) + (start ? 0.0 : to[c]);
  }
};

template <class A>
TOKENNORM_INLINE ChannelSums<A> in_registers(const ChannelSums<A>& sums) {
  return {in_register(sums.recent), in_register(sums.total), in_register(sums.is_gradient)};
}

/// gradient[c] += the sum of the partial results, in their order.
template <class A, class G>
struct AddPartialsTask {
  ChannelSums<A> sums;
  Index tokens, channels;
  Index added_up;  // so many of the first are in slot 0 already
  G* gradient;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using P = Precise<A>;
    const AddPartialsTask task = *this;  // a copy that the stores cannot change
    Index c = 0;
    if constexpr (std::is_same_v<P, double> && !std::is_same_v<G, long double>) {
      constexpr int W = Level::template lanes<double>;
      for (; c + W <= task.channels; c += W) {
        const auto sum = task.sum_of(
            c,
            [](const auto* from) __attribute__((always_inline)) { return load<double, W>(from); });
        store(task.gradient + c, load<double, W>(static_cast<const G*>(task.gradient + c)) + sum);
      }
    }
    for (; c < task.channels; ++c) {
      const P sum = task.sum_of(c, [](const auto* from) { return static_cast<P>(*from); });
      task.gradient[c] = static_cast<G>(static_cast<P>(task.gradient[c]) + sum);
    }
  }

 private:
  template <class Get>
  TOKENNORM_INLINE auto sum_of(Index c, const Get& get) const {
    if (tokens <= tokens_per_fold) return get(static_cast<const A*>(sums.recent + c));
    auto sum = get(static_cast<const double*>(sums.total + c));
    for (Index slot = added_up; slot < chunk_count(tokens); ++slot) {
      sum += get(static_cast<const double*>(sums.total + slot * channels + c));
    }
    return sum;
  }
};

/// The sums of a call: their memory, and the gradients that they go to in the end. One whose
/// gradient is null is not wanted.
template <class A, class G>
class GradientSums {
 public:
  GradientSums(Index tokens, Index channels, G* scale, G* shift)
      : tokens_(tokens),
        channels_(channels),
        scale_(scale),
        shift_(shift),
        recent_(goes_straight() ? 0 : size()),
        total_(tokens > tokens_per_fold ? size() : 0) {}

  ChannelSums<A> scale() { return of(scale_, 0); }
  ChannelSums<A> shift() { return of(shift_, scale_ == nullptr ? 0 : size_of_one()); }
  /// Chunks of which the sums are added up in the first slot.
  Index* added_up() { return &added_up_; }

  void finish() {
    if (goes_straight() || tokens_ == 0) return;
    for (const auto& [sums, gradient] : {std::pair(scale(), scale_), std::pair(shift(), shift_)}) {
      if (sums.wanted()) {
        dispatch(AddPartialsTask<A, G>{sums, tokens_, channels_, added_up_, gradient});
      }
    }
  }

 private:
  /// One token goes straight to the gradient. (Of several, each would be rounded against it.)
  bool goes_straight() const { return std::is_same_v<A, G> && tokens_ == 1; }
  Index size_of_one() const { return chunk_count(tokens_) * channels_; }
  Index size() const {
    return (Index{scale_ != nullptr} + Index{shift_ != nullptr}) * size_of_one();
  }
  ChannelSums<A> of(G* gradient, Index first) {
    if (gradient == nullptr) return {};
    if constexpr (std::is_same_v<A, G>) {
      if (goes_straight()) return {gradient, nullptr, true};
    }
    return {recent_.data() + first, total_.data() + first, false};
  }

  Index tokens_, channels_;
  G* scale_;
  G* shift_;
  Index added_up_ = 1;
  Scratch<A> recent_;
  Scratch<double> total_;
};

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
