// SPDX-License-Identifier: MIT
/// Sums over tokens, one for each channel: dγ and dβ. They are gathered over chunks of tokens whose
/// borders do not depend on who computes them, and the chunks are added up in their order, so that
/// the bits do not depend on the number of threads.
#pragma once

#include "tokennorm/kernels/operands.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

TOKENNORM_BEGIN_KERNELS

/// Tokens whose parameter gradients make one partial result; the partial results are added in the
/// wider type. Within a chunk the rounding of equal terms must not add up either: every few tokens
/// the sums move from the arithmetic type into double.
inline constexpr Index tokens_per_chunk = 64;
inline constexpr Index tokens_per_fold = 16;

inline Index chunk_count(Index tokens) {
  return (tokens + tokens_per_chunk - 1) / tokens_per_chunk;
}

/// Memory, not initialized, at the start of a cache line: a store that crosses lines costs two.
/// Kept from call to call, it is allocated anew only where more is needed. A copy starts without.
template <class T>
class KeptMemory {
 public:
  KeptMemory() = default;
  KeptMemory(const KeptMemory&) {}
  KeptMemory(KeptMemory&&) = default;
  KeptMemory& operator=(const KeptMemory&) { return *this; }
  KeptMemory& operator=(KeptMemory&&) = default;

  T* of_size(Index count) {
    if (data_ == nullptr || count > size_) {
      data_.reset();
      size_ = 0;  // also where this throws
      data_.reset(
          static_cast<T*>(::operator new(static_cast<std::size_t>(count) * sizeof(T), line)));
      size_ = count;
    }
    return data_.get();
  }

 private:
  static constexpr std::align_val_t line{64};
  struct Delete {
    void operator()(T* data) const { ::operator delete(data, line); }
  };
  std::unique_ptr<T, Delete> data_;
  Index size_ = 0;
};

/// What the sums of a call are kept in.
template <class A>
struct KeptSums {
  KeptMemory<A> recent;
  KeptMemory<double> total;
};

/// Memory for a call. A little of it is on the stack; more is the caller's, if it keeps some.
template <class T>
class Scratch {
 public:
  explicit Scratch(Index count, KeptMemory<T>* kept = nullptr)
      : data_(count <= few ? few_ : (kept == nullptr ? own_ : *kept).of_size(count)) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() { return data_; }

 private:
  static constexpr Index few = 2048;
  alignas(64) Array<T, int{few}> few_;
  KeptMemory<T> own_;
  T* data_;
};

/// to[c] = from[c] in double, or to[c] += from[c].
template <class From>
struct AddUpTask {
  double* to;
  const From* from;
  Index count;
  bool is_start;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int W = Level::template lanes<double>;
    const AddUpTask task = *this;  // a copy that the stores cannot change
    Index c = 0;
    for (; c + W <= task.count; c += W) {
      auto v = load<double, W>(task.from + c);
      if (!task.is_start) v += load<double, W>(static_cast<const double*>(task.to + c));
      store(task.to + c, v);
    }
    for (; c < task.count; ++c) {
      task.to[c] = static_cast<double>(task.from[c]) + (task.is_start ? 0.0 : task.to[c]);
    }
  }
};

/// Sums over the tokens of a chunk, one for each channel; in the memory of all chunks, a slot for
/// each but for those that for_each_fold adds up. One token after the other is added: the bits do
/// not depend on how many are added before the sums go back to memory.
template <class A>
struct ChannelSums {
  A* recent = nullptr;       // of up to tokens_per_fold tokens, or null: not wanted
  double* total = nullptr;   // of all those of a chunk; unused if these are all tokens there are
  bool is_gradient = false;  // recent is what the sums are to be added to in the end

  TOKENNORM_INLINE bool wanted() const { return recent != nullptr; }
  ChannelSums at(Index recent_slot, Index total_slot, Index channels) const {
    if (!wanted()) return {};
    return {recent + recent_slot * channels, total + total_slot * channels, is_gradient};
  }
  /// At the first token of a fold.
  TOKENNORM_INLINE void start(Index channels) const {
    if (wanted() && !is_gradient) std::fill_n(recent, channels, A(0));
  }
  /// Of a type that may be wider: the product of a token may be beyond the range of A, and its sum
  /// with what is there within it.
  template <class Wide>
  TOKENNORM_INLINE void add(Index c, Wide value) const {
    if (wanted()) recent[c] = static_cast<A>(static_cast<Wide>(recent[c]) + value);
  }
  /// Moves what is recent to the total, which starts here or not.
  void fold(Index channels, bool is_start) const {
    if (wanted()) dispatch(AddUpTask<A>{total, recent, channels, is_start});
  }
  /// Adds the total of the chunk in slot 1 to that of those before it, in slot 0.
  void add_next(Index channels) const {
    if (wanted()) dispatch(AddUpTask<double>{total, total + channels, channels, false});
  }
};

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
      TOKENNORM_UNROLL  // or GCC would keep it in memory, in the loop above as well
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
  GradientSums(Index tokens, Index channels, G* scale, G* shift, bool is_overwritten,
               KeptSums<A>* kept)
      : tokens_(tokens),
        channels_(channels),
        scale_(scale),
        shift_(shift),
        is_overwritten_(is_overwritten),
        recent_(goes_straight() ? 0 : size(), kept == nullptr ? nullptr : &kept->recent),
        total_(tokens > tokens_per_fold || (is_overwritten && !goes_straight()) ? size() : 0,
               kept == nullptr ? nullptr : &kept->total) {}

  ChannelSums<A> scale() { return of(scale_, 0); }
  ChannelSums<A> shift() { return of(shift_, scale_ == nullptr ? 0 : size_of_one()); }
  SumsProgress* progress() { return &progress_; }

  /// Adds the sums to the gradients; says whether some were left out, which are not finite and are
  /// to be taken again, in double.
  [[nodiscard]] bool add_to_gradients() {
    if (goes_straight() || tokens_ == 0) return false;
    bool is_left_out = false;
    if (scale_ != nullptr) dispatch(partials(scale(), scale_, &is_left_out));
    if (shift_ != nullptr) dispatch(partials(shift(), shift_, &is_left_out));
    return is_left_out;
  }
  /// Those sums: of each channel for the scale, then of each for the shift.
  void add_left_out(const double* precise) {
    if (scale_ != nullptr) add_left_out(partials(scale(), scale_, nullptr), precise);
    if (shift_ != nullptr) add_left_out(partials(shift(), shift_, nullptr), precise + channels_);
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

TOKENNORM_END_KERNELS
