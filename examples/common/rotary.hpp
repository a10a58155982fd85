// SPDX-License-Identifier: MIT
/// Rotary positions: pair i of a head's channels, (2i, 2i + 1), turns by φ = p·base^(−2i/D) at
/// position p:
///
///     (a, b) ← (a·cos φ − b·sin φ, a·sin φ + b·cos φ)
///
/// Shapes     cos φ, sin φ (context, D / 2), the same for every head and block
/// Backward   (da, db) turn by −φ
/// Source     Su et al. 2021, arXiv:2104.09864, eq. 34
#pragma once

#include <Eigen/Core>

#include <cmath>

namespace examples {

template <class Scalar>
class Rotations {
  using Index = Eigen::Index;
  using Table = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

 public:
  Rotations(Index context, Index head_channels, double base)
      : cos_(context, head_channels / 2), sin_(context, head_channels / 2) {
    for (Index p = 0; p < context; ++p) {
      for (Index i = 0; i < cos_.cols(); ++i) {
        const double exponent = -2 * static_cast<double>(i) / static_cast<double>(head_channels);
        const double angle = static_cast<double>(p) * std::pow(base, exponent);
        cos_(p, i) = static_cast<Scalar>(std::cos(angle));
        sin_(p, i) = static_cast<Scalar>(std::sin(angle));
      }
    }
  }

  /// All heads of a row of q or k; backwards where `direction` is −1.
  void rotate(Index position, auto&& heads, Scalar direction = 1) const {
    for (Index c = 0; c < heads.size(); c += 2) {
      const Index i = c / 2 % cos_.cols();
      const Scalar cos = cos_(position, i), sin = direction * sin_(position, i);
      const Scalar a = heads(c), b = heads(c + 1);
      heads(c) = a * cos - b * sin;
      heads(c + 1) = a * sin + b * cos;
    }
  }

 private:
  Table cos_, sin_;
};

/// The rows of q or k, where those of a pair are i and D / 2 + i of a head, as Hugging Face's files
/// have them, in the order of here.
template <class Matrix>
Matrix pairs_side_by_side(const Matrix& rows, Eigen::Index head_channels) {
  Matrix result(rows.rows(), rows.cols());
  for (Eigen::Index row = 0; row < rows.rows(); ++row) {
    const Eigen::Index in_head = row % head_channels, half = head_channels / 2;
    result.row(row - in_head + in_head % half * 2 + in_head / half) = rows.row(row);
  }
  return result;
}

}  // namespace examples
