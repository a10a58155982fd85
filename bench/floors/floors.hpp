// SPDX-License-Identifier: MIT
/// Floors: what the memory system must do for an operation, and no arithmetic beyond that. Each is
/// the sweeps over a row that its equations cannot do without, over the lanes of the kernels and at
/// the same ISA level. Results are of the right shape and size, and not of the right value.
///
///     run(Norm{x, y, affine, channels}, tokens)               rows one after the other
///     run<Stores::streaming>(…)                               results pass by the cache
///     run(…, tokens, executor)                                rows by several threads
#pragma once

#include <tokennorm/core/executor.hpp>
#include <tokennorm/kernels/simd/memory.hpp>

#include <type_traits>

namespace tokennorm::bench::floors {

enum class Stores { plain, streaming };

/// A vector of a row: where it stands, how it is read and written.
template <class A, int W, Stores stores>
struct Whole {
  Index c;

  template <class T>
  TOKENNORM_INLINE kernels::Lanes<A, W> load(const T* row) const {
    return kernels::load<A, W>(row + c);
  }
  template <class T>
  TOKENNORM_INLINE void store(T* row, const kernels::Lanes<A, W>& v) const {
    if constexpr (stores == Stores::streaming) {
      kernels::store_streaming(row + c, v);
    } else {
      kernels::store(row + c, v);
    }
  }
};

/// The first n lanes of one, at the end of a row.
template <class A, int W>
struct First {
  Index c, n;

  template <class T>
  TOKENNORM_INLINE kernels::Lanes<A, W> load(const T* row) const {
    return kernels::load_first<A, W>(row + c, n);
  }
  template <class T>
  TOKENNORM_INLINE void store(T* row, const kernels::Lanes<A, W>& v) const {
    kernels::store_first(row + c, v, n);
  }
};

/// Sweeps over the vectors of a row: `each(at, sum)`, with one of four running sums. They are what
/// a sweep that only reads leaves behind, so that it is not optimized away.
template <class Level, class A, Stores stores_>
class Sweep {
 public:
  static constexpr int width = Level::template lanes<A>;
  static constexpr Stores stores = stores_;
  using V = kernels::Lanes<A, width>;

  TOKENNORM_INLINE explicit Sweep(Index channels) : channels_(channels) {
    TOKENNORM_UNROLL
    for (int k = 0; k < chains; ++k) sums_[k] = V(A(0));
  }

  template <class Each>
  TOKENNORM_INLINE void operator()(const Each& each) {
    Index c = 0;
    for (; c + chains * width <= channels_; c += chains * width) {
      TOKENNORM_UNROLL
      for (int k = 0; k < chains; ++k) {
        each(Whole<A, width, stores>{c + k * width}, sums_[k]);
      }
    }
    for (; c + width <= channels_; c += width) each(Whole<A, width, stores>{c}, sums_[0]);
    if (c < channels_) each(First<A, width>{c, channels_ - c}, sums_[1]);
  }

  TOKENNORM_INLINE A total() const {
    return kernels::horizontal_sum((sums_[0] + sums_[1]) + (sums_[2] + sums_[3]));
  }

 private:
  static constexpr int chains = 4;
  Index channels_;
  V sums_[chains];
};

/// Something that the optimizer must take for read.
template <class A>
inline A seen = 0;

template <class A, Stores stores, class Rows>
struct Task {
  const Rows& rows;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const Rows local = rows;
    Sweep<Level, A, stores> sweep(local.channels);
    for (Index t = begin; t < end; ++t) local(sweep, t);
    const A total = sweep.total();
    if (total == A(1)) seen<A> = total;
  }
};

template <Stores stores = Stores::plain, class Rows, class Executor = const Serial&>
void run(const Rows& rows, Index tokens, Executor&& executor = serial) {
  using A = typename Rows::Accumulator;
  executor.parallel_for(tokens, tokennorm::detail::token_grain(rows.channels),
                        [&](Index begin, Index end) {
                          kernels::dispatch(Task<A, stores, Rows>{rows, begin, end});
                          if constexpr (stores == Stores::streaming) kernels::finish_streaming();
                        });
}

