// SPDX-License-Identifier: MIT
// A tensor that does not tell tokens from channels.
// EXPECT: tokennorm: tokens(tensor) is given a tensor of rank 0 or 1
#include <tokennorm/adapters/eigen_tensor.hpp>

int main() {
#ifdef FIXED
  Eigen::Tensor<float, 2, Eigen::RowMajor> tensor(1, 4);
#else
  Eigen::Tensor<float, 1, Eigen::RowMajor> tensor(4);
#endif
  return tokennorm::tokens(tensor).rows() == 1 ? 0 : 1;
}
