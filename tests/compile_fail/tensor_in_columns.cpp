// SPDX-License-Identifier: MIT
// A tensor of Eigen's default order, in which channels are not contiguous.
// EXPECT: tokennorm: tokens(tensor) is given a column-major tensor
#include <tokennorm/adapters/eigen_tensor.hpp>

int main() {
#ifdef FIXED
  Eigen::Tensor<float, 3, Eigen::RowMajor> tensor(2, 3, 4);
#else
  Eigen::Tensor<float, 3> tensor(2, 3, 4);
#endif
  return tokennorm::tokens(tensor).rows() == 6 ? 0 : 1;
}
