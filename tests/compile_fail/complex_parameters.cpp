// SPDX-License-Identifier: MIT
// The parameters of a norm are complex.
// EXPECT: tokennorm: a norm's parameters must be real and not integers
#include <tokennorm/tokennorm.hpp>

#include <complex>

int main() {
#ifdef FIXED
  const tokennorm::RMSNorm<double> norm(8);
#else
  const tokennorm::RMSNorm<std::complex<double>> norm(8);
#endif
  return norm.channels() == 8 ? 0 : 1;
}
