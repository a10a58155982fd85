// SPDX-License-Identifier: MIT
/// The kernels compiled once for a program, instead of in each of its units.
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
/// on tokens of float, and their placements, in inference and in training. The rest they compile
/// for themselves as ever: mixed scalars.
///
/// More scalars are one flag each, in all units, kernels.cpp too: TOKENNORM_COMPILED_BFLOAT16,
/// TOKENNORM_COMPILED_HALF, TOKENNORM_COMPILED_DOUBLE.
///
/// A unit built with flags that change the kernels compiles its own too: -march or -mavx for AVX
/// and above, -ffast-math, TOKENNORM_MAX_ISA. The compiled ones are those of a plain build: they
/// choose the instruction set when they run. (Unless TOKENNORM_COMPILED_MAX_ISA says that they,
/// too, have this TOKENNORM_MAX_ISA, in all units.)
#pragma once

#include "tokennorm/kernels/backward/channel_sums.hpp"
#include "tokennorm/kernels/backward/rows.hpp"
#include "tokennorm/kernels/forward/rows.hpp"
#include "tokennorm/kernels/strided/backward.hpp"
#include "tokennorm/kernels/strided/forward.hpp"

#include <cstddef>
#include <type_traits>

#ifndef TOKENNORM_COMPILED_MAX_ISA
#define TOKENNORM_COMPILED_MAX_ISA 2
#endif
#if !defined(__FAST_MATH__) && !defined(__AVX__) && TOKENNORM_MAX_ISA == TOKENNORM_COMPILED_MAX_ISA
#define TOKENNORM_PLAIN_BUILD 1
#else
#define TOKENNORM_PLAIN_BUILD 0
#endif

#if defined(TOKENNORM_DEFINE_KERNELS)
#if !TOKENNORM_PLAIN_BUILD
#error "tokennorm: compiled kernels are built without -mavx, -march, -ffast-math, TOKENNORM_MAX_ISA"
#endif
#define TOKENNORM_COMPILED template
#else
#define TOKENNORM_COMPILED extern template
#endif

#if !defined(TOKENNORM_COMPILED_FLOAT) && \
    (defined(TOKENNORM_DEFINE_KERNELS) || defined(TOKENNORM_COMPILED_KERNELS))
#define TOKENNORM_COMPILED_FLOAT
#endif

#if TOKENNORM_PLAIN_BUILD &&                                                      \
    (defined(TOKENNORM_COMPILED_FLOAT) || defined(TOKENNORM_COMPILED_BFLOAT16) || \
     defined(TOKENNORM_COMPILED_HALF) || defined(TOKENNORM_COMPILED_DOUBLE))

TOKENNORM_BEGIN_KERNELS

static_assert(std::is_same_v<Index, std::ptrdiff_t>,
              "tokennorm: compiled kernels take Eigen's own index type; leave "
              "EIGEN_DEFAULT_DENSE_INDEX_TYPE undefined, or TOKENNORM_COMPILED_KERNELS.");

namespace compiled {

/// What kernels are given where tokens and parameters are of one scalar.
template <class Scalar, bool Centred>
struct Calls {
  using A = Accumulator<Scalar>;
  using Forward = kernels::Forward<Centred, A, Scalar, Scalar, Scalar, Scalar, Scalar, A>;
  using Backward = kernels::Backward<Centred, A, Scalar, Scalar, Scalar, Scalar, A>;
};
template <class Scalar>
using LayerNorm = Calls<Scalar, true>;
template <class Scalar>
using RMSNorm = Calls<Scalar, false>;

}  // namespace compiled

// The lists, each of which is a unit of tokennorm::compiled_kernels: see
// cmake/compiled_kernels.cmake.
#define TOKENNORM_KERNEL(run, Call) \
  TOKENNORM_COMPILED void run(const compiled::Call&, Index, Index) noexcept;

