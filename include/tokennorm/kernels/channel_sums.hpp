// SPDX-License-Identifier: MIT
/// Sums over tokens, one for each channel: dγ and dβ. They are gathered over chunks of tokens whose
/// borders do not depend on who computes them, and the chunks are added up in their order, so that
/// the bits do not depend on the number of threads.
#pragma once

#include "tokennorm/kernels/arguments.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
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
  /// Of a type that may be wider: the product of a token may be beyond the range of A, and its sum
  /// with what is there within it.
  template <class Wide>
  TOKENNORM_INLINE void add(Index c, Wide value, bool empty) const {
    recent[c] = static_cast<A>(empty ? value : static_cast<Wide>(recent[c]) + value);
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

/// What the kernels have found out about the sums of a call.
struct SumsProgress {
  Index added_up = 1;     // chunks of which the totals are added up in slot 0
  bool is_total = false;  // the sums of a single fold are in the total
};

/// The numbers that are finite. In terms of bits: also where the compiler was told that all are.
template <int W>
TOKENNORM_INLINE Lanes<std::int64_t, W> are_finite(const Lanes<double, W>& numbers) {
  using Bits = Lanes<std::int64_t, W>;
  const Bits bits = bit_cast_lanes<Bits>(opaque(numbers));
  return Bits((bits.native & 0x7fffffffffffffff) < 0x7ff0000000000000);
}
TOKENNORM_INLINE bool is_finite(double number) {
  return are_finite(Lanes<double, 2>(number))[0] != 0;
}
/// Of all lanes.
template <class A, int W>
TOKENNORM_INLINE bool is_finite(const Lanes<A, W>& numbers) {
  return is_finite(static_cast<double>(horizontal_sum(numbers)));
}

/// gradient[c] += the sum of the partial results, in their order. Sums that are not finite are left
/// out, and `is_left_out` says so, where there is somebody who asks for that.
template <class A, class G>
struct AddPartialsTask {
  ChannelSums<A> sums;
  Index tokens, channels;
  SumsProgress progress;
  G* gradient;
  bool* is_left_out;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using P = Precise<A>;
    const AddPartialsTask task = *this;  // a copy that the stores cannot change
    Index c = 0;
    if constexpr (std::is_same_v<P, double> && !std::is_same_v<G, long double>) {
      constexpr int W = Level::template lanes<double>;
      using V = Lanes<double, W>;
      using Bits = Lanes<std::int64_t, W>;
      const Bits all(std::int64_t{task.is_left_out != nullptr ? 0 : -1});
      Bits added(std::int64_t{-1});
      for (; c + W <= task.channels; c += W) {
        const auto sum = task.sum_of(
            c,
            [](const auto* from) __attribute__((always_inline)) { return load<double, W>(from); });
        const Bits is_added = are_finite(sum) | all;
        added = added & is_added;
        store(task.gradient + c, load<double, W>(static_cast<const G*>(task.gradient + c)) +
                                     bit_cast_lanes<V>(bit_cast_lanes<Bits>(sum) & is_added));
      }
      for (int i = 0; i < W; ++i) {
        if (added[i] == 0) *task.is_left_out = true;
      }
    }
    for (; c < task.channels; ++c) {
      const P sum = task.sum_at(c);
      if (task.is_left_out != nullptr && !is_finite(static_cast<double>(sum))) {
        *task.is_left_out = true;
      } else {
        task.gradient[c] = static_cast<G>(static_cast<P>(task.gradient[c]) + sum);
      }
    }
  }

  Precise<A> sum_at(Index c) const {
    return sum_of(c, [](const auto* from) { return static_cast<Precise<A>>(*from); });
  }

 private:
  template <class Get>
  TOKENNORM_INLINE auto sum_of(Index c, const Get& get) const {
    if (tokens <= tokens_per_fold && !progress.is_total) {
      return get(static_cast<const A*>(sums.recent + c));
    }
    auto sum = get(static_cast<const double*>(sums.total + c));
    for (Index slot = progress.added_up; slot < chunk_count(tokens); ++slot) {
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
  /// What is summed up may be overwritten by the call.
  GradientSums(Index tokens, Index channels, G* scale, G* shift, bool is_overwritten)
      : tokens_(tokens),
        channels_(channels),
        scale_(scale),
        shift_(shift),
        is_overwritten_(is_overwritten),
        recent_(goes_straight() ? 0 : size()),
        total_(tokens > tokens_per_fold || (is_overwritten && !goes_straight()) ? size() : 0) {}

  ChannelSums<A> scale() { return of(scale_, 0); }
  ChannelSums<A> shift() { return of(shift_, scale_ == nullptr ? 0 : size_of_one()); }
  SumsProgress* progress() { return &progress_; }

  /// Adds the sums to the gradients. Those that are not finite are asked for again, in double:
  /// again(scale sums, shift sums), each one for each channel.
  template <class Again>
  void finish(const Again& again) {
    if (goes_straight() || tokens_ == 0) return;
    bool is_left_out = false;
    const auto scale_sums = partials(scale(), scale_, &is_left_out);
    const auto shift_sums = partials(shift(), shift_, &is_left_out);
    if (scale_ != nullptr) dispatch(scale_sums);
    if (shift_ != nullptr) dispatch(shift_sums);
    if (is_left_out) [[unlikely]] {
      Scratch<double> precise(2 * channels_);
      again(precise.data(), precise.data() + channels_);
      if (scale_ != nullptr) add_left_out(scale_sums, precise.data());
      if (shift_ != nullptr) add_left_out(shift_sums, precise.data() + channels_);
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
  AddPartialsTask<A, G> partials(const ChannelSums<A>& sums, G* gradient, bool* is_left_out) const {
    const bool asks = std::is_same_v<A, float> && !is_overwritten_;
    return {sums, tokens_, channels_, progress_, gradient, asks ? is_left_out : nullptr};
  }
  static void add_left_out(const AddPartialsTask<A, G>& task, const double* precise) {
    for (Index c = 0; c < task.channels; ++c) {
      if (is_finite(static_cast<double>(task.sum_at(c)))) continue;
      task.gradient[c] = static_cast<G>(static_cast<double>(task.gradient[c]) + precise[c]);
    }
  }

  Index tokens_, channels_;
  G* scale_;
  G* shift_;
  bool is_overwritten_;
  SumsProgress progress_;
  Scratch<A> recent_;
  Scratch<double> total_;
};

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
