// SPDX-License-Identifier: MIT
// The bodies of NormCalls and SumCalls, for compiled_norm_*.cpp, which instantiate them.
#pragma once

#include "compiled_norm.hpp"

namespace tokennorm::test {

template <class TypedCase, int Order>
void NormCalls<TypedCase, Order>::infer(const Norm& norm, In x, Out y,
                                        const TestExecutor* executor) {
  if (executor != nullptr)
    norm(x, y, *executor);
  else
    norm(x, y);
}

template <class TypedCase, int Order>
void NormCalls<TypedCase, Order>::normalize(const Norm& norm, In x, Out y, Statistics& stats,
                                            const TestExecutor* executor) {
  if (executor != nullptr)
    norm.normalize(x, y, stats, *executor);
  else
    norm.normalize(x, y, stats);
}

template <class TypedCase, int Order>
void NormCalls<TypedCase, Order>::backpropagate(const Norm& norm, In x, const Statistics& stats,
                                                In dy, Out dx, Gradients& g,
                                                const TestExecutor* executor) {
  if (executor != nullptr)
    norm.backpropagate(x, stats, dy, dx, g, *executor);
  else
    norm.backpropagate(x, stats, dy, dx, g);
}

template <class TypedCase, int Order>
void SumCalls<TypedCase, Order>::normalize_sum(const Norm& norm, In residual, In update, Out sum,
                                               Out y, Statistics* stats,
                                               const TestExecutor* executor) {
  if (stats != nullptr && executor != nullptr)
    norm.normalize_sum(residual, update, sum, y, *stats, *executor);
  else if (stats != nullptr)
    norm.normalize_sum(residual, update, sum, y, *stats);
  else if (executor != nullptr)
    norm.normalize_sum(residual, update, sum, y, *executor);
  else
    norm.normalize_sum(residual, update, sum, y);
}

template <class TypedCase, int Order>
void SumCalls<TypedCase, Order>::normalize_unstored_sum(const Norm& norm, In residual, In update,
                                                        Out y, Statistics* stats,
                                                        const TestExecutor* executor) {
  if (stats != nullptr && executor != nullptr)
    norm.normalize_sum(residual, update, y, *stats, *executor);
  else if (stats != nullptr)
    norm.normalize_sum(residual, update, y, *stats);
  else if (executor != nullptr)
    norm.normalize_sum(residual, update, y, *executor);
  else
    norm.normalize_sum(residual, update, y);
}

template <class TypedCase, int Order>
void SumCalls<TypedCase, Order>::backpropagate_sum(const Norm& norm, In sum,
                                                   const Statistics& stats, In dy, In dsum, Out dx,
                                                   Gradients& g, const TestExecutor* executor) {
  if (executor != nullptr)
    norm.backpropagate_sum(sum, stats, dy, dsum, dx, g, *executor);
  else
    norm.backpropagate_sum(sum, stats, dy, dsum, dx, g);
}

}  // namespace tokennorm::test
