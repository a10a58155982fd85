// SPDX-License-Identifier: MIT
// A token of eight channels, given to a norm of sixteen.
// EXPECT: tokennorm: an operand's number of columns, known at compile time, differs
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::RMSNorm<float, 16> norm;
#ifdef FIXED
  const Eigen::Vector<float, 16> x = Eigen::Vector<float, 16>::Ones();
#else
  const Eigen::Vector<float, 8> x = Eigen::Vector<float, 8>::Ones();
#endif
  return norm(x).size() == 16 ? 0 : 1;
}
