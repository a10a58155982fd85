// SPDX-License-Identifier: MIT
// The result is gone with the matrix that it was written to.
// EXPECT: tokennorm: an output is a temporary matrix, array or vector
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

#include <utility>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
  Eigen::MatrixXf y, sum;
  using Tokens = tokennorm::TokenMatrix<float>;
  const tokennorm::PreLNResidual block(norm, [](const Tokens& n) -> Tokens { return n; });
#ifdef FIXED
  block(x, y);
#else
  block(x, Eigen::MatrixXf(4, 8));
#endif
}
