// SPDX-License-Identifier: MIT
// A sublayer whose forward returns double where the parameters are float.
// EXPECT: tokennorm: a sublayer returns tokens of another scalar
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

struct Sublayer {
#ifdef FIXED
  Tokens forward(const Tokens& x) { return x; }
  Tokens backward(const Tokens& dy) { return dy; }
#else
  Eigen::MatrixXd forward(const Tokens& x) { return x.cast<double>(); }
  Tokens backward(const Tokens& dy) { return dy; }
#endif
};

int main() {
  auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), Sublayer{});
  const Tokens x = Tokens::Ones(4, 8);
  block.forward(x);
}
