// SPDX-License-Identifier: MIT
// A sublayer that takes its output, column-major, by reference to const.
// EXPECT: tokennorm: a sublayer takes its second argument by value or const&
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

struct Sublayer {
#ifdef FIXED
  void operator()(const Tokens& x, Tokens& y) const { y = 2 * x; }
#else
  void operator()(const Tokens& x, const Eigen::MatrixXf& y) const {
    const_cast<Eigen::MatrixXf&>(y) = 2 * x;
  }
#endif
};

int main() {
  const auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), Sublayer{});
  const Tokens x = Tokens::Ones(4, 8);
  const Tokens y = block(x);
  return y.rows() == 4 ? 0 : 1;
}
