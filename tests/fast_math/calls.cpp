// SPDX-License-Identifier: MIT
// Compiled with -ffast-math: see CMakeLists.txt.
#include "calls.hpp"

#ifndef __FAST_MATH__
#error "this unit is to be compiled with -ffast-math"
#endif

namespace tokennorm::test {
namespace {

template <class Scalar>
FastMathStep<Scalar> step(const LayerNorm<Scalar>& norm, const TokenMatrix<Scalar>& x,
                          const TokenMatrix<Scalar>& dy) {
  FastMathStep<Scalar> result;
  norm.normalize(x, result.y, result.stats);
  norm.backpropagate(x, result.stats, dy, result.dx, result.gradients);
  return result;
}

}  // namespace

FastMathStep<float> fast_math_step(const LayerNorm<float>& norm, const TokenMatrix<float>& x,
                                   const TokenMatrix<float>& dy) {
  return step(norm, x, dy);
}
FastMathStep<double> fast_math_step(const LayerNorm<double>& norm, const TokenMatrix<double>& x,
                                    const TokenMatrix<double>& dy) {
  return step(norm, x, dy);
}

}  // namespace tokennorm::test
