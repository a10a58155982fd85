// SPDX-License-Identifier: MIT
/// Causal attention of one head:  A = softmax(s·Q·Kᵀ),  O = A·V,  where no token sees a later one.
///
/// Shapes     Q, O (T, D) · K, V (n, D) · A (T, n); the tokens of Q are the last T of the n, so
///            that token i sees the tokens j ≤ n − T + i
/// Source     Vaswani et al. 2017, arXiv:1706.03762, eq. 1
#pragma once

#include <Eigen/Core>

namespace examples {

/// Each row becomes the softmax of its elements up to its own token, and zero after them; the last
/// row is of the last token. The exponential is taken of whole rows, which vectorize better, and
/// what it made of the future is discarded.
template <class Scores>
void causal_softmax(Scores&& scores) {
  for (Eigen::Index i = 0; i < scores.rows(); ++i) {
    const Eigen::Index future = scores.rows() - 1 - i;
    auto row = scores.row(i).array();
    row = (row - row.head(row.size() - future).maxCoeff()).exp();
    row.tail(future).setZero();
    row /= row.sum();
  }
}

/// Leaves A in `a`, O in `out`.
void attend(const auto& q, const auto& k, const auto& v, auto score_scale, auto&& a, auto&& out) {
  a.noalias() = score_scale * q * k.transpose();
  causal_softmax(a);
  out.noalias() = a * v;
}

}  // namespace examples
