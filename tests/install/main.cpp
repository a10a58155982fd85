// SPDX-License-Identifier: MIT
// A user's program of two units. It prints the version it was built with, and fails where a norm
// does not do what it should.
#include <tokennorm/tokennorm.hpp>

#include <cmath>
#include <cstdio>

tokennorm::TokenMatrix<float> normalized_in_other_unit(const tokennorm::TokenMatrix<float>& x);

int main() {
  tokennorm::TokenMatrix<float> x(2, 4);
  x << 1, 2, 3, 4,  //
      -5, 0, 5, 10;
  const tokennorm::TokenMatrix<float> y = tokennorm::LayerNorm<float>(4)(x);
  const bool right = y == normalized_in_other_unit(x) && std::abs(y.row(0).sum()) < 1e-6f &&
                     std::abs(y.row(0).squaredNorm() - 4) < 1e-4f;
  std::printf("tokennorm %d.%d.%d: %s\n", TOKENNORM_VERSION_MAJOR, TOKENNORM_VERSION_MINOR,
              TOKENNORM_VERSION_PATCH, right ? "right" : "wrong");
  return right ? 0 : 1;
}