/// x·γ + β, without what is switched off.
template <class Param, bool has_scale, bool has_shift>
struct Affine {
  const Param* scale;
  const Param* shift;

  template <class At, class V>
  TOKENNORM_INLINE V operator()(const At& at, const V& x) const {
    if constexpr (has_scale && has_shift) {
      return kernels::multiply_add(x, at.load(scale), at.load(shift));
    } else if constexpr (has_scale) {
      return x * at.load(scale);
    } else {
      return x;
    }
  }
};

// ---- the floors ---------------------------------------------------------------------------------

/// y = norm(x)
template <class T, class Affine>
struct Norm {
  using Accumulator = tokennorm::Accumulator<T>;
  const T* x;
  T* y;
  Affine affine;
  Index channels;

  template <class Sweep>
  TOKENNORM_INLINE void operator()(Sweep& sweep, Index t) const {
    const T* from = x + t * channels;
    T* to = y + t * channels;
    sweep([&](const auto& at, auto& sum) __attribute__((always_inline)) { sum += at.load(from); });
    sweep([&](const auto& at, auto&)
              __attribute__((always_inline)) { at.store(to, affine(at, at.load(from))); });
  }
};

/// dx from x, dy and γ. The parameter gradients of several rows can be gathered before they touch
/// memory, and have no part in it.
template <class T, class Affine>
struct Backward {
  using Accumulator = tokennorm::Accumulator<T>;
  const T* x;
  const T* dy;
  T* dx;
  Affine affine;  // without shift
  Index channels;

  template <class Sweep>
  TOKENNORM_INLINE void operator()(Sweep& sweep, Index t) const {
    const T* xt = x + t * channels;
    const T* dyt = dy + t * channels;
    T* to = dx + t * channels;
    sweep([&](const auto& at, auto& sum) __attribute__((always_inline)) {
      sum = kernels::multiply_add(at.load(xt), at.load(dyt), sum);
    });
    sweep([&](const auto& at, auto&) __attribute__((always_inline)) {
      at.store(to, affine(at, at.load(dyt)) + at.load(xt));
    });
  }
};

/// h = residual + update, n = norm(h); h may be residual
template <class T, class Affine>
struct AddNorm {
  using Accumulator = tokennorm::Accumulator<T>;
  const T* residual;
  const T* update;
  T* h;
  T* n;
  Affine affine;
  Index channels;

  template <class Sweep>
  TOKENNORM_INLINE void operator()(Sweep& sweep, Index t) const {
    const T* a = residual + t * channels;
    const T* b = update + t * channels;
    T* sum_out = h + t * channels;
    T* to = n + t * channels;
    sweep([&](const auto& at, auto&)
              __attribute__((always_inline)) { at.store(sum_out, at.load(a) + at.load(b)); });
    sweep([&](const auto& at, auto&) __attribute__((always_inline)) {
      if constexpr (Sweep::stores == Stores::streaming) {  // the sum has left the cache
        at.store(to, affine(at, at.load(a) + at.load(b)));
      } else {
        at.store(to, affine(at, at.load(static_cast<const T*>(sum_out))));
      }
    });
  }
};

/// h = norm(residual + update), without the sum
template <class T, class Affine>
struct NormOfSum {
  using Accumulator = tokennorm::Accumulator<T>;
  const T* residual;
  const T* update;
  T* h;
  Affine affine;
  Index channels;

  template <class Sweep>
  TOKENNORM_INLINE void operator()(Sweep& sweep, Index t) const {
    const T* a = residual + t * channels;
    const T* b = update + t * channels;
    T* to = h + t * channels;
    sweep([&](const auto& at, auto& sum)
              __attribute__((always_inline)) { sum += at.load(a) + at.load(b); });
    sweep([&](const auto& at, auto&) __attribute__((always_inline)) {
      at.store(to, affine(at, at.load(a) + at.load(b)));
    });
  }
};

/// h = residual + norm(update)
template <class T, class Affine>
struct AddNormed {
  using Accumulator = tokennorm::Accumulator<T>;
  const T* residual;
  const T* update;
  T* h;
  Affine affine;
  Index channels;

