// SPDX-License-Identifier: MIT
// A variable that is given away.
// EXPECT: tokennorm: an output is a temporary matrix, array or vector
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

#include <utility>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
  Eigen::MatrixXf y, sum;
#ifdef FIXED
  norm(x, y, tokennorm::serial);
#else
  norm(x, std::move(y), tokennorm::serial);
#endif
}
