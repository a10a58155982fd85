// SPDX-License-Identifier: MIT
/// Softmax cross-entropy, the mean over the tokens, in nats:
///
///     loss = 1/T·Σₜ (log Σⱼ exp(zₜⱼ) − zₜ,targetₜ)
///     dz   = (softmax(z) − onehot(target)) / T
///
/// Shapes     z = logits, dz (T, vocabulary) · targets (T)
/// Rounding   the largest logit of each row is subtracted first, so that no exponential overflows;
///            the sum over tokens runs in double (or wider)
#pragma once

#include "parameters.hpp"

#include <cmath>
#include <span>
#include <type_traits>

namespace gpt {

template <class Scalar>
using Loss = std::common_type_t<Scalar, double>;

/// The loss; `logits` become its gradient. Both are multiplied by `share`: what these tokens are of
/// all whose mean is taken.
template <class Scalar>
Loss<Scalar> cross_entropy_into_gradient(TokenMatrix<Scalar>& logits, std::span<const int> targets,
                                         Scalar share = 1) {
  const Scalar one_token = share / static_cast<Scalar>(logits.rows());
  Loss<Scalar> sum = 0;
  for (Index t = 0; t < logits.rows(); ++t) {
    auto z = logits.row(t).array();
    const Index target = targets[static_cast<std::size_t>(t)];
    z -= z.maxCoeff();
    const Scalar target_logit = z(target);
    z = z.exp();
    const Scalar total = z.sum();
    sum += Loss<Scalar>(std::log(total) - target_logit);
    z *= one_token / total;
    z(target) -= one_token;
  }
  return sum * Loss<Scalar>(share) / static_cast<Loss<Scalar>>(logits.rows());
}

/// The loss alone.
template <class Scalar>
Loss<Scalar> cross_entropy(const TokenMatrix<Scalar>& logits, std::span<const int> targets) {
  Loss<Scalar> sum = 0;
  for (Index t = 0; t < logits.rows(); ++t) {
    const auto z = logits.row(t).array();
    const Scalar largest = z.maxCoeff();
    const Scalar target_logit = z(static_cast<Index>(targets[static_cast<std::size_t>(t)]));
    sum += Loss<Scalar>(std::log((z - largest).exp().sum()) + largest - target_logit);
  }
  return sum / static_cast<Loss<Scalar>>(logits.rows());
}

}  // namespace gpt