  template <class Sweep>
  TOKENNORM_INLINE void operator()(Sweep& sweep, Index t) const {
    const T* a = residual + t * channels;
    const T* b = update + t * channels;
    T* to = h + t * channels;
    sweep([&](const auto& at, auto& sum) __attribute__((always_inline)) { sum += at.load(b); });
    sweep([&](const auto& at, auto&) __attribute__((always_inline)) {
      at.store(to, at.load(a) + affine(at, at.load(b)));
    });
  }
};

/// h = residual + norm(update), n = next(h)
template <class T, class Affine>
struct AddNormedNorm {
  using Accumulator = tokennorm::Accumulator<T>;
  AddNormed<T, Affine> add;
  T* n;
  Affine next;
  Index channels = add.channels;

  template <class Sweep>
  TOKENNORM_INLINE void operator()(Sweep& sweep, Index t) const {
    add(sweep, t);
    const T* h = add.h + t * channels;
    T* to = n + t * channels;
    sweep([&](const auto& at, auto&)
              __attribute__((always_inline)) { at.store(to, next(at, at.load(h))); });
  }
};

/// h = residual + update
template <class T>
struct Add {
  using Accumulator = tokennorm::Accumulator<T>;
  const T* residual;
  const T* update;
  T* h;
  Index channels;

  template <class Sweep>
  TOKENNORM_INLINE void operator()(Sweep& sweep, Index t) const {
    const T* a = residual + t * channels;
    const T* b = update + t * channels;
    T* to = h + t * channels;
    sweep([&](const auto& at, auto&)
              __attribute__((always_inline)) { at.store(to, at.load(a) + at.load(b)); });
  }
};

/// h = residual + update + second
template <class T>
struct AddTwo {
  using Accumulator = tokennorm::Accumulator<T>;
  const T* residual;
  const T* update;
  const T* second;
  T* h;
  Index channels;

  template <class Sweep>
  TOKENNORM_INLINE void operator()(Sweep& sweep, Index t) const {
    const T* a = residual + t * channels;
    const T* b = update + t * channels;
    const T* c = second + t * channels;
    T* to = h + t * channels;
    sweep([&](const auto& at, auto&) __attribute__((always_inline)) {
      at.store(to, at.load(a) + at.load(b) + at.load(c));
    });
  }
};

/// y = x, for outputs beyond the caches; with streaming stores against std::memcpy.
template <class T>
struct Copy {
  using Accumulator = tokennorm::Accumulator<T>;
  const T* x;
  T* y;
  Index channels;

  template <class Sweep>
  TOKENNORM_INLINE void operator()(Sweep& sweep, Index t) const {
    const T* from = x + t * channels;
    T* to = y + t * channels;
    sweep([&](const auto& at, auto&)
              __attribute__((always_inline)) { at.store(to, at.load(from)); });
  }
};

// ---- column-major -------------------------------------------------------------------------------

/// y = norm(x) of tokens whose channels are `tokens` apart: tokens in lanes, four vectors of them
/// at a time.
template <class T, class Param>
struct ColumnMajorNorm {
  const T* x;
  T* y;
  const Param* scale;
  const Param* shift;
  Index tokens, channels;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using A = Accumulator<T>;
    using Group = Sweep<Level, A, Stores::plain>;
    using V = typename Group::V;
    constexpr Index group = 4 * Group::width;
    for (Index t = 0; t < tokens; t += group) {
      Group sweep(tokens - t < group ? tokens - t : group);
      for (Index c = 0; c < channels; ++c) {
        const T* from = x + c * tokens + t;
        sweep([&](const auto& at, auto& sum)
                  __attribute__((always_inline)) { sum += at.load(from); });
      }
      for (Index c = 0; c < channels; ++c) {
        const T* from = x + c * tokens + t;
        T* to = y + c * tokens + t;
        const V factor(static_cast<A>(scale[c])), offset(static_cast<A>(shift[c]));
        sweep([&](const auto& at, auto&) __attribute__((always_inline)) {
          at.store(to, kernels::multiply_add(at.load(from), factor, offset));
        });
      }
      const A total = sweep.total();
      if (total == A(1)) seen<A> = total;
    }
  }
};

}  // namespace tokennorm::bench::floors
