// SPDX-License-Identifier: MIT
// A sublayer that returns a column vector.
// EXPECT: tokennorm: a sublayer returns a column vector
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

struct Sublayer {
#ifdef FIXED
  Eigen::RowVectorXf operator()(const Tokens& x) const { return x.row(0); }
#else
  Eigen::VectorXf operator()(const Tokens& x) const { return x.row(0).transpose(); }
#endif
};

int main() {
  const auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), Sublayer{});
  const Tokens x = Tokens::Ones(4, 8);
  const Tokens y = block(x);
  return y.rows() == 4 ? 0 : 1;
}
