// SPDX-License-Identifier: MIT
// A sum of tensors, which is not in memory, and a view of a temporary.
// EXPECT: tokennorm: tokens(tensor) is given an expression, which has no memory to view
// EXPECT: tokennorm: tokens(tensor) is given a temporary
#include <tokennorm/adapters/eigen_tensor.hpp>

int main() {
  using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  const Tensor a(2, 3, 4);
#ifdef FIXED
  const Tensor sum = a + a;
  return tokennorm::tokens(sum).rows() == 6 ? 0 : 1;
#else
  tokennorm::tokens(Tensor(2, 3, 4));
  tokennorm::tokens(a + a);
#endif
}
