// SPDX-License-Identifier: MIT
// Calls of norms from a unit that is compiled with -ffast-math, as some users' units are. Nothing
// else is in that unit: the tests' own arithmetic must stay exact.
#pragma once

#include <tokennorm/tokennorm.hpp>

namespace tokennorm::test {

template <class Scalar>
struct FastMathStep {
  TokenMatrix<Scalar> y, dx;
  TokenStatistics<Scalar> stats;
  NormGradients<Scalar> gradients;
};

FastMathStep<float> fast_math_step(const LayerNorm<float>& norm, const TokenMatrix<float>& x,
                                   const TokenMatrix<float>& dy);
FastMathStep<double> fast_math_step(const LayerNorm<double>& norm, const TokenMatrix<double>& x,
                                    const TokenMatrix<double>& dy);

}  // namespace tokennorm::test