#define TOKENNORM_FORWARD_KERNELS(Norm, Scalar)           \
  TOKENNORM_KERNEL(normalize_rows, Norm<Scalar>::Forward) \
  TOKENNORM_KERNEL(normalize_strided, Norm<Scalar>::Forward)

#define TOKENNORM_BACKWARD_KERNELS(Norm, Scalar)              \
  TOKENNORM_KERNEL(run_backward_rows, Norm<Scalar>::Backward) \
  TOKENNORM_KERNEL(run_backward_columns, Norm<Scalar>::Backward)

// What is left, and small: sums without a norm; where the arithmetic is float, gradients whose sums
// float does not hold; and for each type of arithmetic, partial sums of gradients.
#define TOKENNORM_SUM_KERNELS(Scalar)                                                              \
  TOKENNORM_COMPILED void add_rows(const TokenView<const Scalar>&, const TokenView<const Scalar>&, \
                                   compiled::Calls<Scalar, true>::A,                               \
                                   const Factors<compiled::Calls<Scalar, true>::A>&,               \
                                   const TokenView<Scalar>&, Index, Index) noexcept;

#define TOKENNORM_PRECISE_SUMS(Call)                                                       \
  TOKENNORM_COMPILED void backward::take_precise_sums(const compiled::Call&, Index, Index, \
                                                      double*, double*, bool) noexcept;
#define TOKENNORM_PRECISE_KERNELS(Scalar)             \
  TOKENNORM_PRECISE_SUMS(LayerNorm<Scalar>::Backward) \
  TOKENNORM_PRECISE_SUMS(RMSNorm<Scalar>::Backward)

#define TOKENNORM_GRADIENT_KERNELS(A) \
  TOKENNORM_COMPILED void dispatch(const AddPartialsTask<A, A>&) noexcept;

#define TOKENNORM_KERNELS(Scalar)               \
  TOKENNORM_SUM_KERNELS(Scalar)                 \
  TOKENNORM_FORWARD_KERNELS(LayerNorm, Scalar)  \
  TOKENNORM_FORWARD_KERNELS(RMSNorm, Scalar)    \
  TOKENNORM_BACKWARD_KERNELS(LayerNorm, Scalar) \
  TOKENNORM_BACKWARD_KERNELS(RMSNorm, Scalar)

#if defined(TOKENNORM_DEFINE_ONLY)
TOKENNORM_DEFINE_ONLY
#else
#if defined(TOKENNORM_COMPILED_FLOAT)
TOKENNORM_KERNELS(float)
TOKENNORM_PRECISE_KERNELS(float)
#endif
#if defined(TOKENNORM_COMPILED_BFLOAT16)
TOKENNORM_KERNELS(Eigen::bfloat16)
TOKENNORM_PRECISE_KERNELS(Eigen::bfloat16)
#endif
#if defined(TOKENNORM_COMPILED_HALF)
TOKENNORM_KERNELS(Eigen::half)
TOKENNORM_PRECISE_KERNELS(Eigen::half)
#endif
#if defined(TOKENNORM_COMPILED_FLOAT) || defined(TOKENNORM_COMPILED_BFLOAT16) || \
    defined(TOKENNORM_COMPILED_HALF)
TOKENNORM_GRADIENT_KERNELS(float)
#endif
#if defined(TOKENNORM_COMPILED_DOUBLE)
TOKENNORM_KERNELS(double)
TOKENNORM_GRADIENT_KERNELS(double)
#endif
#endif

#undef TOKENNORM_KERNELS
#undef TOKENNORM_GRADIENT_KERNELS
#undef TOKENNORM_PRECISE_KERNELS
#undef TOKENNORM_PRECISE_SUMS
#undef TOKENNORM_SUM_KERNELS
#undef TOKENNORM_BACKWARD_KERNELS
#undef TOKENNORM_FORWARD_KERNELS
#undef TOKENNORM_KERNEL

TOKENNORM_END_KERNELS

#endif

#undef TOKENNORM_COMPILED
#undef TOKENNORM_PLAIN_BUILD
