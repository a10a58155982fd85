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
#include "tokennorm/kernels/forward_rows.hpp"

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

template <class Update, class Summed, class Streamed, class Normed, class Post, class Out,
          class Pre>
using Step =
    ResidualStep<float, Eigen::Dynamic, Read, Update, Summed, Streamed, Normed, Post, Out, Pre>;
template <bool Centred>
using Gradient = Backward<Centred, float, float, float, float, float, float>;

using Add = Step<Read, Written, Absent, Absent, Absent, Absent, Absent>;

/// The steps with one norm, of which those with several are made.
template <bool Centred>
struct Steps {
  using Norm = NormArguments<Centred, float, float>;
  using Unstored = NotStored<float>;

  using Added = AddedView<float, float, float, float>;

  using Normalize = Step<Absent, Absent, Absent, Written, Absent, Absent, Norm>;
  using NormalizeAdd = Step<Absent, Absent, Absent, Added, Absent, Absent, Norm>;
  using AddNormalize = Step<Read, Written, Absent, Written, Absent, Absent, Norm>;
  using AddUnstoredNormalize = Step<Read, Unstored, Absent, Written, Absent, Absent, Norm>;

  using Backpropagate = Gradient<Centred>;
};
using LayerNormSteps = Steps<true>;
using RMSNormSteps = Steps<false>;

}  // namespace compiled

#define TOKENNORM_KERNEL(run, step) \
  TOKENNORM_COMPILED void run(const compiled::step&, Index, Index) noexcept;
#define TOKENNORM_PRECISE_SUMS(step)                                                       \
  TOKENNORM_COMPILED void backward::take_precise_sums(const compiled::step&, Index, Index, \
                                                      double*, double*, bool) noexcept;
#define TOKENNORM_KERNELS(Steps)                             \
  TOKENNORM_PRECISE_SUMS(Steps::Backpropagate)               \
  TOKENNORM_KERNEL(run_rows, Steps::Normalize)               \
  TOKENNORM_KERNEL(run_rows, Steps::NormalizeAdd)            \
  TOKENNORM_KERNEL(run_rows, Steps::AddNormalize)            \
  TOKENNORM_KERNEL(run_rows, Steps::AddUnstoredNormalize)    \
  TOKENNORM_KERNEL(run_backward_rows, Steps::Backpropagate)  \
  TOKENNORM_KERNEL(run_columns, Steps::Normalize)            \
  TOKENNORM_KERNEL(run_columns, Steps::AddNormalize)         \
  TOKENNORM_KERNEL(run_columns, Steps::AddUnstoredNormalize) \
  TOKENNORM_KERNEL(run_backward_columns, Steps::Backpropagate)

TOKENNORM_KERNEL(run_rows, Add)
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
