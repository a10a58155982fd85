// SPDX-License-Identifier: MIT
/// The kernels of float, compiled once for a program instead of in each of its units.
///
///     target_link_libraries(app PRIVATE tokennorm::compiled_kernels)
///
/// or, without CMake, a unit kernels.cpp of two lines, and one more flag for the others:
///
///     #define TOKENNORM_DEFINE_KERNELS
///     #include <tokennorm/kernels/compiled.hpp>
///
///     c++ -std=c++20 -O2 -c kernels.cpp
///     c++ -std=c++20 -O2 -DTOKENNORM_COMPILED_KERNELS -c app.cpp
///
/// The others then leave to the linker what stands below: what LayerNorm and RMSNorm of float call
/// on matrices of dynamic size, and their placements, in inference and in training. The rest they
/// compile for themselves as ever: other scalars, a compile-time number of channels.
///
/// So does a unit built with flags that change the kernels: -march or -mavx for AVX and above,
/// -ffast-math, TOKENNORM_MAX_ISA. The compiled ones are those of a plain build: they choose the
/// instruction set when they run.
#pragma once

#include "tokennorm/kernels/backward_columns.hpp"
#include "tokennorm/kernels/backward_rows.hpp"
#include "tokennorm/kernels/channel_sums.hpp"
#include "tokennorm/kernels/forward_columns.hpp"
#include "tokennorm/kernels/forward.hpp"

#include <cstddef>
#include <type_traits>

#if !defined(__FAST_MATH__) && !defined(__AVX__) && TOKENNORM_MAX_ISA == 2
#define TOKENNORM_PLAIN_BUILD 1
#else
#define TOKENNORM_PLAIN_BUILD 0
#endif

#if defined(TOKENNORM_DEFINE_KERNELS) && !TOKENNORM_PLAIN_BUILD
#error "tokennorm: compiled kernels are built without -mavx, -march, -ffast-math, TOKENNORM_MAX_ISA"
#endif

#if defined(TOKENNORM_DEFINE_KERNELS) || \
    (defined(TOKENNORM_COMPILED_KERNELS) && TOKENNORM_PLAIN_BUILD)

#if defined(TOKENNORM_DEFINE_KERNELS)
#define TOKENNORM_COMPILED template
#else
#define TOKENNORM_COMPILED extern template
#endif

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

static_assert(std::is_same_v<Index, std::ptrdiff_t>,
              "tokennorm: compiled kernels take Eigen's own index type; leave "
              "EIGEN_DEFAULT_DENSE_INDEX_TYPE undefined, or TOKENNORM_COMPILED_KERNELS.");

namespace compiled {

using Read = TokenView<const float>;
using Written = TokenView<float>;
using Sum = SumOfViews<float>;

template <class DY, class DSum, bool Centred>
using Gradient = Backward<float, Eigen::Dynamic, Read, DY, DSum, Written,
                          NormArguments<Centred, float, const float>>;

template <bool Centred>
struct Steps {
  using Normalize = Forward<Centred, float, float, float, float, float, float, float>;

  using Backpropagate = Gradient<Read, Absent, Centred>;
  using BackpropagateSum = Gradient<Read, Read, Centred>;
  using BackpropagateOfSum = Gradient<Sum, Absent, Centred>;
  using Saved = NormArguments<Centred, float, const float>;
};
using LayerNormSteps = Steps<true>;
using RMSNormSteps = Steps<false>;

}  // namespace compiled

#define TOKENNORM_KERNEL(run, step) \
  TOKENNORM_COMPILED void run(const compiled::step&, Index, Index) noexcept;
#define TOKENNORM_PRECISE_SUMS(Steps, DY)                                                         \
  TOKENNORM_COMPILED void take_precise_sums(const compiled::Read&, const compiled::DY&,           \
                                            const compiled::Steps::Saved&, Index, Index, double*, \
                                            double*, bool) noexcept;
#define TOKENNORM_KERNELS(Steps)                                 \
  TOKENNORM_PRECISE_SUMS(Steps, Read)                            \
  TOKENNORM_PRECISE_SUMS(Steps, Sum)                             \
  TOKENNORM_KERNEL(normalize_rows, Steps::Normalize)             \
  TOKENNORM_KERNEL(run_backward_rows, Steps::Backpropagate)      \
  TOKENNORM_KERNEL(run_backward_rows, Steps::BackpropagateSum)   \
  TOKENNORM_KERNEL(run_backward_rows, Steps::BackpropagateOfSum) \
  TOKENNORM_KERNEL(normalize_columns, Steps::Normalize)          \
  TOKENNORM_KERNEL(run_backward_columns, Steps::Backpropagate)   \
  TOKENNORM_KERNEL(run_backward_columns, Steps::BackpropagateSum)

TOKENNORM_COMPILED void add_rows(const compiled::Read&, const compiled::Read&, float,
                                 const compiled::Written&, Index, Index) noexcept;
TOKENNORM_KERNELS(LayerNormSteps)
TOKENNORM_KERNELS(RMSNormSteps)
TOKENNORM_COMPILED void dispatch(const AddPartialsTask<float, float>&) noexcept;

#undef TOKENNORM_KERNELS
#undef TOKENNORM_PRECISE_SUMS
#undef TOKENNORM_KERNEL
#undef TOKENNORM_COMPILED

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH

#endif

#undef TOKENNORM_PLAIN_BUILD
